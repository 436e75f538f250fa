package queuetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// repeatCases are about what is a duplicate: the bytes of the newest pending for the inbox with its ordering key.
var repeatCases = []testCase{
	{name: "counts duplicates while they are pending", run: duplicates},
	{name: "knows duplicates by their bytes, inbox and ordering key", run: notDuplicates},
	{name: "delivers what was done, undone and done again", run: followUndoFollow},
	{name: "delivers a deletion with the ID of what it deletes", run: deletesUnderTheSameID},
	{name: "delivers other bytes with the same ID", run: updatesUnderTheSameID},
	{name: "looks at what is being attempted", run: duplicatesInFlight},
	{name: "looks at what waits for its retry", run: duplicatesOfRetries},
	{name: "looks at what remains when the newest ends", run: duplicatesOfOlder},
	{name: "looks at each inbox", run: duplicatesByInbox},
	{name: "looks at what a restart found", run: duplicatesAfterRestart},
	{name: "looks at what was retried", run: duplicatesOfRevived},
	{name: "keeps each activity's counts", run: duplicatesCounted},
	{name: "delivers every call of an activity to one inbox each", run: oneInboxCalls, large: true},
	{name: "takes repeats that come at the same time once", run: duplicatesTogether},
}

// again is a new call with an activity as it was.
func again(sub *queue.Submission, inboxes ...string) *queue.Submission {
	s := submission(sub.URI, inboxes...)
	id, idem := s.ID, s.Idempotency
	recipients := s.Recipients
	*s = *sub
	s.ID = id
	s.Idempotency = idem
	s.Recipients = recipients
	return s
}

// got checks what became of a submission.
func (s *suite) got(sub *queue.Submission, accepted, duplicates int) {
	s.t.Helper()
	r := s.enqueue(sub)
	s.same("accepted and duplicates of "+sub.URI, []int{accepted, duplicates}, []int{r.Accepted, r.Duplicates})
}

func duplicates(s *suite) {
	const uri = "https://app.example/a/1"
	first := s.put(uri, "a.example", alsoTo("b.example"))
	second := submission(uri, "b.example", "c.example", "a.example")
	r := s.enqueue(second)
	s.same("receipt", queue.Receipt{ID: second.ID, URI: uri, Accepted: 1, Duplicates: 2}, r)
	s.counts(second.ID, queue.Counts{Pending: 1})

	third := submission(uri, "a.example")
	r = s.enqueue(third)
	s.same("receipt of duplicates only", queue.Receipt{ID: third.ID, URI: uri, Duplicates: 1}, r)
	s.counts(third.ID, queue.Counts{})

	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, uri)))
	l = s.lease("b.example")
	s.finish(l, dead(s.one(l, uri), queue.ReasonRejected))
	s.put(uri, "a.example", alsoTo("b.example")) // neither is pending any more
	s.counts(first, queue.Counts{Delivered: 1, Dead: 1})
}

func notDuplicates(s *suite) {
	s.put("https://app.example/a/1", "https://a.example/users/alice/inbox")
	s.put("https://app.example/a/1", "https://a.example/users/bob/inbox")
	s.put("https://app.example/a/2", "https://a.example/users/bob/inbox")
	s.put("https://app.example/a/1", "https://a.example/users/bob/inbox", ordering("other"))
	s.same("pending", 4, s.host("a.example").Pending)
}

// relation is an activity about a relation of two actors: each is of the ordering key of that relation.
func relation(uri string) *queue.Submission {
	sub := submission(uri, "a.example")
	sub.OrderingKey = "alice follows bob"
	return sub
}

func followUndoFollow(s *suite) {
	for _, pause := range []bool{true, false} {
		if pause {
			s.pause("a.example")
		}
		s.got(relation("follow"), 1, 0)
		s.got(relation("follow"), 0, 1)
		s.got(relation("undo"), 1, 0)
		s.got(relation("undo"), 0, 1)
		s.got(relation("follow"), 1, 0)
		s.got(relation("follow"), 0, 1)
		s.act("a.example", queue.Resume)
		s.inOrder("a.example", "follow", "undo", "follow")
	}
}

func deletesUnderTheSameID(s *suite) {
	s.pause("a.example")
	create := submissionOf("note", "a.example", role(queue.Makes))
	deletion := submissionOf("note", "a.example", role(queue.Deletes))
	deletion.Body = []byte(`{"id":"note","type":"Delete"}`)
	s.got(create, 1, 0)
	s.got(deletion, 1, 0)
	s.got(again(deletion, "a.example"), 0, 1)
	s.act("a.example", queue.Resume)
	l := s.lease("a.example")
	for _, want := range []*queue.Submission{create, deletion} {
		d := s.one(l, "note")
		s.same("body", string(want.Body), string(d.Activity.Body))
		s.settle(l, delivered(d))
	}
}

func updatesUnderTheSameID(s *suite) {
	s.pause("a.example")
	texts := []string{"one", "two", "one"}
	for _, text := range texts {
		sub := relation("update")
		sub.Body = []byte(text)
		s.got(sub, 1, 0)
		s.got(again(sub, "a.example"), 0, 1)
	}
	s.act("a.example", queue.Resume)
	l := s.lease("a.example")
	for _, text := range texts {
		d := s.one(l, "update")
		s.same("body", text, string(d.Activity.Body))
		s.settle(l, delivered(d))
	}
}

func duplicatesInFlight(s *suite) {
	s.got(relation("follow"), 1, 0)
	l := s.lease("a.example")
	d := s.one(l, "follow")
	s.got(relation("follow"), 0, 1)
	s.got(relation("undo"), 1, 0)
	s.got(relation("follow"), 1, 0)
	s.take(l)
	s.finish(l, delivered(d))
	s.inOrder("a.example", "undo", "follow")
	s.got(relation("follow"), 1, 0)
}

func duplicatesOfRetries(s *suite) {
	s.got(relation("follow"), 1, 0)
	l := s.lease("a.example")
	s.finish(l, retry(s.one(l, "follow"), time.Hour))
	s.got(relation("follow"), 0, 1)
	s.putKey("other")
	s.put("waits", "b.example", func(sub *queue.Submission) { sub.KeyID = "missing" })
	l = s.lease("b.example")
	s.finish(l, waitKey(s.one(l, "waits")))
	waits := submission("waits", "b.example")
	waits.KeyID = "missing"
	s.got(waits, 0, 1)
}

func duplicatesOfOlder(s *suite) {
	s.pause("a.example")
	s.got(relation("follow"), 1, 0)
	undo := relation("undo")
	s.got(undo, 1, 0)
	s.cancel(undo.ID)
	s.got(relation("follow"), 0, 1)
	s.got(again(undo, "a.example"), 1, 0)
	s.act("a.example", queue.Resume)
	s.inOrder("a.example", "follow", "undo")
}

func duplicatesByInbox(s *suite) {
	const one, two, three = "https://a.example/1", "https://a.example/2", "https://a.example/3"
	follow, undo := relation("follow"), relation("undo")
	s.pause("a.example")
	s.got(again(follow, one, two, three), 3, 0)
	s.got(again(undo, two), 1, 0)
	s.got(again(follow, one, two, three), 1, 2)
	s.got(again(undo, one, two, three), 3, 0)
	s.act("a.example", queue.Resume)
	order := map[string][]string{}
	l := s.lease("a.example")
	for ds := s.turn(l, 100).Deliveries; len(ds) > 0; ds = s.turn(l, 100).Deliveries {
		for _, d := range ds {
			order[d.Inbox] = append(order[d.Inbox], d.Activity.URI)
			s.settle(l, delivered(d))
		}
	}
	s.same("what each inbox got", map[string][]string{
		one: {"follow", "undo"}, two: {"follow", "undo", "follow", "undo"}, three: {"follow", "undo"},
	}, order)
}

func duplicatesAfterRestart(s *suite) {
	s.pause("a.example")
	s.got(relation("follow"), 1, 0)
	s.got(relation("undo"), 1, 0)
	s.reopen()
	s.got(relation("undo"), 0, 1)
	s.got(relation("follow"), 1, 0)
	s.reopen()
	s.got(relation("follow"), 0, 1)
	s.act("a.example", queue.Resume)
	s.inOrder("a.example", "follow", "undo", "follow")
}

func duplicatesOfRevived(s *suite) {
	s.got(relation("follow"), 1, 0)
	l := s.lease("a.example")
	s.finish(l, dead(s.one(l, "follow"), queue.ReasonExhausted))
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
	s.got(relation("follow"), 0, 1)
	l = s.lease("a.example")
	s.finish(l, dead(s.one(l, "follow"), queue.ReasonExhausted))
	s.pause("a.example")
	s.got(relation("undo"), 1, 0)
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
	s.got(relation("undo"), 0, 1) // it stays the newest
	s.got(relation("follow"), 1, 0)
	s.act("a.example", queue.Resume)
	s.inOrder("a.example", "follow", "undo", "follow")
}

func duplicatesCounted(s *suite) {
	s.pause("a.example", "b.example")
	first, second := relation("follow"), relation("follow")
	second.Recipients = append(second.Recipients, recipient("b.example"))
	s.got(first, 1, 0)
	s.got(second, 1, 1)
	s.counts(first.ID, queue.Counts{Pending: 1})
	s.counts(second.ID, queue.Counts{Pending: 1})
	s.cancel(first.ID)
	s.counts(first.ID, queue.Counts{Cancelled: 1})
	s.counts(second.ID, queue.Counts{Pending: 1})
	s.act("b.example", queue.Resume)
	d := s.one(s.lease("b.example"), "follow")
	s.same("activity", second.ID, d.Activity.ID)
}

func oneInboxCalls(s *suite) {
	first := relation("announce")
	const n = 300
	for i := range n {
		s.got(again(first, fmt.Sprintf("https://a.example/%d", i)), 1, 0)
	}
	s.got(again(first, "https://a.example/0", "https://a.example/299", "https://a.example/300"), 1, 2)
	l := s.lease("a.example")
	got := map[string]bool{}
	var results []queue.Result
	for _, d := range s.turn(l, n+10).Deliveries {
		s.same("body", string(first.Body), string(d.Activity.Body))
		got[d.Inbox] = true
		results = append(results, delivered(d))
	}
	s.same("inboxes", n+1, len(got))
	s.finish(l, results...)
	s.same("pending", 0, s.host("a.example").Pending)
}

func duplicatesTogether(s *suite) {
	s.pause("a.example")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var sum queue.Receipt
	for range 12 {
		wg.Go(func() {
			r, err := queue.Receipt{}, queue.ErrUnderWay
			for end := time.Now().Add(time.Minute); errors.Is(err, queue.ErrUnderWay) && time.Now().Before(end); { // as an app does
				sub := relation("follow")
				sub.Idempotency, sub.ID = queue.Idempotency{}, uuid.Must(uuid.NewV7()).String()
				r, err = s.Enqueue(s.t.Context(), sub)
			}
			if err != nil {
				s.t.Errorf("Enqueue: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			sum.Accepted += r.Accepted
			sum.Duplicates += r.Duplicates
		})
	}
	wg.Wait()
	s.same("accepted and duplicates", []int{1, 11}, []int{sum.Accepted, sum.Duplicates})
	s.act("a.example", queue.Resume)
	s.inOrder("a.example", "follow")
}
