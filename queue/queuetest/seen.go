package queuetest

import (
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var seenCases = []testCase{
	{name: "hastens the probe", run: seenHastens},
	{name: "hastens the probe of an unavailable host", run: seenUnavailable},
	{name: "makes a probe due that waited for longer", run: seenAtOnce, days: true},
	{name: "does not put off a probe", run: seenNotLater},
	{name: "counts once in a wait", run: seenOnce},
	{name: "hastens ever less", run: seenEverLess},
	{name: "lets a host have the time that it asked for", run: seenAsked},
	{name: "closes nothing", run: seenClosesNothing},
	{name: "hastens nothing but probes", run: seenNoProbe},
	{name: "is remembered", run: seenRemembered},
}

// fails has the probe of a host fail, so that it waits for an hour.
func (s *suite) fails(host string, record queue.HostRecord) {
	s.t.Helper()
	s.settlement(s.takeNothing(host), queue.Settlement{Host: &record, Wait: time.Hour, Release: true})
}

func seenHastens(s *suite) {
	s.parked("a.example", failing(breaker.Open), time.Hour)
	began := time.Now()
	s.near("end of the wait", began.Add(queue.SeenPause(0)), s.act("a.example", queue.Seen).RetryAt)
	s.offers()
	s.take(s.lease("a.example"))
}

func seenUnavailable(s *suite) {
	s.unavailable("a.example", 24*time.Hour)
	s.near("end of the wait", time.Now().Add(queue.SeenPause(0)), s.act("a.example", queue.Seen).RetryAt)
}

func seenAtOnce(s *suite) {
	s.parked("a.example", failing(breaker.Open), time.Hour)
	time.Sleep(queue.SeenPause(0) + second)
	s.offers()
	s.drain()
	s.same("end of the wait", time.Time{}, s.act("a.example", queue.Seen).RetryAt)
	s.woken("Seen")
	s.offers("a.example")
	s.same("deliveries", 1, len(s.turn(s.lease("a.example"), 10).Deliveries))
}

func seenNotLater(s *suite) {
	s.parked("a.example", failing(breaker.Open), 4*time.Second)
	began := time.Now()
	s.near("end of the wait", began.Add(4*time.Second), s.act("a.example", queue.Seen).RetryAt)
}

func seenOnce(s *suite) {
	s.parked("a.example", failing(breaker.Open), time.Hour)
	for range 9 { // more than are free of charge
		s.act("a.example", queue.Seen)
	}
	s.near("end of the wait", time.Now().Add(queue.SeenPause(0)), s.host("a.example").RetryAt)
	s.fails("a.example", failing(breaker.Open))
	s.near("end of the next wait", time.Now().Add(queue.SeenPause(1)), s.act("a.example", queue.Seen).RetryAt)
}

func seenEverLess(s *suite) {
	s.fill("a.example", 1)
	for n := range 11 {
		if n == 5 {
			s.reopen()
		}
		s.fails("a.example", failing(breaker.Open))
		s.near("end of the wait", time.Now().Add(queue.SeenPause(n)), s.act("a.example", queue.Seen).RetryAt)
	}
	s.record("b.example", failing(breaker.Open))
	s.fails("b.example", failing(breaker.Open))
	s.near("end of another's wait", time.Now().Add(queue.SeenPause(0)), s.act("b.example", queue.Seen).RetryAt)

	well := healthy()
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &well, Wait: -1, Release: true})
	s.reopen()
	for range 4 { // the last hastens less than the first again
		s.fails("a.example", failing(breaker.Open))
		s.act("a.example", queue.Seen)
	}
	s.near("end of the wait after a success", time.Now().Add(queue.SeenPause(3)), s.host("a.example").RetryAt)
	s.act("a.example", queue.Reset)
	s.reopen()
	open := failing(breaker.Open)
	open.Epoch = 1
	s.fails("a.example", open)
	s.near("end of the wait after a reset", time.Now().Add(queue.SeenPause(0)), s.act("a.example", queue.Seen).RetryAt)
}

// asks has the probe of a host be answered by a plea for patience.
func (s *suite) asks(host string, asked, wait time.Duration) {
	s.t.Helper()
	record := failing(breaker.Open)
	s.settlement(s.takeNothing(host), queue.Settlement{Host: &record, Wait: wait, Asked: asked, Release: true})
}

func seenAsked(s *suite) {
	s.fill("a.example", 1)
	for range 4 { // more than are free of charge
		s.asks("a.example", time.Hour, time.Hour)
		s.near("end of the wait", time.Now().Add(time.Hour), s.act("a.example", queue.Seen).RetryAt)
	}
	s.asks("a.example", time.Hour, 24*time.Hour)
	s.reopen()
	s.near("end of a longer wait", time.Now().Add(time.Hour+queue.SeenPause(0)), s.act("a.example", queue.Seen).RetryAt)
	s.fails("a.example", failing(breaker.Open))
	s.near("end of a wait not asked for", time.Now().Add(queue.SeenPause(1)), s.act("a.example", queue.Seen).RetryAt)
}

func seenClosesNothing(s *suite) {
	s.parked("a.example", failing(breaker.Open), time.Hour)
	before := s.host("a.example")
	after := s.act("a.example", queue.Seen)
	before.RetryAt, after.RetryAt = time.Time{}, time.Time{}
	s.same("host", before, after)
}

func seenNoProbe(s *suite) {
	s.waiting("asked.example", time.Hour)
	s.parked("failing.example", failing(breaker.Closed), time.Hour)
	for _, host := range []string{"asked.example", "failing.example"} {
		s.near("end of the wait of "+host, time.Now().Add(time.Hour), s.act(host, queue.Seen).RetryAt)
	}
	s.parked("due.example", failing(breaker.Open), 0)
	s.same("host that does not wait", s.host("due.example"), s.act("due.example", queue.Seen))
}

func seenRemembered(s *suite) {
	s.parked("a.example", failing(breaker.Open), time.Hour)
	s.parked("b.example", failing(breaker.Open), time.Hour)
	began := time.Now()
	s.act("a.example", queue.Seen)
	s.reopen()
	s.near("end of the wait", began.Add(queue.SeenPause(0)), s.host("a.example").RetryAt)
	s.near("end of the wait", began.Add(queue.SeenPause(0)), s.act("b.example", queue.Seen).RetryAt)
}
