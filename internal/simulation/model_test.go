package simulation

import (
	"net/http"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// model is the state that a host's record must have by the promises. The checker computes it from the host's answers
// and from which of them were settled.
type model struct {
	failures    int
	days        []int64 // of failures
	trips       int
	open        bool // not closed
	unavailable bool
	reached     bool      // ever
	lastAlive   time.Time // when a success was settled last
	wait, since time.Time // nothing before; when that began, or what the host asked for ends
	asked       time.Time // until when the host asked to be left alone
	throttles   int       // consecutive turns in which it asked to wait and accepted nothing
	throttledIn uint64    // the last of these, by its token
	refusals    int       // consecutive answers that were refusals
	quick       int       // probes hastened
	hurried     bool      // in this wait
	epoch       int64     // of the latest reset

	paused, blocked bool
	blockedAt       time.Time // when it was last
	holds           []span    // of time in which it was either
	revived         time.Time // when a dead letter of it was retried last
	meddled         int       // maximum of requests caused by operators

	token    uint64            // the latest seen
	begun    map[*attempt]bool // and not settled
	inFlight map[*attempt]bool // at the host just now
	hand     map[*pair]bool    // taken, and neither settled nor released
	requests int
	sentTo   time.Time       // when something was sent to it last
	spans    []span          // of time in which it was unavailable
	told     queue.HostState // as the feed says
}

type span struct{ from, to time.Time }

func (m *model) probed() bool  { return m.open || m.unavailable }
func (m *model) suspect() bool { return m.failures > 0 || !m.reached }

// held reports whether an operator stopped it.
func (m *model) held() bool { return m.paused || m.blocked }

// heldSince returns since when, if it is held.
func (m *model) heldSince() time.Time { return m.holds[len(m.holds)-1].from }

// holdUp records how long it was held.
func (m *model) holdUp(now time.Time) {
	switch open := len(m.holds) > 0 && m.holds[len(m.holds)-1].to.After(now); {
	case m.held() && !open:
		m.holds = append(m.holds, span{now, now.AddDate(100, 0, 0)})
	case !m.held() && open:
		m.holds[len(m.holds)-1].to = now
	}
}

// sweptBy returns when a delivery must have expired. If its node died, it is given back only when another node takes
// the lane over, which none does while the host is held.
func (m *model) sweptBy(p *pair) time.Time {
	if p.stuck {
		return later(p.expires, m.holds[len(m.holds)-1].to)
	}
	return p.expires
}

// reset forgets failures, as the contract says.
func (m *model) reset(now time.Time) {
	m.failures = 0
	m.days = nil
	m.trips = 0
	m.open = false
	m.quick = 0
	m.hurried = false
	m.wait = time.Time{}
	m.asked = time.Time{}
	m.throttles = 0
	m.refusals = 0
	if m.unavailable {
		m.unavailable = false
		m.spans[len(m.spans)-1].to = now
	}
}

// outdatedSettlement records a settlement under a record from before a reset, which is ignored.
func (m *model) outdatedSettlement(vs []verdict, now time.Time) {
	for _, v := range vs {
		if v.means == delivered || v.means == final || v.means == again {
			m.lastAlive = now
		}
	}
}

// rules are the settings, as the checker reads them.
type rules struct {
	threshold, window, concurrency int
	coolOff, coolOffMax            time.Duration
	unavailableDays                int
	retryBase                      time.Duration
	maxAttempts                    int
}

// verdict is one settled attempt: what the host answered, and when.
type verdict struct {
	means  meaning
	at     time.Time // of the answer
	day    int64     // as the node counts it
	asked  time.Duration
	status int // of the answer, 0 without one
}

// apply applies a settlement of the turn that holds a token.
func (m *model) apply(r rules, vs []verdict, token uint64, now time.Time) {
	var until time.Time
	for _, v := range vs {
		m.refused(v.status)
		switch v.means {
		case delivered, final, again:
			if m.unavailable {
				m.unavailable = false
				m.spans[len(m.spans)-1].to = now
				m.wait, m.asked = time.Time{}, time.Time{}
			}
			m.failures = 0
			m.days = nil
			m.trips = 0
			m.open = false
			m.reached = true
			m.lastAlive = now
			if m.throttledIn == token {
				m.throttles = min(m.throttles, 1)
			} else {
				m.throttles = 0
			}
		case failed:
			m.failures++
			m.failedOn(v.day)
			if m.open || m.failures >= r.threshold {
				m.open = true
				m.trips++
				until = later(until, v.at.Add(min(r.coolOff<<min(m.trips-1, 20), r.coolOffMax)))
			}
		case throttled:
			if m.throttledIn != token {
				m.throttles++
				m.throttledIn = token
			}
			if v.status == http.StatusServiceUnavailable && m.throttles >= 10 {
				m.failedOn(v.day)
			}
			m.asked = later(m.asked, v.at.Add(max(v.asked, 0)))
			until = later(until, m.asked)
			if v.asked == 0 {
				until = later(until, v.at.Add(r.retryBase))
			}
		}
	}
	if len(m.days) >= r.unavailableDays && r.unavailableDays > 0 {
		if !m.unavailable {
			m.unavailable = true
			m.spans = append(m.spans, span{from: now})
		}
		if n := len(vs); n > 0 && vs[n-1].means == failed {
			until = later(until, vs[n-1].at.Add(24*time.Hour))
		}
	}
	if !until.IsZero() {
		m.wait = later(m.wait, until)
		m.since = later(now, m.asked)
		m.hurried = false
	}
	if !m.probed() {
		m.quick = 0
	}
}

// refused counts consecutive refusals: 3xx and 4xx, but for 404, 410 and 429.
func (m *model) refused(status int) {
	switch {
	case status == 0:
	case status < 300, status > 499, status == http.StatusNotFound, status == http.StatusGone, status == http.StatusTooManyRequests:
		m.refusals = 0
	default:
		m.refusals++
	}
}

// failedOn counts a day of failure.
func (m *model) failedOn(day int64) {
	if !slices.Contains(m.days, day) {
		m.days = append(m.days, day)
	}
}

// seen brings the next probe forward, as the contract says.
func (m *model) seen(now time.Time) {
	if !m.probed() || !m.wait.After(now) || m.hurried {
		return
	}
	until := later(now, m.since.Add(queue.SeenPause(m.quick)))
	if until.Before(m.wait) {
		m.wait, m.hurried = until, true
		m.quick++
	}
}

// overlap returns how long those spans are that have some of a time in common with it. One may last still.
func overlap(spans []span, from, to time.Time) (d time.Duration) {
	for _, s := range spans {
		end := s.to
		if end.IsZero() {
			end = to
		}
		if s.from.Before(to) && end.After(from) {
			d += end.Sub(s.from)
		}
	}
	return d
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
