package queuetest

import (
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var watchingCases = []testCase{
	{name: "knows no other activities", run: unknownActivities},
	{name: "lists deliveries by state", run: listsByState},
	{name: "shows when a delivery is attempted next", run: showsNextAttempt},
	{name: "cancels what is pending", run: cancelsPending},
	{name: "cancels only what is pending", run: cancelsOnlyPending},
	{name: "cancels what is being attempted", run: cancelsTaken},
	{name: "cancels again without harm", run: cancelsTwice},
	{name: "shows totals", run: showsTotals},
	{name: "is ready", run: isReady},
	{name: "says when it is closed", run: saysClosed},
}

// cancel cancels an activity, and checks that the answer is what Activity says then.
func (s *suite) cancel(id string) {
	s.t.Helper()
	got, err := s.Cancel(s.t.Context(), id)
	if err != nil {
		s.t.Fatalf("Cancel(%s): %v", id, err)
	}
	want, err := s.Activity(s.t.Context(), id)
	if err != nil {
		s.t.Fatalf("Activity(%s): %v", id, err)
	}
	s.same("answer to Cancel", want, got)
}

func unknownActivities(s *suite) {
	s.put("1", "a.example")
	for _, id := range []string{uuid.Must(uuid.NewV7()).String(), "nonsense", ""} {
		_, err := s.Activity(s.t.Context(), id)
		s.is("Activity", err, queue.ErrNotFound)
		_, err = s.Deliveries(s.t.Context(), id, "", queue.Page{Limit: 10})
		s.is("Deliveries", err, queue.ErrNotFound)
		_, err = s.Cancel(s.t.Context(), id)
		s.is("Cancel", err, queue.ErrNotFound)
	}
}

func listsByState(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example:8443", "c.example", "d.example"))
	s.put("2", "a.example")
	la := s.lease("a.example")
	lb := s.lease("b.example:8443")
	ld := s.lease("d.example")
	a := s.take(la, "1", "2")["1"]
	b := s.one(lb, "1")
	d := s.one(ld, "1")
	failed, refused := retry(a, time.Hour), dead(b, queue.ReasonGone)
	s.finish(la, failed)
	s.finish(lb, refused)
	s.finish(ld, delivered(d))

	all := s.listed(id, "")
	pending := map[string]queue.DeliveryStatus{
		"https://a.example/inbox": {
			ID: a.ID, Inbox: "https://a.example/inbox", Host: "a.example", State: queue.StatePending, Attempts: 1,
			NextAttemptAt: all["https://a.example/inbox"].NextAttemptAt, History: queue.History{*failed.Attempt},
			Waits: queue.WaitsRetry,
		},
		"https://c.example/inbox": {
			ID: all["https://c.example/inbox"].ID, Inbox: "https://c.example/inbox", Host: "c.example",
			State: queue.StatePending, NextAttemptAt: all["https://c.example/inbox"].NextAttemptAt, Waits: queue.WaitsTurn,
		},
	}
	gone := queue.DeliveryStatus{
		ID: b.ID, Inbox: "https://b.example:8443/inbox", Host: "b.example:8443", State: queue.StateDead,
		Reason: queue.ReasonGone, Attempts: 1, History: queue.History{*refused.Attempt},
	}
	s.same("pending deliveries", pending, s.listed(id, queue.StatePending))
	s.same("dead deliveries", map[string]queue.DeliveryStatus{gone.Inbox: gone}, s.listed(id, queue.StateDead))
	pending[gone.Inbox] = gone
	s.same("deliveries", pending, all)
	s.same("ID", s.one(s.lease("c.example"), "1").ID, all["https://c.example/inbox"].ID)
}

func showsNextAttempt(s *suite) {
	first := s.put("1", "a.example", ordering("key"))
	second := s.put("2", "a.example", ordering("key"))
	next := func(id string) time.Time { return s.listed(id, "")["https://a.example/inbox"].NextAttemptAt }
	s.near("next attempt", time.Now(), next(first))
	if at := next(second); !at.IsZero() {
		s.t.Errorf("what waits behind another is attempted next at %s, want no time", at)
	}
	l := s.lease("a.example")
	s.settle(l, retry(s.one(l, "1"), time.Hour))
	s.near("next attempt after a retry", time.Now().Add(time.Hour), next(first))
	s.finish(l)
	s.cancel(first)
	s.near("next attempt of the one behind", time.Now(), next(second))
}

func cancelsPending(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example"))
	kept := s.put("2", "a.example")
	s.cancel(id)
	s.counts(id, queue.Counts{Cancelled: 2})
	s.counts(kept, queue.Counts{Pending: 1})
	s.same("deliveries listed", 0, len(s.listed(id, "")))
	s.offers("a.example")
	s.one(s.lease("a.example"), "2")
	s.put("1", "a.example") // it is not pending any more, so no duplicate
}

func cancelsOnlyPending(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example", "c.example"))
	a, b := s.lease("a.example"), s.lease("b.example")
	s.finish(a, delivered(s.one(a, "1")))
	s.finish(b, dead(s.one(b, "1"), queue.ReasonRejected))
	s.cancel(id)
	s.counts(id, queue.Counts{Delivered: 1, Dead: 1, Cancelled: 1})
	s.same("dead letters", []string{"1"}, letterURIs(s.letters(queue.DeadLetterFilter{})))
}

func cancelsTaken(s *suite) {
	id := s.put("1", "a.example", ordering("key"))
	s.put("2", "a.example", ordering("key"))
	l := s.lease("a.example")
	d := s.one(l, "1")
	s.cancel(id)
	s.counts(id, queue.Counts{Cancelled: 1})
	s.same("in flight", 0, s.host("a.example").InFlight)
	s.settle(l, delivered(d))
	s.counts(id, queue.Counts{Cancelled: 1})
	s.one(l, "2")
}

func cancelsTwice(s *suite) {
	id := s.put("1", "a.example")
	for range 2 {
		s.cancel(id)
		s.counts(id, queue.Counts{Cancelled: 1})
	}
	done := s.deliver("2", "a.example")
	s.cancel(done)
	s.counts(done, queue.Counts{Delivered: 1})
}

func showsTotals(s *suite) {
	s.same("stats of an empty store", queue.Stats{}, s.totals())
	s.record("a.example", healthy())
	s.record("b.example", failing(breaker.Open))
	s.record("c.example", failing(breaker.Open))
	s.bury("1", "a.example", queue.ReasonRejected)
	s.put("2", "a.example", alsoTo("b.example", "c.example"))
	got := s.totals()
	s.near("oldest", time.Now(), got.OldestPendingAt)
	s.same("stats", queue.Stats{
		Activities: 5, Pending: 3, Dead: 1, Delivered: 3, OldestPendingAt: got.OldestPendingAt,
		Hosts: map[queue.HostState]int{queue.HostHealthy: 1, queue.HostOpen: 2}, Died: map[queue.Reason]int64{queue.ReasonRejected: 1},
	}, got)
}

// totals are the stats but for the rates, which a store need not count exactly, nor remember, and for what is due, see
// showsOldestDue.
func (s *suite) totals() queue.Stats {
	s.t.Helper()
	st := s.stats()
	st.PerSecond = queue.Rates{}
	st.OldestDueAt = time.Time{}
	if len(st.Hosts) == 0 {
		st.Hosts = nil
	}
	if len(st.Died) == 0 {
		st.Died = nil
	}
	return st
}

func isReady(s *suite) {
	s.is("Ready", s.Ready(s.t.Context()), nil)
	s.put("1", "a.example")
	s.is("Ready", s.Ready(s.t.Context()), nil)
}

func saysClosed(s *suite) {
	s.put("1", "a.example")
	s.is("Close", s.Close(), nil)
	_, err := s.Enqueue(s.t.Context(), submission("2", "a.example"))
	s.is("Enqueue after Close", err, queue.ErrClosed)
	_, err = s.PutKey(s.t.Context(), testKey(keyID))
	s.is("PutKey after Close", err, queue.ErrClosed)
}
