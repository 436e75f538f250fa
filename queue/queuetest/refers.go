package queuetest

import (
	"github.com/postrider/postrider/queue"
)

// referCases are about activities that take the ordering key of the one they refer to.
var referCases = []testCase{
	{name: "stays behind what it refers to", run: refersToPending},
	{name: "stays behind what is being attempted", run: refersToTaken},
	{name: "keeps its own key where nothing pends", run: refersToNothing},
	{name: "keeps the key that it was given", run: refersWithKey},
	{name: "takes the key of the newest", run: refersToNewest},
	{name: "takes it wherever that one goes", run: refersAcrossHosts},
	{name: "takes it of what takes another's", run: refersToReference},
	{name: "takes it of what a restart found and what was retried", run: refersAfterRestart},
}

// refers has an activity refer to another, by whose URI it is ordered for want of better.
func refers(uri string) func(*queue.Submission) {
	return func(s *queue.Submission) { s.Refers, s.OrderingKey = uri, uri }
}

// orderedBy stores an activity and checks its ordering key.
func (s *suite) orderedBy(want string, sub *queue.Submission) {
	s.t.Helper()
	s.got(sub, len(sub.Recipients), 0)
	for _, r := range s.export() {
		if r.Activity != nil && r.Activity.ID == sub.ID {
			s.same("ordering key of "+sub.URI, want, r.Activity.OrderingKey)
			return
		}
	}
	s.t.Errorf("%s is not exported", sub.URI)
}

func refersToPending(s *suite) {
	s.pause("a.example")
	s.got(relation("follow"), 1, 0)
	s.orderedBy("alice follows bob", submissionOf("undo", "a.example", refers("follow")))
	s.got(submissionOf("undo", "a.example", refers("follow")), 0, 1)
	s.got(relation("follow"), 1, 0)
	s.act("a.example", queue.Resume)
	l := s.lease("a.example")
	s.settle(l, retry(s.one(l, "follow"), 0))
	s.settle(l, delivered(s.one(l, "follow")))
	d := s.one(l, "undo")
	s.same("ordering key", "alice follows bob", d.Activity.OrderingKey)
	s.settle(l, delivered(d))
	s.one(l, "follow")
}

func refersToTaken(s *suite) {
	s.got(relation("follow"), 1, 0)
	l := s.lease("a.example")
	d := s.one(l, "follow")
	s.orderedBy("alice follows bob", submissionOf("undo", "a.example", refers("follow")))
	s.take(l)
	s.finish(l, delivered(d))
	s.inOrder("a.example", "undo")
}

func refersToNothing(s *suite) {
	s.orderedBy("follow", submissionOf("early", "a.example", refers("follow")))
	s.inOrder("a.example", "early")
	s.got(relation("follow"), 1, 0)
	s.inOrder("a.example", "follow")
	s.orderedBy("follow", submissionOf("late", "a.example", refers("follow")))
	cancelled := relation("cancelled")
	s.got(cancelled, 1, 0)
	s.cancel(cancelled.ID)
	s.orderedBy("cancelled", submissionOf("undo", "a.example", refers("cancelled")))
	s.put("buried", "b.example", ordering("key"))
	l := s.lease("b.example")
	s.finish(l, dead(s.one(l, "buried"), queue.ReasonGone))
	s.orderedBy("buried", submissionOf("undo buried", "b.example", refers("buried")))
}

func refersWithKey(s *suite) {
	s.pause("a.example")
	s.got(relation("follow"), 1, 0)
	s.orderedBy("mine", submissionOf("undo", "a.example", refers("follow"), ordering("mine")))
	s.orderedBy("undo too", submissionOf("undo too", "a.example", func(sub *queue.Submission) { sub.Refers = "follow" }))
}

func refersToNewest(s *suite) {
	s.pause("a.example", "b.example")
	older := submissionOf("same", "a.example", ordering("older"))
	newer := submissionOf("same", "b.example", ordering("newer"))
	s.got(older, 1, 0)
	s.got(newer, 1, 0)
	s.orderedBy("newer", submissionOf("undo 1", "c.example", refers("same")))
	s.cancel(newer.ID)
	s.orderedBy("older", submissionOf("undo 2", "c.example", refers("same")))
	s.cancel(older.ID)
	s.orderedBy("same", submissionOf("undo 3", "c.example", refers("same")))
}

func refersAcrossHosts(s *suite) {
	names := hosts("h", 12)
	s.pause(names...)
	sub := relation("follow")
	sub.Recipients = []queue.Recipient{recipient(names[0])}
	s.got(sub, 1, 0)
	undo := submissionOf("undo", names[1], refers("follow"), alsoTo(names[2:]...))
	s.orderedBy("alice follows bob", undo)
	for _, host := range names[1:] {
		s.put("next "+host, host, ordering("alice follows bob"))
		s.act(host, queue.Resume)
		s.inOrder(host, "undo", "next "+host)
	}
}

func refersToReference(s *suite) {
	s.pause("a.example")
	s.got(relation("follow"), 1, 0)
	s.orderedBy("alice follows bob", submissionOf("undo", "a.example", refers("follow")))
	s.orderedBy("alice follows bob", submissionOf("undo the undo", "a.example", refers("undo")))
}

func refersAfterRestart(s *suite) {
	s.put("newer", "b.example", ordering("later"))
	s.got(relation("follow"), 1, 0)
	l := s.lease("a.example")
	s.finish(l, dead(s.one(l, "follow"), queue.ReasonGone))
	s.pause("c.example")
	s.got(submissionOf("follow", "c.example", ordering("newest")), 1, 0)
	s.pause("a.example")
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
	s.orderedBy("newest", submissionOf("undo 1", "d.example", refers("follow")))
	s.reopen()
	s.orderedBy("newest", submissionOf("undo 2", "d.example", refers("follow")))
	s.act("c.example", queue.Block)
	s.orderedBy("alice follows bob", submissionOf("undo 3", "d.example", refers("follow")))
	s.orderedBy("later", submissionOf("undo 4", "d.example", refers("newer")))
}
