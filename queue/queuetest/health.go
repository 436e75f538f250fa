package queuetest

import (
	"net/http"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var healthCases = []testCase{
	{name: "is throttled until it has waited as it asked", run: throttledUntil},
	{name: "is throttled without anything pending", run: throttledIdle},
	{name: "is throttled no more when it is taken after its wait", run: throttledTaken},
	{name: "is throttled no more after a probe or a reset", run: throttledEnded},
	{name: "is throttled unless something graver holds", run: throttledLeast},
	{name: "refuses until it accepts", run: refusesUntil},
	{name: "is counted by how it answered last", run: countsAnswers},
	{name: "is remembered", run: healthRemembered},
}

// throttled is the record of a host that asked to wait.
func throttled() queue.HostRecord {
	r := healthy()
	r.Throttles = 1
	r.LastAnswer = r.Breaker.LastSuccess
	r.LastError = attempt("throttled", http.StatusTooManyRequests)
	return r
}

// refusing is the record of a host whose last answers were so many refusals, the last of them a 401.
func refusing(refusals int) queue.HostRecord {
	r := healthy()
	r.Refusals = refusals
	r.LastAnswer = r.Breaker.LastSuccess
	r.LastError = attempt("unauthorized", http.StatusUnauthorized)
	return r
}

// accepting is the record of a host whose last answer was a 2xx.
func accepting() queue.HostRecord {
	r := healthy()
	r.LastAnswer, r.LastSuccess = r.Breaker.LastSuccess, r.Breaker.LastSuccess
	return r
}

// throttle has a host with something pending ask to wait.
func (s *suite) throttle(host string, wait time.Duration) {
	s.t.Helper()
	record := throttled()
	s.fill(host, 1)
	s.settlement(s.takeNothing(host), queue.Settlement{Host: &record, Wait: wait, Asked: wait, Release: true})
}

// isIn checks that all calls show a host in a state.
func (s *suite) isIn(host string, state queue.HostState) {
	s.t.Helper()
	s.same("state", state, s.host(host).State)
	s.hostPages(queue.HostFilter{State: state}, host)
	s.same("hosts by state", map[queue.HostState]int{state: 1}, s.stats().Hosts)
}

func throttledUntil(s *suite) {
	s.put("1", "a.example")
	s.throttle("a.example", second)
	s.isIn("a.example", queue.HostThrottled)
	s.states("a.example", queue.HostThrottled)
	time.Sleep(passing)
	s.same("state before a sweep", queue.HostHealthy, s.host("a.example").State)
	s.hostPages(queue.HostFilter{State: queue.HostThrottled})
	s.sweep()
	s.isIn("a.example", queue.HostHealthy)
	s.states("a.example", queue.HostThrottled, queue.HostHealthy)
}

func throttledIdle(s *suite) {
	record := throttled()
	id := s.put("1", "a.example")
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &record, Wait: second, Release: true})
	s.cancel(id)
	s.isIn("a.example", queue.HostThrottled)
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &record, Wait: 2 * second, Release: true})
	time.Sleep(passing)
	s.sweep()
	s.isIn("a.example", queue.HostThrottled) // it asked for more meanwhile
	time.Sleep(second)
	s.sweep()
	s.isIn("a.example", queue.HostHealthy)
}

func throttledTaken(s *suite) {
	s.throttle("a.example", second)
	time.Sleep(passing)
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	s.same("state while it is attempted", queue.HostHealthy, s.host("a.example").State)
	s.finish(l, delivered(d))
	s.isIn("a.example", queue.HostHealthy)
}

func throttledEnded(s *suite) {
	for _, end := range []queue.HostAction{queue.Probe, queue.Reset} {
		s.throttle("a.example", time.Hour)
		s.isIn("a.example", queue.HostThrottled)
		s.act("a.example", end)
		s.isIn("a.example", queue.HostHealthy)
	}
}

func throttledLeast(s *suite) {
	s.throttle("a.example", time.Hour)
	s.act("a.example", queue.Pause)
	s.isIn("a.example", queue.HostPaused)
	s.act("a.example", queue.Resume)
	s.isIn("a.example", queue.HostThrottled)
	both := throttled()
	both.Refusals = queue.RefusingAfter
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &both, Release: true})
	s.isIn("a.example", queue.HostRefusing)
	open := failing(breaker.Open)
	open.Throttles, open.Refusals = 1, queue.RefusingAfter
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &open, Release: true})
	s.isIn("a.example", queue.HostOpen)
}

func refusesUntil(s *suite) {
	s.put("1", "a.example")
	for refusals := range queue.RefusingAfter + 3 { // turn by turn
		record := s.host("a.example").Record
		record.Refusals = refusals
		s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &record, Release: true})
		s.same("refusals", refusals, s.host("a.example").Record.Refusals)
	}
	s.isIn("a.example", queue.HostRefusing)
	record := accepting()
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &record, Release: true})
	s.isIn("a.example", queue.HostHealthy)
	s.states("a.example", queue.HostRefusing, queue.HostHealthy)
	refuses := refusing(queue.RefusingAfter)
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &refuses, Release: true})
	s.isIn("a.example", queue.HostRefusing)
	s.act("a.example", queue.Reset)
	s.isIn("a.example", queue.HostHealthy)
}

// answered checks how many hosts accepted, answered 401, and answered otherwise.
func (s *suite) answered(accepted, unauthorized, other int) {
	s.t.Helper()
	got := s.stats().Answers
	s.same("hosts by their last answer", []int{accepted, unauthorized, other},
		[]int{got[queue.AnsweredAccepted], got[queue.AnsweredUnauthorized], got[queue.AnsweredOther]})
}

func countsAnswers(s *suite) {
	s.put("1", "new.example")
	s.answered(0, 0, 0)
	s.record("a.example", accepting())
	s.record("b.example", refusing(queue.RefusingAfter))
	s.record("c.example", refusing(1))
	s.record("d.example", throttled())
	s.answered(1, 1, 2)
	s.same("warnings", 0, len(warnings(s)))
	for _, host := range []string{"a.example", "c.example", "d.example"} {
		s.record(host, refusing(queue.RefusingAfter))
	}
	s.answered(0, 4, 0)
	s.same("warnings", []string{queue.WarnUnauthorized}, warnings(s))
	s.act("a.example", queue.Reset)
	s.record("b.example", accepting())
	s.answered(1, 2, 1)
	s.same("warnings", 0, len(warnings(s)))
}

func warnings(s *suite) (codes []string) {
	st := s.stats()
	for _, w := range st.Warnings() {
		codes = append(codes, w.Code)
	}
	return codes
}

func healthRemembered(s *suite) {
	s.record("refusing.example", refusing(queue.RefusingAfter))
	gone := refusing(0)
	gone.LastSuccess = gone.LastAnswer.Add(-second)
	s.record("accepting.example", gone)
	accepts := s.host("accepting.example").Record
	accepts.LastSuccess = accepts.LastAnswer
	s.record("accepting.example", accepts) // which is all that is new
	s.throttle("throttled.example", time.Hour)
	s.throttle("waited.example", second)
	time.Sleep(passing)
	s.reopen()
	s.sweep()
	for host, state := range map[string]queue.HostState{
		"refusing.example": queue.HostRefusing, "throttled.example": queue.HostThrottled,
	} {
		s.same("state", state, s.host(host).State)
		s.hostPages(queue.HostFilter{State: state}, host)
	}
	s.hostPages(queue.HostFilter{State: queue.HostHealthy}, "accepting.example", "waited.example")
	s.answered(1, 1, 2)
}
