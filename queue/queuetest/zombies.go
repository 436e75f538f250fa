package queuetest

import "github.com/postrider/postrider/queue"

// The cases of tombstones and dead letters, a part of tombstoneCases.

// buryAbout makes a dead letter of what an activity does to the note, and returns its ID.
func (s *suite) buryAbout(uri, host string, r queue.Role) string {
	s.t.Helper()
	id := s.put(uri, host, role(r))
	l := s.lease(host)
	s.finish(l, dead(s.one(l, uri), queue.ReasonExhausted))
	return id
}

func retriesNoZombies(s *suite) {
	create := s.buryAbout("create", "a.example", queue.Makes)
	s.buryAbout("update", "a.example", queue.Other)
	s.buryAbout("undo", "a.example", queue.Restores)
	s.buryAbout("delete", "a.example", queue.Deletes)
	s.put("delete again", "d.example", role(queue.Deletes))
	s.buryAbout("create again", "b.example", queue.Makes)
	s.bury("other", "c.example", queue.ReasonExhausted)
	dry := s.retryDead(queue.DeadLetterChoice{DryRun: true})
	s.same("count in a dry run", queue.DeadLetterCount{Matched: 6}, dry)
	s.same("count", queue.DeadLetterCount{Matched: 6, Done: 3, Superseded: 3}, s.retryDead(queue.DeadLetterChoice{}))
	s.counts(create, queue.Counts{Dead: 1})
	s.inOrder("a.example", "delete")
	s.inOrder("b.example", "create again")
	s.inOrder("c.example", "other")
	s.same("dead letters", 3, len(s.letters(queue.DeadLetterFilter{Host: "a.example"})))
	s.same("count once more", queue.DeadLetterCount{Matched: 3, Superseded: 3}, s.retryDead(queue.DeadLetterChoice{}))
	s.same("count of those deleted", done(3), s.deleteDead(queue.DeadLetterChoice{}))
}

func retriesNoZombiesByID(s *suite) {
	s.buryAbout("create", "a.example", queue.Makes)
	s.put("delete", "b.example", role(queue.Deletes))
	s.act("a.example", queue.Block)
	ids := s.letterIDs("create")
	got := s.retryDead(queue.DeadLetterChoice{IDs: ids})
	s.same("matched and done", []int{1, 0}, []int{got.Matched, got.Done})
	s.act("a.example", queue.Unblock)
	s.same("count", queue.DeadLetterCount{Matched: 1, Superseded: 1}, s.retryDead(queue.DeadLetterChoice{IDs: ids}))
	s.take(s.lease("a.example"))
}

func leftByDuplicates(s *suite) {
	s.pause("b.example")
	s.put("delete", "b.example", role(queue.Deletes))
	s.buryAbout("create", "a.example", queue.Makes)
	r := s.enqueue(submissionOf("delete", "b.example", role(queue.Deletes)))
	s.same("accepted and duplicates", []int{0, 1}, []int{r.Accepted, r.Duplicates})
	s.same("count", queue.DeadLetterCount{Matched: 1, Superseded: 1}, s.retryDead(queue.DeadLetterChoice{}))
}

func notLeftWhereRefused(s *suite) {
	s.buryAbout("create", "a.example", queue.Makes)
	s.act("b.example", queue.Block)
	r := s.enqueue(submissionOf("delete", "b.example", role(queue.Deletes)))
	s.same("ID", "", r.ID)
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
}
