package queuetest

import (
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

var sweepCases = []testCase{
	{name: "expires what has outlived its TTL", run: expires},
	{name: "expires what waits for a retry", run: expiresWaiting},
	{name: "expires many", run: expiresMany},
	{name: "expires what came after a sweep", run: expiresLater},
	{name: "leaves what is taken for later", run: expiresNotTaken},
	{name: "comes back for what is taken", run: expiresOnceBack},
	{name: "moves on behind what expired", run: expiresHead},
	{name: "shows that a key was missing", run: expiresForKey},
	{name: "drops dead letters after their retention", run: dropsLetters, opts: limits(queue.Limits{DeadRetention: second})},
	{name: "keeps dead letters until then", run: keepsLetters, opts: limits(queue.Limits{DeadRetention: time.Hour})},
	{name: "drops finished activities after their retention", run: dropsActivities, days: true, opts: limits(queue.Limits{Retention: 48 * time.Hour})},
	{name: "keeps activities that pend", run: keepsPending, days: true, opts: limits(queue.Limits{Retention: 48 * time.Hour})},
	{name: "keeps finished activities for a day at least", run: keepsForADay, days: true, opts: limits(queue.Limits{Retention: second})},
}

func expires(s *suite) {
	id := s.put("1", "a.example", lasting(second), alsoTo("b.example"))
	kept := s.put("2", "a.example")
	s.sweep()
	s.counts(id, queue.Counts{Pending: 2})
	time.Sleep(passing)
	s.sweep()
	s.counts(id, queue.Counts{Dead: 2})
	s.counts(kept, queue.Counts{Pending: 1})
	for _, d := range s.letters(queue.DeadLetterFilter{}) {
		s.same("reason", queue.ReasonExpired, d.Reason)
		s.same("activity", id, d.ActivityID)
		s.near("time of death", time.Now(), d.DiedAt)
	}
	s.same("reason listed", queue.ReasonExpired, s.listed(id, queue.StateDead)["https://b.example/inbox"].Reason)
	s.one(s.lease("a.example"), "2")
	s.take(s.lease("b.example"))
}

func expiresWaiting(s *suite) {
	id := s.put("1", "a.example", lasting(second))
	l := s.lease("a.example")
	r := retry(s.one(l, "1"), time.Hour)
	s.settlement(l, queue.Settlement{Results: []queue.Result{r}, Wait: time.Hour, Release: true})
	time.Sleep(passing)
	s.sweep()
	s.counts(id, queue.Counts{Dead: 1})
	d := s.letters(queue.DeadLetterFilter{})[0]
	s.same("attempts", 1, d.Attempts)
	s.same("last attempt", r.Attempt, d.History.Last())
}

func expiresMany(s *suite) {
	s.put("0", "a.example", alsoTo(hosts("a", 2100)...), lasting(second))
	s.fill("b.example", 100, lasting(second))
	time.Sleep(passing)
	s.sweep()
	st := s.stats()
	s.same("pending and dead", []int{0, 2201}, []int{st.Pending, st.Dead})
}

func expiresLater(s *suite) {
	s.sweep()
	id := s.put("1", "a.example", lasting(second))
	s.sweep()
	s.counts(id, queue.Counts{Pending: 1})
	time.Sleep(passing)
	s.sweep()
	s.counts(id, queue.Counts{Dead: 1})
}

func expiresNotTaken(s *suite) {
	names := s.fill("a.example", 3, lasting(second))
	l := s.lease("a.example")
	ds := s.take(l, names...)
	s.settle(l, deferred(ds[names[2]], 0))
	time.Sleep(passing)
	s.sweep() // finds no more to do at once
	s.same("pending", 2, s.host("a.example").Pending)
	s.settle(l, delivered(ds[names[0]]))
	s.finish(l)
	time.Sleep(passing)
	s.sweep()
	st := s.stats()
	s.same("pending, dead and delivered", []int{0, 2, 1}, []int{st.Pending, st.Dead, int(st.Delivered)})
}

func expiresOnceBack(s *suite) {
	id := s.put("1", "a.example", lasting(second))
	l := s.lease("a.example")
	d := s.one(l, "1")
	time.Sleep(passing)
	s.sweep()
	s.counts(id, queue.Counts{Pending: 1})
	s.finish(l, deferred(d, 0))
	time.Sleep(passing)
	s.sweep()
	s.counts(id, queue.Counts{Dead: 1})
}

func expiresHead(s *suite) {
	s.put("1", "a.example", ordering("key"), lasting(second))
	s.put("2", "a.example", ordering("key"))
	l := s.lease("a.example")
	s.finish(l, retry(s.one(l, "1"), time.Hour))
	time.Sleep(passing)
	s.sweep()
	s.offers("a.example")
	s.one(s.lease("a.example"), "2")
}

func expiresForKey(s *suite) {
	missing := s.put("1", "a.example", lasting(second))
	found := s.put("2", "a.example", lasting(second), func(sub *queue.Submission) { sub.KeyID = "https://app.example/users/bob#main-key" })
	l := s.lease("a.example")
	ds := s.take(l, "1", "2")
	s.finish(l, waitKey(ds["1"]), waitKey(ds["2"]))
	s.putKey("https://app.example/users/bob#main-key")
	time.Sleep(passing)
	s.sweep()
	s.same("reason", queue.ReasonKeyMissing, s.listed(missing, "")["https://a.example/inbox"].Reason)
	s.same("reason after the key came", queue.ReasonExpired, s.listed(found, "")["https://a.example/inbox"].Reason)
}

// bury makes a dead letter of a new activity, and returns its ID.
func (s *suite) bury(uri, host string, why queue.Reason) string {
	s.t.Helper()
	id := s.put(uri, host)
	l := s.lease(host)
	s.finish(l, dead(s.one(l, uri), why))
	return id
}

func dropsLetters(s *suite) {
	id := s.bury("1", "a.example", queue.ReasonRejected)
	s.sweep()
	s.same("dead letters", 1, len(s.letters(queue.DeadLetterFilter{})))
	time.Sleep(passing)
	s.sweepUntil(func() bool { return len(s.letters(queue.DeadLetterFilter{})) == 0 })
	s.same("dead deliveries listed", 0, len(s.listed(id, "")))
	s.counts(id, queue.Counts{Dead: 1})
	s.same("dead", 0, s.stats().Dead)
}

// sweepUntil sweeps as often as Sweep asks for until something has happened. Retention is kept track of by the minute.
func (s *suite) sweepUntil(happened func() bool) {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		next, err := s.Sweep(s.t.Context())
		if err != nil {
			s.t.Fatalf("Sweep: %v", err)
		}
		if happened() {
			return
		}
		time.Sleep(next)
	}
	s.t.Error("for two minutes sweeping did not help")
}

func keepsLetters(s *suite) {
	id := s.bury("1", "a.example", queue.ReasonRejected)
	time.Sleep(passing)
	s.sweep()
	s.same("dead letters", 1, len(s.letters(queue.DeadLetterFilter{})))
	s.same("dead deliveries listed", 1, len(s.listed(id, "")))
}

// deliver has a new activity delivered, and returns its ID.
func (s *suite) deliver(uri, host string) string {
	s.t.Helper()
	id := s.put(uri, host)
	l := s.lease(host)
	s.finish(l, delivered(s.one(l, uri)))
	return id
}

// days lets days pass, with a sweep every few hours.
func (s *suite) days(n int) {
	s.t.Helper()
	for range n * 4 {
		time.Sleep(6 * time.Hour)
		s.sweep()
	}
}

func dropsActivities(s *suite) {
	id := s.deliver("1", "a.example")
	cancelled := s.put("2", "a.example")
	s.cancel(cancelled)
	s.days(1)
	s.counts(id, queue.Counts{Delivered: 1})
	s.counts(cancelled, queue.Counts{Cancelled: 1})
	s.days(2)
	for _, gone := range []string{id, cancelled} {
		_, err := s.Activity(s.t.Context(), gone)
		s.is("Activity after its retention", err, queue.ErrNotFound)
	}
	s.same("activities", 0, s.stats().Activities)
	s.same("delivered", int64(1), s.stats().Delivered)
}

func keepsPending(s *suite) {
	id := s.put("1", "a.example", lasting(96*time.Hour), alsoTo("b.example"))
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.days(3)
	s.counts(id, queue.Counts{Pending: 1, Delivered: 1})
	l = s.lease("b.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.days(1)
	s.counts(id, queue.Counts{Delivered: 2})
}

func keepsForADay(s *suite) {
	id := s.deliver("1", "a.example")
	for range 23 {
		time.Sleep(time.Hour)
		s.sweep()
	}
	s.counts(id, queue.Counts{Delivered: 1})
	s.days(2)
	_, err := s.Activity(s.t.Context(), id)
	s.is("Activity after days", err, queue.ErrNotFound)
	_, err = s.Activity(s.t.Context(), uuid.NewString())
	s.is("Activity of an unknown ID", err, queue.ErrNotFound)
}
