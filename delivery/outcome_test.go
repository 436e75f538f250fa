package delivery

import (
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
)

// Every status and what it means: the table of the public interface, row by row.
func TestEveryStatusHasItsOutcome(t *testing.T) {
	want := func(status int) Outcome {
		switch {
		case status >= 200 && status <= 299:
			return OutcomeDelivered
		case status >= 300 && status <= 399:
			return OutcomeRedirected
		case status == 404 || status == 410:
			return OutcomeGone
		case status == 401:
			return OutcomeUnauthorized
		case status == 429:
			return OutcomeThrottled
		case status == 408 || status == 421 || status == 425:
			return OutcomeServerError
		case status >= 400 && status <= 499 || status == 501:
			return OutcomeRejected
		case status >= 500 && status <= 599:
			return OutcomeServerError
		}
		return OutcomeUnreachable
	}
	for status := 100; status <= 700; status++ {
		if got := outcomeOf(Answer{Status: status}); got != want(status) {
			t.Errorf("%d: %s, want %s", status, got, want(status))
		}
	}
}

func TestOutcomesOfNoAnswer(t *testing.T) {
	for _, c := range []struct {
		answer Answer
		want   Outcome
	}{
		{Answer{Err: errors.New("connection refused")}, OutcomeUnreachable},
		{Answer{Err: errors.New("timeout"), TimedOut: true}, OutcomeUnreachable},
		{Answer{Err: fmt.Errorf("dial: %w", netguard.ErrPrivate)}, OutcomePrivateAddress},
		{Answer{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}}, OutcomeFault},
		{Answer{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}}, OutcomeFault},
		{Answer{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}, OutcomeUnreachable},
		{Answer{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}}, OutcomeUnreachable},
		{Answer{Status: 503, RetryAfter: "30"}, OutcomeThrottled},
		{Answer{Status: 503, RetryAfter: "soon"}, OutcomeServerError},
		{Answer{Status: 503}, OutcomeServerError},
		{Answer{Status: 502, RetryAfter: "30"}, OutcomeServerError},
	} {
		if got := outcomeOf(c.answer); got != c.want {
			t.Errorf("%+v: %s, want %s", c.answer, got, c.want)
		}
	}
}

func TestWhatAnOutcomeMeans(t *testing.T) {
	for _, c := range []struct {
		outcome Outcome
		host    breaker.Verdict
		slow    breaker.Verdict
		reason  queue.Reason
	}{
		{OutcomeDelivered, breaker.Alive, breaker.Slow, ""},
		{OutcomeGone, breaker.Alive, breaker.Slow, queue.ReasonGone},
		{OutcomeRedirected, breaker.Alive, breaker.Slow, ""},
		{OutcomeRejected, breaker.Alive, breaker.Slow, queue.ReasonRejected},
		{OutcomeUnauthorized, breaker.Alive, breaker.Slow, ""},
		{OutcomeServerError, breaker.Failed, breaker.TimedOut, ""},
		{OutcomeThrottled, breaker.Throttled, breaker.Throttled, ""},
		{OutcomeUnreachable, breaker.Failed, breaker.TimedOut, ""},
		{OutcomePrivateAddress, breaker.Abandoned, breaker.Abandoned, queue.ReasonPrivateAddress},
		{OutcomeKeyMissing, breaker.Abandoned, breaker.Abandoned, ""},
		{OutcomeFault, breaker.Abandoned, breaker.Abandoned, ""},
		{OutcomeAborted, breaker.Abandoned, breaker.Abandoned, ""},
	} {
		if got := c.outcome.verdict(false); got != c.host {
			t.Errorf("%s: host verdict %v, want %v", c.outcome, got, c.host)
		}
		if got := c.outcome.verdict(true); got != c.slow {
			t.Errorf("%s timed out: host verdict %v, want %v", c.outcome, got, c.slow)
		}
		if got := c.outcome.reason(); got != c.reason {
			t.Errorf("%s: reason %q, want %q", c.outcome, got, c.reason)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const imf = "Mon, 02 Jan 2006 15:04:05 GMT"
	for _, c := range []struct {
		header, date string
		want         time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"120", "", 2 * time.Minute},
		{" 7 ", "", 7 * time.Second},
		{"-5", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"86400", "", maxRetryAfter},
		{"99999999999999999999999", "", maxRetryAfter},
		{"18446744073709551615", "", maxRetryAfter},
		{"99999999999999999999999 days", "", 0},
		{now.Add(time.Minute).Format(imf), "", time.Minute},
		{now.Add(-time.Minute).Format(imf), "", 0},
		{now.Add(99 * time.Hour).Format(imf), "", maxRetryAfter},
		// A host whose clock is an hour ahead means a minute all the same.
		{now.Add(61 * time.Minute).Format(imf), now.Add(time.Hour).Format(imf), time.Minute},
		{now.Add(time.Minute).Format(imf), "nonsense", time.Minute},
	} {
		if got := retryAfter(Answer{RetryAfter: c.header, Date: c.date}, now); got != c.want {
			t.Errorf("Retry-After %q with Date %q: %v, want %v", c.header, c.date, got, c.want)
		}
	}
}

// FuzzRetryAfter checks that any answer of a host asks for a wait of at most 12 hours, and that a number means its
// seconds.
func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("99999999999999999999999", "Sun, 01 Mar 2026 12:00:00 GMT")
	f.Add("18700000000000000000A", "0") // neither a number nor a date, but strconv says that it is out of range
	f.Add("Sun, 01 Mar 2026 12:00:00 GMT", "Sunday, 01-Mar-26 11:59:00 GMT")
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	number := regexp.MustCompile(`^[0-9]+$`)
	most := big.NewInt(int64(maxRetryAfter / time.Second))
	f.Fuzz(func(t *testing.T, header, date string) {
		got := retryAfter(Answer{RetryAfter: header, Date: date}, now)
		if got < 0 || got > maxRetryAfter {
			t.Fatalf("waits %s", got)
		}
		text := strings.TrimSpace(header)
		if !number.MatchString(text) {
			if _, err := http.ParseTime(text); err != nil && got > 0 {
				t.Fatalf("waits %s for what is neither a number nor a date", got)
			}
			return
		}
		seconds, _ := new(big.Int).SetString(text, 10)
		if seconds.Cmp(most) > 0 {
			seconds = most
		}
		if want := time.Duration(seconds.Int64()) * time.Second; got != want {
			t.Fatalf("waits %s, want %s", got, want)
		}
	})
}

// The curve of Mastodon: c⁴ + 15 s for the count c of retries so far.
func TestScheduleIsMastodonsCurve(t *testing.T) {
	s := Schedule{Base: 15 * time.Second, MaxAttempts: 17}
	for n := 1; n <= 16; n++ {
		c := float64(n - 1)
		least := time.Duration((c*c*c*c + 15) * float64(time.Second))
		for range 100 {
			if got := s.Wait(n); got < least-time.Millisecond || got > least+least/2+time.Millisecond {
				t.Fatalf("retry %d: waits %v, want %v and up to half more", n, got, least)
			}
		}
	}
}

func TestScheduleHasJitterAndDoesNotOverflow(t *testing.T) {
	s := Schedule{Base: time.Hour}
	seen := map[time.Duration]bool{}
	for range 20 {
		seen[s.Wait(3)] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 waits have only %d values", len(seen))
	}
	if got := s.Wait(1 << 20); got != maxWait {
		t.Errorf("a wait without end is %v, want %v", got, maxWait)
	}
	if a, b := s.Wait(0), s.Wait(1); a > 3*b {
		t.Errorf("retry 0 waits %v, retry 1 %v", a, b)
	}
}

func TestAttemptsByPriority(t *testing.T) {
	for _, c := range []struct {
		most     int
		priority queue.Priority
		want     int
	}{
		{17, queue.High, 17}, {17, queue.Normal, 17}, {17, queue.Low, 9}, {3, queue.Low, 3},
	} {
		if got := (Schedule{MaxAttempts: c.most}).Attempts(c.priority); got != c.want {
			t.Errorf("max %d, priority %d: %d attempts, want %d", c.most, c.priority, got, c.want)
		}
	}
}
