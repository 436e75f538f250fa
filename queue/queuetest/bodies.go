package queuetest

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/queue"
)

// bodyCases are about the bodies that equal activities share: each lasts until the last of them needs it no more.
var bodyCases = []testCase{
	{name: "last when one is delivered", run: bodyLasts(endDelivered)},
	{name: "last when one is cancelled", run: bodyLasts(endCancelled)},
	{name: "last when one is a dead letter that is dropped", run: bodyLasts(endDropped)},
	{name: "last when one expires and is dropped", run: bodyLasts(endExpired)},
	{name: "last for dead letters", run: bodyLastsForLetters},
	{name: "are distinguished where the rest differs", run: bodiesApart},
	{name: "go with the last and come back", run: bodyComesBack},
}

const sharedURI = "https://app.example/shared"

// The ways to end an activity for b.example.

func endDelivered(s *suite, _ string) {
	l := s.lease("b.example")
	s.finish(l, delivered(s.one(l, sharedURI)))
}

func endCancelled(s *suite, id string) { s.cancel(id) }

func endDropped(s *suite, _ string) {
	s.act("b.example", queue.Block)
	s.same("count", done(1), s.deleteDead(queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: "b.example"}}))
	s.act("b.example", queue.Unblock)
}

func endExpired(s *suite, _ string) {
	time.Sleep(passing)
	s.sweep()
	s.same("count", done(1), s.deleteDead(queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: "b.example"}}))
}

// given checks that the activity is given to each inbox of a host, with its body.
func (s *suite) given(host string, n int) {
	s.t.Helper()
	s.reopen() // nothing is remembered of what was read before
	l := s.lease(host)
	ds := s.turn(l, 100).Deliveries
	s.same("deliveries", n, len(ds))
	for _, d := range ds {
		s.same("body", string(submission(sharedURI).Body), string(d.Activity.Body))
	}
	s.finish(l)
}

// bodyLasts has the first of two equal activities end, then the second of three, and looks whether the other is whole.
func bodyLasts(end func(s *suite, id string)) func(*suite) {
	return func(s *suite) {
		first := s.put(sharedURI, "b.example", lasting(second))
		s.put(sharedURI, "a.example")
		end(s, first)
		s.given("a.example", 1)
		third := s.put(sharedURI, "b.example", lasting(second))
		end(s, third)
		s.given("a.example", 1)
		s.put(sharedURI, "https://a.example/other")
		s.given("a.example", 2)
	}
}

func bodyLastsForLetters(s *suite) {
	s.bury(sharedURI, "a.example", queue.ReasonRejected)
	s.put(sharedURI, "b.example")
	endDelivered(s, "")
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
	s.given("a.example", 1)
	s.put(sharedURI, "b.example")
	s.cancel(s.put(sharedURI, "c.example"))
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, sharedURI)))
	s.given("b.example", 1)
}

func bodiesApart(s *suite) {
	changes := []func(*queue.Submission){
		func(*queue.Submission) {},
		func(sub *queue.Submission) { sub.KeyID = "https://app.example/users/bob#main-key" },
		func(sub *queue.Submission) { sub.Pin = "SHA256:abc" },
		priority(queue.High),
		ordering("other"),
		func(sub *queue.Submission) { sub.Final = []int{401} },
		traced("one trace"),
		traced("another"),
	}
	for i, change := range changes {
		sub := submission(sharedURI, fmt.Sprintf("h%d.example", i))
		change(sub)
		s.got(sub, 1, 0)
		want := sub.Activity
		defer func() {
			host := sub.Recipients[0].Host
			d := s.one(s.lease(host), sub.URI)
			want.CreatedAt, want.Digest = d.Activity.CreatedAt, d.Activity.Digest
			s.same("activity of "+host, &want, d.Activity)
		}()
	}
	s.reopen()
}

func bodyComesBack(s *suite) {
	for range 3 {
		s.put(sharedURI, "b.example")
		s.put(sharedURI, "c.example")
		endDelivered(s, "")
		l := s.lease("c.example")
		s.finish(l, delivered(s.one(l, sharedURI)))
		s.put(sharedURI, "d.example")
		s.given("d.example", 1)
		l = s.lease("d.example")
		s.finish(l, delivered(s.one(l, sharedURI)))
	}
}
