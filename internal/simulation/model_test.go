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

	token    uint64            // the latest seen
	begun    map[*attempt]bool // and not settled
	inFlight map[*attempt]bool // at the host just now
	requests int
	spans    []span // of time in which it was unavailable
}

type span struct{ from, to time.Time }

func (m *model) probed() bool  { return m.open || m.unavailable }
func (m *model) suspect() bool { return m.failures > 0 || !m.reached }

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
				m.wait = time.Time{}
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
		if n := len(vs); n > 0 && vs[n-1].means != nothing {
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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
