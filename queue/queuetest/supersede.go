package queuetest

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/queue"
)

var supersedeCases = []testCase{
	{name: "cancels what a deletion makes needless", run: supersedes},
	{name: "cancels nothing else", run: supersedesNothingElse},
	{name: "cancels nothing that was attempted", run: supersedesUntried},
	{name: "cancels only where it goes", run: supersedesWhereItGoes},
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

func supersedes(s *suite) {
	create := s.put("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	update := s.put("update", "a.example", role(queue.Makes))
	sub := deletion("delete", "a.example", "b.example")
	want := queue.Receipt{ID: sub.ID, URI: "delete", Accepted: 2, Superseded: 3}
	s.same("receipt", want, s.enqueue(sub))
	s.counts(create, queue.Counts{Cancelled: 2})
	s.counts(update, queue.Counts{Cancelled: 1})
	for _, host := range []string{"a.example", "b.example"} {
		s.same("pending of "+host, 1, s.host(host).Pending)
		d := s.one(s.lease(host), "delete")
		s.same("role", queue.Deletes, d.Activity.Role)
	}
	want.Replayed = true
	s.same("second receipt", want, s.enqueue(sub))
	s.put("create", "a.example", role(queue.Makes)) // it is not pending any more, so no duplicate
}

func supersedesNothingElse(s *suite) {
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
	s.put("update", retried, role(queue.Makes))
	s.same("superseded", 2, s.enqueue(deletion("delete", retried, deferredTo, taken, untouched)).Superseded)
	s.counts(id, queue.Counts{Pending: 3, Cancelled: 1})
	s.take(c) // the deletion waits behind what is being attempted
}

func supersedesWhereItGoes(s *suite) {
	id := s.put("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	s.act("c.example", queue.Block)
	s.same("superseded", 1, s.enqueue(deletion("delete", "a.example", "c.example")).Superseded)
	s.counts(id, queue.Counts{Pending: 1, Cancelled: 1})
	s.one(s.lease("b.example"), "create")
}

func supersedesRemembered(s *suite) {
	id := s.put("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	l := s.lease("b.example")
	r := deferred(s.one(l, "create"), time.Hour)
	r.Attempt = attempt("throttled", 429)
	s.finish(l, r)
	s.reopen()
	sub := deletion("delete", "a.example", "b.example")
	s.same("superseded", 1, s.enqueue(sub).Superseded)
	s.reopen()
	s.counts(id, queue.Counts{Pending: 1, Cancelled: 1})
	s.same("superseded in the second receipt", 1, s.enqueue(sub).Superseded)
	s.one(s.lease("a.example"), "delete")
}
