package delivery

import (
	"net/http"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// overloadedAfter is how many turns in a row have to end with a plea for patience until the days count on which the host
// answers 503.
const overloadedAfter = 10

// verdict returns what an attempt says about the host. A host that answers nothing but 503 fails, however politely.
func (t *turn) verdict(a *attempt) breaker.Verdict {
	if a.outcome == OutcomeThrottled && a.answer.Status == http.StatusServiceUnavailable && t.host.Throttles >= overloadedAfter {
		return breaker.Overloaded
	}
	return a.outcome.verdict(a.answer.TimedOut)
}

// alive notes that the host answered. An attempt that began before the host asked to wait leaves that one time counted.
func (t *turn) alive(a *attempt) {
	if t.throttle {
		t.host.Throttles = min(t.host.Throttles, 1)
	} else {
		t.host.Throttles = 0
	}
	t.learnScheme(a)
}

// countThrottle counts the turn as one in which the host asked to wait: once, however many attempts were in flight.
func (t *turn) countThrottle() {
	if !t.throttle {
		t.throttle = true
		t.host.Throttles++
	}
}

// throttled makes the lane wait.
func (t *turn) throttled(a *attempt, s *queue.Settlement) {
	asked := retryAfter(a.answer, time.Now())
	t.asked = later(t.asked, time.Now().Add(asked))
	wait := t.pool.Schedule.patience(t.host.Throttles, asked)
	if t.host.Unavailable { // it is probed daily, however soon it wants to be asked again
		wait = max(wait, t.daily())
	}
	s.Wait = max(s.Wait, wait)
	t.stop = true
}

// asAsked is how often in a row a host gets the time it asks for and no more. Twice, because a turn counts even if
// what was in flight beside the refusal is taken after it.
const asAsked = 2

// patience returns how long to wait for a host that has asked to wait in n turns in a row (1, 2, …), and asks now for so
// long: 0 if it does not say usably, then it waits like a delivery that is tried again. From the third time on the wait
// is never shorter than the schedule's, which begins there, so a host that always asks for a second gets at most 21
// requests in three days. Nothing is waited for longer than 12 h.
func (s Schedule) patience(n int, asked time.Duration) time.Duration {
	switch {
	case asked <= 0:
		return min(s.Wait(n), maxRetryAfter)
	case n <= asAsked:
		return asked
	default:
		return max(asked, min(s.Wait(n-asAsked), maxRetryAfter))
	}
}
