package queuetest

import (
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var settleCases = []testCase{
	{name: "delivers", run: settlesDelivered},
	{name: "retries and spends an attempt", run: settlesRetry},
	{name: "retries without spending an attempt", run: settlesUnspent},
	{name: "defers for a time", run: settlesDeferred},
	{name: "defers as before", run: settlesAsBefore},
	{name: "makes a dead letter", run: settlesDead},
	{name: "keeps counts at every step", run: countsAtEveryStep},
	{name: "keeps the last attempt", run: keepsLastAttempt},
	{name: "may be repeated", run: settlesTwice},
	{name: "does nothing for what is cancelled", run: settlesCancelled},
	{name: "does nothing for what it does not know", run: settlesUnknown},
	{name: "does nothing for deliveries of another lane", run: settlesForeign},
	{name: "settles part of what was taken", run: settlesPart},
	{name: "hands back on release what was not settled", run: releasesUntouched},
	{name: "ends the lease with the turn", run: endsLease},
	{name: "changes nothing once a later lease took the lane", run: fenced},
	{name: "makes due what waits for a host that recovered", run: recovers},
	{name: "leaves what waits for itself when a host recovers", run: recoversOnlyHostFailed},
}

func settlesDelivered(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example"))
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.counts(id, queue.Counts{Pending: 1, Delivered: 1})
	if _, ok := s.listed(id, "")["https://a.example/inbox"]; ok {
		s.t.Error("what is delivered is still listed")
	}
	s.take(s.lease("a.example"))
	l = s.lease("b.example")
	s.finish(l, queue.Result{ID: s.one(l, "1").ID}) // the least that a result may say
	s.counts(id, queue.Counts{Delivered: 2})
}

func settlesRetry(s *suite) {
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	s.finish(l, retry(s.one(l, "1"), second))
	s.counts(id, queue.Counts{Pending: 1})
	l = s.lease("a.example")
	s.take(l)
	time.Sleep(passing)
	s.same("attempts", 1, s.one(l, "1").Attempts)
}

func settlesUnspent(s *suite) {
	s.put("1", "a.example")
	l := s.lease("a.example")
	r := retry(s.one(l, "1"), second/10)
	r.Spent = false
	s.finish(l, r)
	time.Sleep(second / 4)
	s.same("attempts", 0, s.one(s.lease("a.example"), "1").Attempts)
}

func settlesDeferred(s *suite) {
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	s.settle(l, deferred(s.one(l, "1"), second))
	s.take(l)
	s.counts(id, queue.Counts{Pending: 1})
	time.Sleep(passing)
	s.same("attempts", 0, s.one(l, "1").Attempts)
}

func settlesAsBefore(s *suite) {
	s.put("1", "a.example")
	l := s.lease("a.example")
	s.settle(l, deferred(s.one(l, "1"), 0))
	d := s.one(l, "1")
	s.same("attempts", 0, d.Attempts)
	s.same("early", false, d.Early)
}

func settlesDead(s *suite) {
	id := s.put("1", "https://a.example/users/bob", alsoTo("b.example"))
	l := s.lease("a.example")
	s.settle(l, retry(s.one(l, "1"), 0))
	d := s.one(l, "1")
	r := dead(d, queue.ReasonGone)
	s.finish(l, r)
	s.counts(id, queue.Counts{Pending: 1, Dead: 1})
	s.take(s.lease("a.example"))

	letters := s.letters(queue.DeadLetterFilter{})
	if len(letters) != 1 {
		s.t.Fatalf("there are %d dead letters, want one", len(letters))
	}
	s.near("time of death", time.Now(), letters[0].DiedAt)
	s.same("last attempt", r.Attempt, letters[0].History.Last())
	s.same("dead letter", queue.DeadLetter{
		ID: d.ID, ActivityID: id, URI: "1", Inbox: "https://a.example/users/bob", Host: "a.example",
		Reason: queue.ReasonGone, Attempts: 2, History: letters[0].History, DiedAt: letters[0].DiedAt,
	}, letters[0])
}

func countsAtEveryStep(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example", "c.example", "d.example", "e.example", "f.example"))
	s.counts(id, queue.Counts{Pending: 6})
	taken := func(host string) (queue.Delivery, func(queue.Result)) {
		l := s.lease(host)
		d := s.one(l, "1")
		return d, func(r queue.Result) { s.finish(l, r) }
	}
	a, settleA := taken("a.example")
	b, settleB := taken("b.example")
	c, settleC := taken("c.example")
	d, settleD := taken("d.example")
	s.counts(id, queue.Counts{Pending: 6})
	settleA(delivered(a))
	s.counts(id, queue.Counts{Pending: 5, Delivered: 1})
	settleB(dead(b, queue.ReasonRejected))
	s.counts(id, queue.Counts{Pending: 4, Delivered: 1, Dead: 1})
	settleC(retry(c, time.Hour))
	settleD(deferred(d, 0))
	s.counts(id, queue.Counts{Pending: 4, Delivered: 1, Dead: 1})
	s.cancel(id)
	s.counts(id, queue.Counts{Delivered: 1, Dead: 1, Cancelled: 4})
}

func keepsLastAttempt(s *suite) {
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	r := retry(s.one(l, "1"), 0)
	s.settle(l, r)
	s.settle(l, deferred(s.one(l, "1"), second)) // no attempt was made, so the last is still the first
	got := s.listed(id, "")["https://a.example/inbox"]
	s.same("last attempt", r.Attempt, got.History.Last())
	s.same("attempts", 1, got.Attempts)
}

func settlesTwice(s *suite) {
	id := s.put("1", "a.example")
	s.put("2", "a.example")
	s.put("3", "a.example")
	l := s.lease("a.example")
	ds := s.take(l, "1", "2", "3")
	st := queue.Settlement{Results: []queue.Result{
		delivered(ds["1"]), retry(ds["2"], second/10), dead(ds["3"], queue.ReasonRejected),
	}}
	for range 3 {
		s.settlement(l, st)
	}
	st.Release = true
	for range 2 {
		s.settlement(l, st)
	}
	s.counts(id, queue.Counts{Delivered: 1})
	stats := s.stats()
	s.same("pending, dead and delivered", []int{1, 1, 1}, []int{stats.Pending, stats.Dead, int(stats.Delivered)})
	time.Sleep(second / 4)
	s.same("attempts", 1, s.one(s.lease("a.example"), "2").Attempts)
}

func settlesCancelled(s *suite) {
	gone := s.put("1", "a.example")
	kept := s.put("2", "a.example")
	l := s.lease("a.example")
	ds := s.take(l, "1", "2")
	s.cancel(gone)
	s.finish(l, retry(ds["1"], 0), delivered(ds["2"]))
	s.counts(gone, queue.Counts{Cancelled: 1})
	s.counts(kept, queue.Counts{Delivered: 1})
	s.take(s.lease("a.example"))
}

func settlesUnknown(s *suite) {
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	d := s.one(l, "1")
	for _, unknown := range []string{"", "nonsense", d.ID + "9", id, "018f7b0a-0000-7000-8000-000000000000.0"} {
		r := delivered(d)
		r.ID = unknown
		s.settle(l, r)
	}
	s.counts(id, queue.Counts{Pending: 1})
	s.finish(l, delivered(d))
	s.counts(id, queue.Counts{Delivered: 1})
}

func settlesForeign(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example"))
	b := s.lease("b.example")
	d := s.one(b, "1")
	a := s.lease("a.example")
	s.one(a, "1")
	s.settle(a, delivered(d))
	s.counts(id, queue.Counts{Pending: 2})
	s.finish(b, delivered(d))
	s.counts(id, queue.Counts{Pending: 1, Delivered: 1})
}

func settlesPart(s *suite) {
	names := s.fill("a.example", 3)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	s.settle(l, delivered(ds[names[1]]))
	s.take(l)
	s.settle(l, deferred(ds[names[0]], 0))
	s.one(l, names[0])
	s.finish(l, delivered(ds[names[2]]))
	s.one(s.lease("a.example"), names[0])
}

func releasesUntouched(s *suite) {
	names := s.fill("a.example", 2)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	s.settle(l, retry(ds[names[0]], 0))
	s.one(l, names[0])
	s.finish(l)
	h := s.host("a.example")
	s.same("pending and in flight", []int{2, 0}, []int{h.Pending, h.InFlight})
	s.offers("a.example")
	ds = s.take(s.lease("a.example"), names...)
	s.same("attempts of the first", 1, ds[names[0]].Attempts)
	s.same("attempts of the second", 0, ds[names[1]].Attempts)
}

func endsLease(s *suite) {
	names := s.fill("a.example", 2)
	leases := s.b.Leases(s.Queue)
	acquired := func(want int) (l lockmgr.Lease) {
		s.t.Helper()
		got, err := leases.Acquire(s.t.Context(), []string{"a.example"})
		if err != nil || len(got) != want {
			s.t.Fatalf("Acquire gave %v, %v, want %d", got, err, want)
		}
		for _, l = range got {
		}
		return l
	}
	first := acquired(1)
	ds := s.take(first, names...)
	s.settle(first, delivered(ds[names[0]]))
	acquired(0)
	last := queue.Settlement{Results: []queue.Result{delivered(ds[names[1]])}, Release: true}
	s.settlement(first, last)
	second := acquired(1)
	s.settlement(first, last) // its answer was lost
	acquired(0)
	s.take(second)
	_, err := s.Settle(s.t.Context(), first, last, 1)
	s.is("Settle of the earlier lease", err, queue.ErrNotHeld)
	acquired(0)
	s.finish(second)
	acquired(1)
}

func fenced(s *suite) {
	id := s.put("1", "a.example")
	s.put("2", "a.example")
	early, late := s.lease("a.example"), s.lease("a.example")
	ds := s.take(early, "1", "2")
	s.take(late, "1", "2")
	before := s.host("a.example")
	record := failing(0)
	for _, st := range []queue.Settlement{
		{Results: []queue.Result{delivered(ds["1"]), retry(ds["2"], time.Hour)}, Host: &record, Wait: time.Hour},
		{Results: []queue.Result{dead(ds["1"], queue.ReasonGone)}},
		{Host: &record},
		{Recovered: true, Wait: -1},
		{Release: true},
		{},
	} {
		next, err := s.Settle(s.t.Context(), early, st, 1)
		s.is("Settle of the earlier lease", err, queue.ErrNotHeld)
		s.same("what it gave", 0, len(next))
	}
	s.counts(id, queue.Counts{Pending: 1})
	s.same("host", before, s.host("a.example"))
	s.take(late)
	s.settlement(late, queue.Settlement{Results: []queue.Result{delivered(ds["1"])}, Release: true})
	s.counts(id, queue.Counts{Delivered: 1})
}

func recovers(s *suite) {
	names := s.fill("a.example", 3)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	s.finish(l, hostFailed(ds[names[0]], time.Hour), hostFailed(ds[names[1]], 2*time.Hour))
	l = s.lease("a.example")
	d := s.one(l, names[2])
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d)}, Recovered: true, Release: true})
	s.offers("a.example")
	ds = s.take(s.lease("a.example"), names[:2]...)
	for _, d := range ds {
		s.same("attempts", 1, d.Attempts)
		s.same("early", false, d.Early)
	}
}

func recoversOnlyHostFailed(s *suite) {
	names := s.fill("a.example", 4)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	s.settle(l, hostFailed(ds[names[0]], 0), retry(ds[names[1]], time.Hour), deferred(ds[names[2]], time.Hour))
	d := s.one(l, names[0])
	s.settle(l, retry(d, time.Hour)) // the host answered, so now it waits for itself
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(ds[names[3]])}, Recovered: true})
	s.take(l)
}
