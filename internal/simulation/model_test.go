package simulation

import (
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// model is what has to be known of a host if the promises hold: the checker's own account, made of the answers that the
// host gave and of which of them were settled.
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
	quick       int       // probes hastened
	hurried     bool      // in this wait
	epoch       int64     // of the latest reset

	paused, blocked bool
	blockedAt       time.Time // when it was last
	holds           []span    // of time in which it was either
	revived         time.Time // when a dead letter of it was retried last
	meddled         int       // requests that operators cost it, at the most

	token    uint64            // the latest seen
	begun    map[*attempt]bool // and not settled
	inFlight map[*attempt]bool // at the host just now
	hand     map[*pair]bool    // taken, and neither settled nor released
	requests int
	sentTo   time.Time // when something was sent to it last
	spans    []span    // of time in which it was unavailable
}

type span struct{ from, to time.Time }

func (m *model) probed() bool  { return m.open || m.unavailable }
func (m *model) suspect() bool { return m.failures > 0 || !m.reached }

// held tells that an operator stopped it.
func (m *model) held() bool { return m.paused || m.blocked }

// heldSince returns since when, if it is held.
func (m *model) heldSince() time.Time { return m.holds[len(m.holds)-1].from }

// holdUp notes for how long it was held.
func (m *model) holdUp(now time.Time) {
	switch open := len(m.holds) > 0 && m.holds[len(m.holds)-1].to.After(now); {
	case m.held() && !open:
		m.holds = append(m.holds, span{now, now.AddDate(100, 0, 0)})
	case !m.held() && open:
		m.holds[len(m.holds)-1].to = now
	}
}

// sweptBy returns when a delivery can have expired. What a node had taken that died is only given back when another takes the
// lane over, which none does while it is held.
func (m *model) sweptBy(p *pair) time.Time {
	if p.stuck {
		return later(p.expires, m.holds[len(m.holds)-1].to)
	}
	return p.expires
}

// reset forgets failures, as the contract says.
func (m *model) reset(now time.Time) {
	m.failures, m.days, m.trips, m.open, m.quick, m.hurried = 0, nil, 0, false, 0, false
	m.wait, m.asked = time.Time{}, time.Time{}
	if m.unavailable {
		m.unavailable = false
		m.spans[len(m.spans)-1].to = now
	}
}

// overheard notes what was settled under a record from before a reset: nothing of it is kept.
func (m *model) overheard(vs []verdict, now time.Time) {
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
	means meaning
	at    time.Time // of the answer
	day   int64     // as the node counts it
	asked time.Duration
}

// apply brings the account up to date with a settlement.
func (m *model) apply(r rules, vs []verdict, now time.Time) {
	var until time.Time
	for _, v := range vs {
		switch v.means {
		case delivered, final, again:
			if m.unavailable {
				m.unavailable = false
				m.spans[len(m.spans)-1].to = now
				m.wait, m.asked = time.Time{}, time.Time{}
			}
			m.failures, m.days, m.trips, m.open, m.reached, m.lastAlive = 0, nil, 0, false, true, now
		case failed:
			m.failures++
			if !slices.Contains(m.days, v.day) {
				m.days = append(m.days, v.day)
			}
			if m.open || m.failures >= r.threshold {
				m.open = true
				m.trips++
				until = later(until, v.at.Add(min(r.coolOff<<min(m.trips-1, 20), r.coolOffMax)))
			}
		case throttled:
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
		m.wait, m.since, m.hurried = later(m.wait, until), later(now, m.asked), false
	}
	if !m.probed() {
		m.quick = 0
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

// overlap returns how much of a time spans cover.
func overlap(spans []span, from, to time.Time) (d time.Duration) {
	for _, s := range spans {
		if s.from.Before(to) && s.to.After(from) {
			d += s.to.Sub(s.from)
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
