package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

var retryCases = []testCase{
	{name: "makes dead letters pending again", run: retriesDead},
	{name: "takes only those chosen", run: retriesChosen},
	{name: "takes IDs", run: retriesIDs},
	{name: "only counts in a dry run", run: retriesDry},
	{name: "gives a new TTL", run: retriesTTL},
	{name: "keeps the activity while it pends", run: retriesKept, days: true, opts: limits(queue.Limits{Retention: 48 * time.Hour})},
	{name: "opens a finished activity again", run: retriesFinished},
	{name: "makes them as old as they were", run: retriesOld, opts: limits(queue.Limits{Lane: 2})},
	{name: "leaves what goes to a host that takes nothing", run: retriesNotRefused},
	{name: "takes many", run: retriesMany},
	{name: "is remembered", run: retriesRemembered},
}

var deleteCases = []testCase{
	{name: "drops the dead letters chosen", run: deletesDead},
	{name: "drops those of IDs", run: deletesIDs},
	{name: "only counts in a dry run", run: deletesDry},
	{name: "drops many", run: deletesMany},
	{name: "lets activities go", run: deletesForGood, days: true, opts: limits(queue.Limits{Retention: 48 * time.Hour})},
}

func (s *suite) retryDead(which queue.DeadLetterChoice) queue.DeadLetterCount {
	s.t.Helper()
	n, err := s.RetryDead(s.t.Context(), which, ttl)
	if err != nil {
		s.t.Fatalf("RetryDead(%+v): %v", which, err)
	}
	return n
}

func (s *suite) deleteDead(which queue.DeadLetterChoice) queue.DeadLetterCount {
	s.t.Helper()
	n, err := s.DeleteDead(s.t.Context(), which)
	if err != nil {
		s.t.Fatalf("DeleteDead(%+v): %v", which, err)
	}
	return n
}

// done is the count when it was done with all that were meant.
func done(n int) queue.DeadLetterCount { return queue.DeadLetterCount{Matched: n, Done: n} }

func retriesDead(s *suite) {
	sub := submission("https://app.example/a/1", "a.example", "b.example")
	sub.OrderingKey = "https://app.example/notes/1"
	sub.Priority = queue.High
	sub.Role = queue.Makes
	sub.Object = "https://app.example/notes/1"
	sub.Final = []int{401, 410}
	sub.Pin = "SHA256:abc"
	sub.Recipients[0].Headers = []queue.Header{{Name: "X-Test", Value: "1"}}
	s.enqueue(sub)
	l := s.lease("a.example")
	d := s.one(l, sub.URI)
	s.finish(l, retry(d, 0))
	l = s.lease("a.example")
	s.finish(l, dead(s.one(l, sub.URI), queue.ReasonExhausted))
	s.offers("b.example")
	s.take(s.lease("b.example"), sub.URI) // so that it is not offered again
	s.drain()

	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
	s.woken("RetryDead")
	s.counts(sub.ID, queue.Counts{Pending: 2})
	s.same("dead letters", 0, len(s.letters(queue.DeadLetterFilter{})))
	st := s.stats()
	s.same("pending and dead", []int{2, 0}, []int{st.Pending, st.Dead})
	s.same("died", map[queue.Reason]int64{queue.ReasonExhausted: 1}, st.Died)
	listed := s.listed(sub.ID, queue.StatePending)["https://a.example/inbox"]
	s.same("ID and attempts listed", []any{d.ID, 0}, []any{listed.ID, listed.Attempts})
	s.near("next attempt", time.Now(), listed.NextAttemptAt)
	s.offers("a.example")
	l = s.lease("a.example")
	s.same("delivery", d, s.one(l, sub.URI))
	s.finish(l, delivered(d))
	s.counts(sub.ID, queue.Counts{Pending: 1, Delivered: 1})
	s.same("count of none", done(0), s.retryDead(queue.DeadLetterChoice{}))
}

func retriesChosen(s *suite) {
	s.bury("1", "a.example", queue.ReasonGone)
	s.bury("2", "a.example", queue.ReasonRejected)
	s.bury("3", "b.example", queue.ReasonRejected)
	time.Sleep(second / 2)
	since := time.Now().Add(s.b.Ahead)
	time.Sleep(second / 10)
	s.bury("4", "a.example", queue.ReasonRejected)
	choose := func(f queue.DeadLetterFilter) queue.DeadLetterChoice { return queue.DeadLetterChoice{Filter: f} }
	s.same("count of no reason", done(0), s.retryDead(choose(queue.DeadLetterFilter{Reason: queue.ReasonExpired})))
	s.same("count of all three", done(1), s.retryDead(choose(queue.DeadLetterFilter{
		Host: "a.example", Reason: queue.ReasonRejected, Since: since,
	})))
	s.take(s.lease("a.example"), "4")
	s.same("count of a host", done(2), s.retryDead(choose(queue.DeadLetterFilter{Host: "a.example"})))
	s.same("dead letters", []string{"3"}, letterURIs(s.letters(queue.DeadLetterFilter{})))
	s.same("count of a reason", done(1), s.retryDead(choose(queue.DeadLetterFilter{Reason: queue.ReasonRejected})))
}

// letterIDs are the IDs of the dead letters of activities.
func (s *suite) letterIDs(uris ...string) (ids []string) {
	s.t.Helper()
	for _, d := range s.letters(queue.DeadLetterFilter{}) {
		if slices.Contains(uris, d.URI) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// strangers are IDs that are no dead letters'.
func (s *suite) strangers() []string {
	pending := s.put("pending", "other.example")
	ids := []string{"", "nonsense", uuid.NewString() + ".0", pending + ".0", pending}
	for _, d := range s.letters(queue.DeadLetterFilter{}) {
		for _, id := range []string{d.ActivityID, d.ActivityID + ".1", d.ActivityID + ".99"} {
			if id != d.ID { // each has one recipient
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func retriesIDs(s *suite) {
	for _, uri := range []string{"1", "2", "3"} {
		s.bury(uri, "a.example", queue.ReasonGone)
	}
	ids := s.letterIDs("1", "3")
	n := s.retryDead(queue.DeadLetterChoice{IDs: append(s.strangers(), ids[0], ids[0], ids[1])})
	s.same("count", done(2), n)
	s.same("dead letters", []string{"2"}, letterURIs(s.letters(queue.DeadLetterFilter{})))
	s.take(s.lease("a.example"), "1", "3")
	s.same("count once more", done(0), s.retryDead(queue.DeadLetterChoice{IDs: ids}))
}

func retriesDry(s *suite) {
	s.bury("1", "a.example", queue.ReasonGone)
	s.bury("2", "b.example", queue.ReasonGone)
	for _, which := range []queue.DeadLetterChoice{{Filter: queue.DeadLetterFilter{Host: "a.example"}}, {IDs: s.letterIDs("1")}} {
		which.DryRun = true
		s.same("count", queue.DeadLetterCount{Matched: 1}, s.retryDead(which))
	}
	s.same("dead letters", 2, len(s.letters(queue.DeadLetterFilter{})))
}

func retriesTTL(s *suite) {
	id := s.put("1", "a.example", lasting(second))
	time.Sleep(passing)
	s.sweep()
	s.counts(id, queue.Counts{Dead: 1})
	n, err := s.RetryDead(s.t.Context(), queue.DeadLetterChoice{}, 2*second)
	s.is("RetryDead", err, nil)
	s.same("count", done(1), n)
	s.sweep()
	s.counts(id, queue.Counts{Pending: 1})
	time.Sleep(2*second + second/10)
	s.sweep()
	s.counts(id, queue.Counts{Dead: 1})
	s.same("died", map[queue.Reason]int64{queue.ReasonExpired: 2}, s.stats().Died)

	other := s.put("2", "b.example", alsoTo("c.example")) // which stays pending at one host
	l := s.lease("b.example")
	s.finish(l, dead(s.one(l, "2"), queue.ReasonGone))
	_, err = s.RetryDead(s.t.Context(), queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: "b.example"}}, second)
	s.is("RetryDead", err, nil)
	time.Sleep(passing)
	s.sweep()
	s.counts(other, queue.Counts{Dead: 1, Pending: 1})
}

func retriesKept(s *suite) {
	id := s.bury("1", "a.example", queue.ReasonGone)
	s.days(1)
	s.retryDead(queue.DeadLetterChoice{})
	l := s.lease("a.example")
	s.finish(l, retry(s.one(l, "1"), 65*time.Hour))
	s.days(2)
	s.counts(id, queue.Counts{Pending: 1})
	s.act("a.example", queue.Probe)
	l = s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.days(1)
	s.counts(id, queue.Counts{Delivered: 1})
	s.days(2)
	_, err := s.Activity(s.t.Context(), id)
	s.is("Activity after its retention", err, queue.ErrNotFound)
}

func retriesFinished(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example"))
	a, b := s.lease("a.example"), s.lease("b.example")
	s.finish(a, delivered(s.one(a, "1")))
	s.finish(b, dead(s.one(b, "1"), queue.ReasonGone))
	s.counts(id, queue.Counts{Delivered: 1, Dead: 1})
	s.retryDead(queue.DeadLetterChoice{})
	s.counts(id, queue.Counts{Delivered: 1, Pending: 1})
	s.same("duplicates", 1, s.enqueue(submission("1", "b.example")).Duplicates)
	b = s.lease("b.example")
	s.finish(b, delivered(s.one(b, "1")))
	s.counts(id, queue.Counts{Delivered: 2})
	s.put("1", "b.example")
}

func retriesOld(s *suite) {
	start := time.Now()
	s.bury("1", "a.example", queue.ReasonGone)
	time.Sleep(2 * second)
	s.put("2", "a.example")
	s.put("3", "a.example")
	s.near("oldest", start.Add(2*second), s.host("a.example").OldestPendingAt)
	s.retryDead(queue.DeadLetterChoice{})
	s.near("oldest", start, s.host("a.example").OldestPendingAt)
	s.near("oldest of all", start, s.stats().OldestPendingAt)
	s.sweep()
	s.buried(queue.ReasonLaneFull, "1")
}

func retriesNotRefused(s *suite) {
	s.bury("1", "blocked.example", queue.ReasonGone)
	s.bury("2", "sick.example", queue.ReasonGone)
	s.bury("3", "paused.example", queue.ReasonGone)
	s.act("blocked.example", queue.Block)
	s.act("paused.example", queue.Pause)
	s.unavailable("sick.example", time.Hour)
	s.same("count", queue.DeadLetterCount{Matched: 3, Done: 1}, s.retryDead(queue.DeadLetterChoice{}))
	s.same("count of IDs", queue.DeadLetterCount{Matched: 2}, s.retryDead(queue.DeadLetterChoice{IDs: s.letterIDs("1", "2")}))
	s.same("dead letters", 2, len(s.letters(queue.DeadLetterFilter{})))
	s.act("paused.example", queue.Resume)
	s.one(s.lease("paused.example"), "3")
}

// buryMany makes n dead letters of an activity, on ten hosts.
func (s *suite) buryMany(n int) string {
	s.t.Helper()
	names := hosts("many", 10)
	var inboxes []string
	for i := range n {
		inboxes = append(inboxes, fmt.Sprintf("https://%s/users/%d", names[i%10], i))
	}
	id := s.put("many", inboxes[0], alsoTo(inboxes[1:]...))
	for _, host := range names {
		s.act(host, queue.Block)
		s.act(host, queue.Unblock)
	}
	s.counts(id, queue.Counts{Dead: n})
	return id
}

func retriesMany(s *suite) {
	id := s.buryMany(1200)
	s.same("count", done(1200), s.retryDead(queue.DeadLetterChoice{}))
	s.counts(id, queue.Counts{Pending: 1200})
	s.same("pending", 120, s.host("many0003.example").Pending)
	s.offers(hosts("many", 10)...)
}

func retriesRemembered(s *suite) {
	s.row("a.example", []string{"1", "2"}, "1", "2", "3")
	s.bury("other", "b.example", queue.ReasonGone)
	s.retryDead(queue.DeadLetterChoice{})
	s.reopen()
	s.same("pending", 4, s.stats().Pending)
	s.inOrder("a.example", "1", "2", "3")
	s.same("attempts", 0, s.one(s.lease("b.example"), "other").Attempts)
}

func deletesDead(s *suite) {
	id := s.bury("1", "a.example", queue.ReasonGone)
	s.bury("2", "b.example", queue.ReasonGone)
	s.same("count", done(1), s.deleteDead(queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: "a.example"}}))
	s.same("dead letters", []string{"2"}, letterURIs(s.letters(queue.DeadLetterFilter{})))
	s.counts(id, queue.Counts{Dead: 1})
	s.same("dead deliveries listed", 0, len(s.listed(id, "")))
	st := s.stats()
	s.same("dead, dropped and died", []int64{1, 0, 2}, []int64{int64(st.Dead), st.Dropped, st.Died[queue.ReasonGone]})
	s.same("count of those to retry", done(1), s.retryDead(queue.DeadLetterChoice{}))
	s.take(s.lease("a.example"))
}

func deletesIDs(s *suite) {
	for _, uri := range []string{"1", "2", "3"} {
		s.bury(uri, "a.example", queue.ReasonGone)
	}
	ids := s.letterIDs("1", "3")
	s.same("count", done(2), s.deleteDead(queue.DeadLetterChoice{IDs: append(s.strangers(), ids...)}))
	s.same("dead letters", []string{"2"}, letterURIs(s.letters(queue.DeadLetterFilter{})))
}

func deletesDry(s *suite) {
	s.bury("1", "a.example", queue.ReasonGone)
	s.same("count", queue.DeadLetterCount{Matched: 1}, s.deleteDead(queue.DeadLetterChoice{DryRun: true}))
	s.same("dead letters", 1, len(s.letters(queue.DeadLetterFilter{})))
}

func deletesForGood(s *suite) {
	id, kept := s.bury("1", "a.example", queue.ReasonGone), s.bury("2", "b.example", queue.ReasonGone)
	s.deleteDead(queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: "a.example"}})
	s.days(3)
	_, err := s.Activity(s.t.Context(), id)
	s.is("Activity after its retention", err, queue.ErrNotFound)
	s.counts(kept, queue.Counts{Dead: 1})
}

func deletesMany(s *suite) {
	id := s.buryMany(1200)
	s.same("count", done(1200), s.deleteDead(queue.DeadLetterChoice{}))
	s.same("dead", 0, s.stats().Dead)
	s.counts(id, queue.Counts{Dead: 1200})
}
