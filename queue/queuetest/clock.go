package queuetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
)

// RunClock checks that jumps of the wall clock lose nothing and hold nothing up, on a back-end that has Jump.
func RunClock(t *testing.T, b Backend) {
	for _, by := range []time.Duration{2 * time.Hour, -2 * time.Hour, 100 * time.Hour, -100 * time.Hour} {
		for _, restart := range []bool{false, true} {
			c := testCase{
				name: fmt.Sprintf("jumps by %s, restart %t", by, restart),
				run:  func(s *suite) { clockJumps(s, by, restart) },
				opts: limits(queue.Limits{Retention: 24 * time.Hour, DeadRetention: time.Hour}),
			}
			t.Run(c.name, func(t *testing.T) { runCase(t, b, c) })
		}
	}
}

// jump moves the wall clock of the store.
func (s *suite) jump(by time.Duration, restart bool) {
	s.t.Helper()
	if !restart {
		s.b.Jump(s.Queue, by)
	} else {
		if err := s.Close(); err != nil {
			s.t.Fatal(err)
		}
		s.b.Jump(s.Queue, by)
		s.reopen()
	}
	s.b.Ahead += by
}

func clockJumps(s *suite, by time.Duration, restart bool) {
	s.sweep() // the store knows what time it is
	waits := s.put("waits", "a.example", lasting(3*time.Hour))
	l := s.lease("a.example")
	s.finish(l, retry(s.one(l, "waits"), time.Hour))
	held := s.put("held", "b.example", lasting(30*time.Minute))
	l = s.lease("b.example")
	s.take(l, "held")
	s.settlement(l, queue.Settlement{Wait: time.Hour, Release: true})
	mixed := s.put("dead", "c.example", alsoTo("d.example"))
	l = s.lease("c.example")
	s.finish(l, dead(s.one(l, "dead"), queue.ReasonRejected))
	l = s.lease("d.example")
	s.finish(l, delivered(s.one(l, "dead")))
	done := s.put("done", "e.example")
	l = s.lease("e.example")
	s.finish(l, delivered(s.one(l, "done")))
	s.order("paused.example", queue.Pause, queue.Order{For: time.Hour, Subdomains: true})

	s.jump(by, restart)
	before := s.put("before", "f.example", lasting(second)) // what comes before anything has looked at the clock
	s.offers("f.example")
	s.sweep()
	s.counts(waits, queue.Counts{Pending: 1})
	s.counts(held, queue.Counts{Pending: 1})
	s.counts(mixed, queue.Counts{Dead: 1, Delivered: 1})
	s.counts(done, queue.Counts{Delivered: 1})
	s.same("dead letters", 1, len(s.letters(queue.DeadLetterFilter{})))
	s.about("next attempt", time.Now().Add(time.Hour), s.listed(waits, "")["https://a.example/inbox"].NextAttemptAt)
	s.about("end of the lane's wait", time.Now().Add(time.Hour), s.host("b.example").RetryAt)
	s.statesAre(queue.HostPaused, "paused.example", "x.paused.example")
	s.about("end of the pause", time.Now().Add(time.Hour), s.host("paused.example").Orders[0].Until)
	s.about("creation", time.Now(), s.activity(done).CreatedAt)
	s.about("death", time.Now(), s.letters(queue.DeadLetterFilter{})[0].DiedAt)
	s.same("letters since then", 1, len(s.letters(queue.DeadLetterFilter{Since: time.Now().Add(s.b.Ahead - 10*time.Minute)})))
	after := s.put("after", "g.example", lasting(second))
	time.Sleep(passing)
	s.sweep()
	s.counts(before, queue.Counts{Dead: 1})
	s.counts(after, queue.Counts{Dead: 1})
	s.counts(waits, queue.Counts{Pending: 1})
}

func (s *suite) activity(id string) queue.ActivityStatus {
	s.t.Helper()
	a, err := s.Activity(s.t.Context(), id)
	if err != nil {
		s.t.Fatalf("Activity(%s): %v", id, err)
	}
	return a
}

// about checks that a time of the store's is at most three minutes from one of ours: that a clock jumped is known to
// about a minute.
func (s *suite) about(what string, want, got time.Time) {
	s.t.Helper()
	want = want.Add(s.b.Ahead)
	if got.Sub(want).Abs() > 3*time.Minute {
		s.t.Errorf("%s is %s, want about %s", what, got, want)
	}
}
