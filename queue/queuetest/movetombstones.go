package queuetest

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/queue"
)

// moveSupersedes moves what a deletion supersedes, before and after it was moved.
func moveSupersedes(from, to *suite) {
	create := from.waited("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	tried := from.waited("tried", "c.example", role(queue.Makes))
	l := from.lease("c.example")
	from.finish(l, retry(from.one(l, "tried"), 0))
	from.put("delete", "a.example", role(queue.Deletes), alsoTo("c.example"))
	from.move(to)
	d := to.one(to.lease("a.example"), "delete")
	to.same("role and object", []any{queue.Deletes, theNote}, []any{d.Activity.Role, d.Activity.Object})
	to.take(to.lease("b.example"))
	to.counts(create, queue.Counts{Cancelled: 2})
	to.inOrder("c.example", "tried", "delete")
	to.counts(tried, queue.Counts{Delivered: 1})
}

// moveTombstones moves tombstones with and without their deletions, and what was accepted before and after them.
func moveTombstones(from, to *suite) {
	const second, third = "https://app.example/notes/2", "https://app.example/notes/3"
	began := time.Now()
	buryFor := func(uri, object string, r queue.Role) {
		from.put(uri, "a.example", about(object, r))
		l := from.lease("a.example")
		from.finish(l, dead(from.one(l, uri), queue.ReasonExhausted))
	}
	buryFor("create", theNote, queue.Makes)
	buryFor("create 2", second, queue.Makes)
	buryFor("create 3", third, queue.Makes)
	for i, object := range []string{theNote, second, third} {
		from.put(fmt.Sprintf("delete %d", i+1), "b.example", about(object, queue.Deletes))
		from.inOrder("b.example", fmt.Sprintf("delete %d", i+1))
	}
	from.put("undo 3", "b.example", about(third, queue.Restores))
	from.inOrder("b.example", "undo 3")
	time.Sleep(10 * time.Millisecond)
	buryFor("create again", theNote, queue.Makes)
	records := from.move(to)
	var got []queue.MovedTombstone
	for _, r := range records {
		if r.Tombstone != nil {
			from.moved("created", began, began, r.Tombstone.CreatedAt)
			got = append(got, queue.MovedTombstone{Object: r.Tombstone.Object, Deletion: r.Tombstone.Deletion})
		}
	}
	from.same("tombstones", []queue.MovedTombstone{{Object: theNote, Deletion: "delete 1"}, {Object: second, Deletion: "delete 2"}}, got)
	to.sameRecords(records, to.export())
	to.load(records, 0)
	to.same("count", queue.DeadLetterCount{Matched: 4, Done: 2, Superseded: 2}, to.retryDead(queue.DeadLetterChoice{}))
	to.take(to.lease("a.example"), "create 3", "create again")
	to.put("undo 2", "b.example", undoes("delete 2"))
	to.same("count", queue.DeadLetterCount{Matched: 2, Done: 1, Superseded: 1}, to.retryDead(queue.DeadLetterChoice{}))
	to.put("undo 1", "b.example", about(theNote, queue.Restores))
	to.same("count", done(1), to.retryDead(queue.DeadLetterChoice{}))
}

func moveRepeats(from, to *suite) {
	from.pause("a.example")
	from.got(relation("follow"), 1, 0)
	from.got(relation("undo"), 1, 0)
	from.got(again(relation("follow"), "https://a.example/other"), 1, 0)
	from.got(again(relation("follow"), "b.example"), 1, 0)
	from.orderedBy("alice follows bob", submissionOf("accept", "c.example", refers("follow")))
	from.move(to)
	to.got(again(relation("follow"), "https://a.example/other", "b.example"), 0, 2)
	to.got(relation("undo"), 0, 1)
	to.orderedBy("alice follows bob", submissionOf("accept too", "c.example", refers("follow")))
	l := to.lease("b.example")
	to.finish(l, delivered(to.one(l, "follow")))
	to.act("a.example", queue.Resume)
	ds := to.inboxesOf(to.turn(to.lease("a.example"), 10).Deliveries)
	to.same("inboxes", 2, len(ds))
	for _, d := range ds {
		to.same("body", string(relation("follow").Body), string(d.Activity.Body))
	}
}
