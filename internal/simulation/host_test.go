package simulation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/signer"
)

// condition is how a host behaves for some time.
type condition uint8

const (
	well condition = iota
	slow
	refusing     // connection refused, no such name, or an expired certificate: unreachable at once
	hanging      // accepts the request and never answers
	erring       // 5xx and their kin
	flapping     // one or the other
	throttling   // asks to wait, in all forms
	gone         // 404 and 410
	rejecting    // other 4xx
	unauthorised // 401 to both schemes
	moved        // a redirect elsewhere
	modern       // requires RFC 9421
)

// phase is a condition from some time on.
type phase struct {
	from time.Duration
	is   condition
}

// kind is a sequence of conditions.
type kind string

const (
	healthy kind = "healthy"
	dead    kind = "dead"    // from the beginning, for good
	dying   kind = "dying"   // dies some day, for good
	oneway  kind = "one-way" // can't be reached, yet sends to the app
	ailing  kind = "ailing"  // has outages, and recovers
	mixed   kind = "mixed"   // well, but for inboxes that are not
	other   kind = "other"   // everything else
)

// host is a model host. Its answers are drawn from its own dice.
type host struct {
	name      string
	kind      kind
	phases    []phase
	seenEvery time.Duration        // how often the app sees it, 0 is never
	pace      time.Duration        // how long an answer takes, about
	inboxes   []string             // their paths, the shared one first
	own       map[string]condition // of inboxes that fail while their host is well
	dice      *rand.Rand
	model
}

// newHost draws a host's conditions for a number of days. A quarter is dead for good: Lemmy measured 24.9 %.
func newHost(seed uint64, name string, life time.Duration) *host {
	r := dice(seed, "host", name)
	h := &host{name: name, dice: r, pace: between(r, 5*time.Millisecond, 400*time.Millisecond)}
	switch n := r.IntN(1000); {
	case n < 249:
		h.kind, h.phases = dead, []phase{{0, pick(r, refusing, refusing, hanging, erring)}}
	case n < 300:
		h.kind, h.phases = dying, []phase{{0, well}, {between(r, 0, life/2), pick(r, refusing, hanging, erring)}}
	case n < 360:
		h.kind = oneway
		h.seenEvery = between(r, time.Hour, 12*time.Hour)
		h.phases = []phase{{0, pick(r, refusing, hanging)}}
		if r.IntN(2) == 0 {
			h.phases = append(h.phases, phase{between(r, life/3, life*2/3), well})
		}
	case n < 500:
		h.kind, h.phases = ailing, outages(r, life)
		if r.IntN(2) == 0 {
			h.seenEvery = between(r, 20*time.Minute, 12*time.Hour)
		}
	case n < 560:
		h.kind, h.phases = mixed, []phase{{0, well}}
	case n < 740:
		h.kind, h.phases = other, []phase{{0, pick(r, slow, flapping, throttling, throttling, gone, rejecting, unauthorised, moved, modern, erring)}}
		if r.IntN(2) == 0 {
			h.phases = append([]phase{{0, well}}, phase{between(r, life/9, life/2), h.phases[0].is})
		}
	default:
		h.kind, h.phases = healthy, []phase{{0, well}}
	}
	h.makeInboxes(r)
	return h
}

// makeInboxes draws a host's inboxes. On some hosts one inbox refuses everything and all others accept it; on those of
// mixed kind one fails.
func (h *host) makeInboxes(r *rand.Rand) {
	h.inboxes, h.own = []string{"/inbox"}, map[string]condition{}
	n := 1 + r.IntN(4)
	if h.kind == mixed {
		n = 3 + r.IntN(4)
	}
	for i := 1; i < n; i++ {
		h.inboxes = append(h.inboxes, fmt.Sprintf("/users/u%d/inbox", i))
	}
	if n > 1 && r.IntN(3) == 0 {
		h.own[h.inboxes[1]] = pick(r, unauthorised, unauthorised, gone, rejecting, moved)
	}
	if h.kind == mixed {
		h.own[h.inboxes[pick(r, 0, 2)]] = pick(r, erring, erring, flapping)
	}
}

// some draws inboxes that an activity goes to: the shared one, all, or one.
func (h *host) some(r *rand.Rand) []string {
	switch n := r.IntN(12); {
	case n < 2 || h.kind == mixed:
		return h.inboxes
	case n < 5:
		return []string{pick(r, h.inboxes...)}
	}
	return h.inboxes[:1]
}

// outages draws outages of minutes to days, some long enough to make the host unavailable.
func outages(r *rand.Rand, life time.Duration) []phase {
	ps := []phase{{0, well}}
	for at := between(r, 0, life/6); at < life*2/3; {
		ps = append(ps, phase{at, pick(r, refusing, hanging, erring, flapping, throttling)})
		at += pick(r, between(r, time.Minute, time.Hour), between(r, time.Hour, 24*time.Hour), between(r, 24*time.Hour, 11*24*time.Hour))
		ps = append(ps, phase{at, well})
		at += between(r, 6*time.Hour, 6*24*time.Hour)
	}
	return ps
}

// is returns a host's condition at a time since the beginning.
func (h *host) is(at time.Duration) condition {
	c := h.phases[0].is
	for _, p := range h.phases {
		if p.from <= at {
			c = p.is
		}
	}
	return c
}

// lastsUntil returns when the condition at a time ends.
func (h *host) lastsUntil(at, life time.Duration) time.Duration {
	i := slices.IndexFunc(h.phases, func(p phase) bool { return p.from > at })
	if i < 0 {
		return 2 * life
	}
	return h.phases[i].from
}

// reply is a host's answer, and its meaning by the promises.
type reply struct {
	delivery.Answer
	means meaning
	asked time.Duration // with throttled: how long to wait at least
	takes time.Duration
	hangs bool
}

// meaning is the meaning of an answer by the table of outcomes.
type meaning uint8

const (
	nothing   meaning = iota // no answer of the host: it must have no consequence
	delivered                // done
	final                    // a dead letter at once, though the host is alive
	again                    // tried again, though the host is alive
	failed                   // tried again, and the host failed
	throttled                // the host asked to wait
)

var (
	errRefused = errors.New("connect: connection refused")
	errNoName  = errors.New("lookup: no such host")
	errExpired = errors.New("tls: certificate has expired")
	errHung    = errors.New("timeout awaiting response headers")
	errCut     = errors.New("request cancelled")
)

// isAt returns the condition of an inbox at a time: its own, if its host is well.
func (h *host) isAt(url string, at time.Duration) condition {
	c := h.is(at)
	if own := h.own[strings.TrimPrefix(url, "https://"+h.name)]; c == well {
		return own
	}
	return c
}

// serve answers one request to an inbox.
func (h *host) serve(now, start time.Time, url string, scheme signer.Scheme) reply {
	r := h.dice
	re := reply{takes: between(r, h.pace/2, 2*h.pace)}
	status := func(s int, m meaning) { re.Status, re.means = s, m }
	switch h.isAt(url, now.Sub(start)) {
	case well:
		status(pick(r, 200, 202), delivered)
	case slow:
		status(202, delivered)
		re.takes = between(r, 3*time.Second, 20*time.Second)
	case refusing:
		re.Err, re.means = pick(r, errRefused, errNoName, errExpired), failed
	case hanging:
		re.Err = errHung
		re.means = failed
		re.hangs = true
	case erring:
		status(pick(r, 500, 502, 504, 503, 408, 425, 520), failed)
	case flapping:
		if r.IntN(5) < 3 {
			status(pick(r, 500, 502), failed)
		} else {
			status(202, delivered)
		}
	case throttling:
		h.throttle(&re, now)
	case gone:
		status(pick(r, 404, 410), final)
	case rejecting:
		status(pick(r, 400, 403, 405, 422, 501), final)
	case unauthorised:
		status(http.StatusUnauthorized, again)
	case moved:
		status(pick(r, 301, 302, 308), again)
		re.Location = "https://elsewhere.example/inbox"
	case modern:
		if status(http.StatusUnauthorized, again); scheme == signer.RFC9421 {
			status(202, delivered)
		}
	}
	return re
}

// throttle asks to wait in seconds, by a date (of a clock that goes wrong), for absurdly long, in the past, malformed,
// or accepts.
func (h *host) throttle(re *reply, now time.Time) {
	r := h.dice
	wait := time.Duration(1+r.IntN(5400)) * time.Second
	re.Status, re.means = pick(r, 429, 503), throttled
	switch r.IntN(10) {
	case 0, 1, 2:
		re.Status, re.means = 202, delivered
	case 3, 4, 5:
		re.RetryAfter, re.asked = strconv.Itoa(int(wait.Seconds())), wait
	case 6, 7:
		theirs := now.UTC().Truncate(time.Second).Add(between(r, -time.Hour, time.Hour).Truncate(time.Second))
		re.Date = theirs.Format(http.TimeFormat)
		re.RetryAfter = theirs.Add(wait).Format(http.TimeFormat)
		re.asked = wait
	case 8:
		re.RetryAfter, re.asked = "99999999999", 12*time.Hour
	case 9:
		re.Date = now.UTC().Format(http.TimeFormat)
		re.RetryAfter = pick(r, "soon", "-5", "", now.UTC().Add(-time.Hour).Format(http.TimeFormat))
		if re.Status == http.StatusServiceUnavailable {
			re.means = failed
		}
	}
}
