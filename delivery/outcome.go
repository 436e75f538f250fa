package delivery

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/queue"
)

// Outcome is what came of an attempt: the one closed set that decides what is settled, and that metrics and logs name.
type Outcome string

// The outcomes.
const (
	OutcomeDelivered      Outcome = "delivered"
	OutcomeGone           Outcome = "gone"
	OutcomeRedirected     Outcome = "redirected"
	OutcomeRejected       Outcome = "rejected"
	OutcomeUnauthorized   Outcome = "unauthorized"
	OutcomeServerError    Outcome = "server_error"
	OutcomeThrottled      Outcome = "throttled"
	OutcomeUnreachable    Outcome = "unreachable"
	OutcomePrivateAddress Outcome = "private_address"
	OutcomeKeyMissing     Outcome = "key_missing" // nothing was sent: the key is away
	OutcomeFault          Outcome = "fault"       // nothing was sent: this node or its store could not
	OutcomeAborted        Outcome = "aborted"     // cut off by the node: shutdown, lost lease, crowded address
)

// Outcomes lists all outcomes.
var Outcomes = []Outcome{
	OutcomeDelivered, OutcomeGone, OutcomeRedirected, OutcomeRejected, OutcomeUnauthorized, OutcomeServerError,
	OutcomeThrottled, OutcomeUnreachable, OutcomePrivateAddress, OutcomeKeyMissing, OutcomeFault, OutcomeAborted,
}

// outcomeOf classifies the answer to a POST.
func outcomeOf(a Answer) Outcome {
	switch s := a.Status; {
	case s == 0 && errors.Is(a.Err, netguard.ErrPrivate):
		return OutcomePrivateAddress
	case s == 0 && errors.Is(a.Err, errCrowded):
		return OutcomeAborted
	case s == 0 && ours(a.Err):
		return OutcomeFault
	case s >= 200 && s <= 299:
		return OutcomeDelivered
	case s >= 300 && s <= 399:
		return OutcomeRedirected
	case s == http.StatusNotFound, s == http.StatusGone:
		return OutcomeGone
	case s == http.StatusUnauthorized:
		return OutcomeUnauthorized
	case s == http.StatusTooManyRequests:
		return OutcomeThrottled
	case s == http.StatusServiceUnavailable && retryAfter(a, time.Now()) > 0:
		return OutcomeThrottled
	case s == http.StatusRequestTimeout, s == http.StatusMisdirectedRequest, s == http.StatusTooEarly:
		return OutcomeServerError
	case s >= 400 && s <= 499, s == http.StatusNotImplemented:
		return OutcomeRejected
	case s >= 500 && s <= 599:
		return OutcomeServerError
	}
	return OutcomeUnreachable // no answer, or one that HTTP does not know
}

// ours reports whether it was this machine that could not make a connection: it has no files, ports or memory left for
// one, its name servers are away, or it came to a panic.
func ours(err error) bool {
	if _, ok := errors.AsType[*panicError](err); ok || errors.Is(err, resolver.ErrAway) {
		return true
	}
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// verdict says what an outcome means for the host.
func (o Outcome) verdict(timedOut bool) breaker.Verdict {
	switch o {
	case OutcomeServerError, OutcomeUnreachable:
		if timedOut {
			return breaker.TimedOut
		}
		return breaker.Failed
	case OutcomeThrottled:
		return breaker.Throttled
	case OutcomePrivateAddress, OutcomeKeyMissing, OutcomeFault, OutcomeAborted:
		return breaker.Abandoned
	}
	if timedOut {
		return breaker.Slow
	}
	return breaker.Alive
}

// reason is why a delivery with this outcome is dead at once, or "".
func (o Outcome) reason() queue.Reason {
	switch o {
	case OutcomeGone:
		return queue.ReasonGone
	case OutcomeRejected:
		return queue.ReasonRejected
	case OutcomePrivateAddress:
		return queue.ReasonPrivateAddress
	}
	return ""
}

// maxRetryAfter caps what a host may ask for.
const maxRetryAfter = 12 * time.Hour

// retryAfter returns how long the answer asks to wait, or 0 if it does not say so usably.
// SPEC: RFC 9110, 10.2.3: Retry-After is either an HTTP-date or a number of seconds.
func retryAfter(a Answer, now time.Time) time.Duration {
	text := strings.TrimSpace(a.RetryAfter)
	if isNumber(text) {
		seconds, err := strconv.ParseUint(text, 10, 64)
		if err != nil || seconds > uint64(maxRetryAfter/time.Second) { // an error means that it is too large
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(a.Date); err == nil {
		now = date // its clock is what the host reckons with
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// isNumber reports whether a text consists of digits.
func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
