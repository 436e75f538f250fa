package queuetest

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var supersedeCases = []testCase{
	{name: "cancels what a deletion makes needless", run: supersedes},
	{name: "cancels where a host gets nothing", run: supersedesInSilence},
	{name: "cancels nothing where a host gets all", run: supersedesNothingSpoken},
	{name: "cancels nothing else", run: supersedesNothingElse},
	{name: "cancels nothing that was attempted", run: supersedesUntried},
	{name: "cancels only where it goes", run: supersedesWhereItGoes},
	{name: "cancels nothing where it is refused", run: supersedesNotRefused},
	{name: "remembers what may be cancelled", run: supersedesRemembered},
}

// role gives an activity a role about the note that all cases are about.
func role(r queue.Role) func(*queue.Submission) {
	return func(s *queue.Submission) { s.Role, s.OrderingKey = r, "https://app.example/notes/1" }
}

// deletion deletes that note.
func deletion(uri string, inboxes ...string) *queue.Submission {
	sub := submission(uri, inboxes...)
	role(queue.Deletes)(sub)
	return sub
}

// pause pauses hosts: what pends for them may be superseded.
func (s *suite) pause(hosts ...string) {
	s.t.Helper()
	for _, host := range hosts {
		s.act(host, queue.Pause)
	}
}

// resumed takes what there is for a host that was paused.
func (s *suite) resumed(host, uri string) queue.Delivery {
	s.t.Helper()
	s.act(host, queue.Resume)
	return s.one(s.lease(host), uri)
}

func supersedes(s *suite) {
	s.pause("a.example", "b.example")
	create := s.put("create", "a.example", role(queue.Makes), alsoTo("b.example", "https://b.example/users/bob/inbox"))
	sub := deletion("delete", "a.example", "b.example")
	want := queue.Receipt{ID: sub.ID, URI: "delete", Accepted: 2, Superseded: 3}
	s.same("receipt", want, s.enqueue(sub))
	s.counts(create, queue.Counts{Cancelled: 3})
	st := s.stats()
	s.same("pending, dead and delivered", []int64{2, 0, 0}, []int64{int64(st.Pending), int64(st.Dead), st.Delivered})
	for _, host := range []string{"a.example", "b.example"} {
		s.same("pending of "+host, 1, s.host(host).Pending)
		s.same("role", queue.Deletes, s.resumed(host, "delete").Activity.Role)
	}
	want.Replayed = true
	s.same("second receipt", want, s.enqueue(sub))
	s.put("create", "a.example", role(queue.Makes)) // it is not pending any more, so no duplicate
}

// sick is what a host is like that failed.
func sick(state breaker.State, unavailable bool) *queue.HostRecord {
	r := failing(state)
	r.Unavailable = unavailable
	return &r
}

// lasts has a lane be as a settlement says, and time pass.
func (s *suite) lasts(host string, st queue.Settlement, pass time.Duration) {
	s.t.Helper()
	st.Release = true
	s.settlement(s.takeNothing(host), st)
	time.Sleep(pass)
}

func supersedesInSilence(s *suite) {
	for host, st := range map[string]queue.Settlement{
		"throttled.example":   {Wait: time.Hour},
		"open.example":        {Wait: time.Hour, Host: sick(breaker.Open, false)},
		"half-open.example":   {Host: sick(breaker.Open, false)},
		"unavailable.example": {Wait: time.Hour, Host: sick(breaker.Closed, true)},
		"its-probe.example":   {Host: sick(breaker.Closed, true)},
	} {
		create := s.put("create", host, role(queue.Makes))
		s.lasts(host, st, 0)
		sub := deletion("delete", host)
		sub.Priority = queue.High // or it would be refused where the host was given up
		s.same("superseded at "+host, 1, s.enqueue(sub).Superseded)
		s.counts(create, queue.Counts{Cancelled: 1})
		s.act(host, queue.Reset)
		s.one(s.lease(host), "delete")
	}
}

func supersedesNothingSpoken(s *suite) {
	does := func(actions ...queue.HostAction) func(host string) {
		return func(host string) {
			for _, a := range actions {
				s.act(host, a)
			}
		}
	}
	settles := func(st queue.Settlement, pass time.Duration) func(host string) {
		return func(host string) { s.lasts(host, st, pass) }
	}
	for host, before := range map[string]func(host string){
		"new.example":     does(),
		"resumed.example": does(queue.Pause, queue.Resume),
		"healthy.example": settles(queue.Settlement{Host: &queue.HostRecord{}}, 0),
		"failing.example": settles(queue.Settlement{Host: sick(breaker.Closed, false)}, 0),
		"waited.example":  settles(queue.Settlement{Wait: second}, passing),
		"reset.example": func(host string) {
			s.lasts(host, queue.Settlement{Wait: time.Hour, Host: sick(breaker.Open, true)}, 0)
			s.act(host, queue.Reset)
		},
	} {
		create := s.put("create", host, role(queue.Makes))
		before(host)
		s.same("superseded at "+host, 0, s.enqueue(deletion("delete", host)).Superseded)
		s.counts(create, queue.Counts{Pending: 1})
		l := s.lease(host)
		s.settle(l, delivered(s.one(l, "create")))
		s.one(l, "delete")
	}
}

func supersedesNothingElse(s *suite) {
	s.pause("a.example")
	kept := []string{
		s.put("other key", "a.example", role(queue.Makes), ordering("https://app.example/notes/2")),
		s.put("other role", "a.example", role(queue.Other)),
		s.put("deletion", "a.example", role(queue.Deletes)),
	}
	for i, r := range []queue.Role{queue.Makes, queue.Other, queue.Makes} {
		sub := submission(fmt.Sprintf("more %d", i), "a.example")
		role(r)(sub)
		s.same("superseded", 0, s.enqueue(sub).Superseded)
	}
	s.same("superseded", 2, s.enqueue(deletion("delete", "a.example")).Superseded) // those that Make, just now
	for _, id := range kept {
		s.counts(id, queue.Counts{Pending: 1})
	}
}

func supersedesUntried(s *suite) {
	const retried, deferredTo, taken, untouched = "retried.example", "throttled.example", "taken.example", "untouched.example"
	id := s.put("create", retried, role(queue.Makes), alsoTo(deferredTo, taken, untouched))
	a, b, c, d := s.lease(retried), s.lease(deferredTo), s.lease(taken), s.lease(untouched)
	s.finish(a, retry(s.one(a, "create"), time.Hour))
	r := deferred(s.one(b, "create"), time.Hour)
	r.Attempt = attempt("throttled", 429)
	s.finish(b, r)
	s.one(c, "create")
	s.one(d, "create")
	s.finish(d) // handed back, as if it had not been taken
	s.pause(retried, deferredTo, taken, untouched)
	s.put("again", retried, role(queue.Makes))
	s.same("superseded", 2, s.enqueue(deletion("delete", retried, deferredTo, taken, untouched)).Superseded)
	s.counts(id, queue.Counts{Pending: 3, Cancelled: 1})
	s.act(taken, queue.Resume)
	s.take(c) // the deletion waits behind what is being attempted
}

func supersedesWhereItGoes(s *suite) {
	s.pause("a.example", "b.example")
	id := s.put("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	s.act("c.example", queue.Block)
	s.same("superseded", 1, s.enqueue(deletion("delete", "a.example", "c.example")).Superseded)
	s.counts(id, queue.Counts{Pending: 1, Cancelled: 1})
	s.resumed("b.example", "create")
}

func supersedesNotRefused(s *suite) {
	id := s.put("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	s.pause("a.example")
	s.giveUp("b.example", time.Hour)
	r := s.enqueue(deletion("delete", "a.example", "b.example"))
	s.same("accepted, refused and superseded", []int{1, 1, 1}, []int{r.Accepted, len(r.Refused), r.Superseded})
	s.counts(id, queue.Counts{Pending: 1, Cancelled: 1})
	s.same("what is kept for the probe", 1, s.host("b.example").Pending)
}

func supersedesRemembered(s *suite) {
	id := s.put("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	l := s.lease("b.example")
	r := deferred(s.one(l, "create"), time.Hour)
	r.Attempt = attempt("throttled", 429)
	s.finish(l, r)
	s.pause("a.example", "b.example")
	s.reopen()
	sub := deletion("delete", "a.example", "b.example")
	s.same("superseded", 1, s.enqueue(sub).Superseded)
	s.reopen()
	s.counts(id, queue.Counts{Pending: 1, Cancelled: 1})
	s.same("superseded in the second receipt", 1, s.enqueue(sub).Superseded)
	s.resumed("a.example", "delete")
}
