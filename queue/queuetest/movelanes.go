package queuetest

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

func moveOrder(from, to *suite) {
	from.chain("a.example")
	from.put("low", "a.example", priority(queue.Low))
	from.put("high", "a.example", priority(queue.High))
	l := from.lease("a.example")
	from.finish(l, hostFailed(from.take(l, "1", "low", "high")["1"], time.Hour))
	from.move(to)
	to.put("4", "a.example", ordering("https://app.example/notes/1"))
	l = to.lease("a.example")
	to.same("first", []string{"high"}, uris(to.turn(l, 1).Deliveries))
	to.settlement(l, queue.Settlement{Results: []queue.Result{delivered(to.one(l, "low"))}, Recovered: true, Release: true})
	l = to.lease("a.example")
	ds := to.take(l, "1", "high")
	to.settle(l, delivered(ds["high"]))
	for _, next := range []string{"2", "3", "4"} {
		for _, d := range ds {
			to.settle(l, delivered(d))
		}
		ds = to.take(l, next)
	}
}

func moveWaits(from, to *suite) {
	const ago = 10 * time.Minute
	from.put("waits", "a.example")
	l := from.lease("a.example")
	r := retry(from.one(l, "waits"), time.Hour)
	from.finish(l, r)
	from.put("new", "b.example")
	from.put("tried", "c.example")
	l = from.lease("c.example")
	from.finish(l, retry(from.one(l, "tried"), 0))
	from.put("soon", "d.example")
	l = from.lease("d.example")
	from.finish(l, retry(from.one(l, "soon"), time.Hour))
	records := from.export()
	began := time.Now()
	for uri, after := range map[string]time.Duration{"new": -ago, "tried": -ago, "soon": second} { // as if they were moved later
		change(records, uri, func(a *queue.MovedActivity, d *queue.MovedDelivery) {
			a.CreatedAt, d.After = began.Add(-ago).UTC().Truncate(time.Millisecond), after
		})
	}
	to.load(records, len(records))
	next := func(uri, host string) queue.DeliveryStatus {
		return to.listed(idOf(records, uri), "")["https://"+host+"/inbox"]
	}
	to.moved("next attempt", began, began.Add(time.Hour), next("waits", "a.example").NextAttemptAt)
	to.moved("next attempt of what was never tried", began, began.Add(-ago), next("new", "b.example").NextAttemptAt)
	to.moved("next attempt of what is due", began, began.Add(-ago), next("tried", "c.example").NextAttemptAt)
	to.same("last attempt", r.Attempt, next("waits", "a.example").History.Last())
	to.take(to.lease("a.example"))
	time.Sleep(passing)
	to.offers("b.example", "c.example", "d.example")
	to.same("attempts", 1, to.one(to.lease("d.example"), "soon").Attempts)
}

// idOf returns the ID of an activity among records.
func idOf(records []queue.Record, uri string) (id string) {
	change(records, uri, func(a *queue.MovedActivity, _ *queue.MovedDelivery) { id = a.ID })
	return id
}

func moveHosts(from, to *suite) {
	furnish(from)
	open := failing(breaker.Open)
	from.put("probe 1", "open.example")
	from.put("probe 2", "open.example")
	l := from.lease("open.example")
	from.settlement(l, queue.Settlement{
		Results: []queue.Result{hostFailed(from.take(l, "probe 1", "probe 2")["probe 1"], time.Hour)}, Host: &open, Wait: time.Hour, Release: true,
	})
	from.throttle("throttled.example", time.Hour)
	from.record("refusing.example", refusing(queue.RefusingAfter))
	from.record("accepting.example", accepting())
	began := time.Now()
	from.move(to)
	to.hostPages(queue.HostFilter{State: queue.HostThrottled}, "throttled.example")
	to.hostPages(queue.HostFilter{State: queue.HostRefusing}, "refusing.example")
	to.same("hosts by their last answer", from.stats().Answers, to.stats().Answers)
	for _, host := range []string{
		"blocked.example", "paused.example", "reset.example", "recorded.example", "open.example", "later.example",
		"throttled.example", "refusing.example", "accepting.example",
	} {
		want, got := from.host(host), to.host(host)
		to.moved("end of the wait", began, want.RetryAt, got.RetryAt)
		to.sameEnds(began, want.Orders, got.Orders)
		to.near("oldest pending", want.OldestPendingAt, got.OldestPendingAt)
		want.RetryAt, want.OldestPendingAt = got.RetryAt, got.OldestPendingAt
		to.same("host", want, got)
	}
	to.same("accepted by a host that is blocked", 0, to.enqueue(submission("x", "blocked.example")).Accepted)
	to.put("x", "paused.example")
	to.put("y", "reset.example")
	to.take(to.lease("paused.example"))
	l = to.lease("reset.example")
	old, record := healthy(), healthy()
	old.Epoch, record.Epoch = 2, 3
	to.settlement(l, queue.Settlement{Results: []queue.Result{delivered(to.one(l, "y"))}, Host: &old})
	to.same("scheme after a record of an earlier epoch", "cavage", to.host("reset.example").Record.Scheme)
	to.settlement(l, queue.Settlement{Host: &record})
	to.same("scheme after a record of the same epoch", "", to.host("reset.example").Record.Scheme)
	to.act("open.example", queue.Probe)
	to.one(to.lease("open.example"), "probe 2") // its breaker is not closed, so one only
}

func moveHostFailed(from, to *suite) {
	from.put("1", "a.example")
	from.put("2", "a.example")
	l := from.lease("a.example")
	ds := from.take(l, "1", "2")
	from.finish(l, hostFailed(ds["1"], time.Hour), retry(ds["2"], time.Hour))
	from.move(to)
	to.settlement(to.takeNothing("a.example"), queue.Settlement{Recovered: true, Release: true})
	to.one(to.lease("a.example"), "1")
}

func moveWaitKey(from, to *suite) {
	from.putKey("other")
	from.put("1", "a.example")
	l := from.lease("a.example")
	from.finish(l, waitKey(from.one(l, "1")))
	from.move(to)
	to.key(testKey("other"))
	to.offers()
	to.drain()
	to.putKey(keyID)
	to.woken("PutKey")
	to.offers("a.example")
	to.one(to.lease("a.example"), "1")
}

func moveReceipts(from, to *suite) {
	sub := submission("1", "a.example", "b.example")
	sub.Note = []byte("note")
	want := from.enqueue(sub)
	l := from.lease("a.example")
	from.finish(l, delivered(from.one(l, "1")))
	done := submission("2", "a.example")
	answer := from.enqueue(done)
	l = from.lease("a.example")
	from.finish(l, delivered(from.one(l, "2")))
	from.move(to)
	want.Replayed, answer.Replayed = true, true
	to.same("second receipt", want, to.enqueue(sub))
	to.same("second receipt of what is done", answer, to.enqueue(done))
	other := submission("3", "a.example")
	other.Idempotency.Key = sub.Idempotency.Key
	_, err := to.Enqueue(to.t.Context(), other)
	to.is("Enqueue of other bytes", err, queue.ErrIdempotencyMismatch)
	again := to.enqueue(submission("1", "a.example", "b.example"))
	to.same("accepted and duplicates", []int{1, 1}, []int{again.Accepted, again.Duplicates})
}

func moveLetters(from, to *suite) {
	sub := submission("1", "a.example", "b.example", "c.example", "d.example")
	from.enqueue(sub)
	a, b := from.lease("a.example"), from.lease("b.example")
	from.finish(a, delivered(from.one(a, "1")))
	from.finish(b, dead(from.one(b, "1"), queue.ReasonRejected))
	from.bury("2", "b.example", queue.ReasonGone)
	from.bury("3", "e.example", queue.ReasonGone)
	from.move(to)
	for _, f := range []queue.DeadLetterFilter{{}, {Host: "b.example"}, {Reason: queue.ReasonGone}, {Since: time.Now().Add(-time.Hour)}, {Since: time.Now().Add(time.Hour)}} {
		to.same(fmt.Sprintf("dead letters %+v", f), letterURIs(from.letters(f)), letterURIs(to.letters(f)))
	}
	to.load([]queue.Record{{Activity: oldActivity()}}, 1)
	to.same("dead letters", 4, len(to.letters(queue.DeadLetterFilter{})))
	to.same("dead letters of the last hour", 3, len(to.letters(queue.DeadLetterFilter{Since: time.Now().Add(-time.Hour)})))
	c := to.lease("c.example")
	to.finish(c, delivered(to.one(c, "1")))
	to.counts(sub.ID, queue.Counts{Pending: 1, Delivered: 2, Dead: 1})
	to.cancel(sub.ID)
	to.counts(sub.ID, queue.Counts{Delivered: 2, Dead: 1, Cancelled: 1})
	to.same("dead letters", 4, to.stats().Dead)
}

func moveExpiry(from, to *suite) {
	id := from.put("1", "a.example")
	lasts := from.put("2", "a.example")
	missing := from.put("3", "b.example")
	l := from.lease("b.example")
	from.finish(l, waitKey(from.one(l, "3")))
	records := from.export()
	expire(records, "1", ttl)
	expire(records, "3", ttl)
	to.load(records, len(records))
	to.sweep()
	to.same("reason", queue.ReasonExpired, to.listed(id, "")["https://a.example/inbox"].Reason)
	to.same("reason", queue.ReasonKeyMissing, to.listed(missing, "")["https://b.example/inbox"].Reason)
	to.counts(lasts, queue.Counts{Pending: 1})
}

// moveActed moves what operators did to hosts, and what came of it.
func moveActed(from, to *suite) {
	from.put("1", "paused.example")
	from.act("paused.example", queue.Pause)
	from.act("blocked.example", queue.Block)
	from.move(to)
	to.same("state", queue.HostPaused, to.host("paused.example").State)
	to.offers()
	to.act("paused.example", queue.Resume)
	to.one(to.lease("paused.example"), "1")
	to.same("reason", queue.ReasonHostBlocked, to.enqueue(submission("2", "blocked.example", "a.example")).Refused[0].Reason)
	to.act("blocked.example", queue.Unblock)
	to.put("3", "blocked.example")
	to.hostsAre(queue.HostBlocked)
	to.hostsAre(queue.HostHealthy, "a.example", "blocked.example", "paused.example")
}

// hostsAre checks which hosts are listed with a state.
func (s *suite) hostsAre(state queue.HostState, want ...string) {
	s.t.Helper()
	list, err := s.Hosts(s.t.Context(), queue.HostFilter{State: state}, queue.Page{Limit: 100})
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, h := range list.Items {
		got = append(got, h.Host)
	}
	s.same("hosts that are "+string(state), want, got)
}

// moveUnavailable moves an unavailable host, with the delivery kept for its next probe and those to become dead
// letters.
func moveUnavailable(from, to *suite) {
	names := from.fill("a.example", 3)
	from.makeUnavailable("a.example", second)
	from.unavailable("b.example", time.Hour)
	from.act("b.example", queue.Seen)
	from.fill("asked.example", 1)
	asked := time.Now()
	from.asks("asked.example", time.Hour, 24*time.Hour)
	from.reopen()
	began := time.Now()
	from.move(to)
	to.moved("end of what was asked", asked, asked.Add(time.Hour+queue.SeenPause(0)), to.act("asked.example", queue.Seen).RetryAt)
	to.sweep()
	to.buried(queue.ReasonHostUnavailable, names[:2]...)
	to.hostsAre(queue.HostUnavailable, "a.example", "b.example")
	to.moved("end of the wait", began, from.host("b.example").RetryAt, to.host("b.example").RetryAt)
	time.Sleep(passing)
	l := to.lease("a.example")
	fine := healthy()
	to.settlement(l, queue.Settlement{Results: []queue.Result{delivered(to.one(l, names[2]))}, Host: &fine, Wait: -1, Release: true})
	to.same("state", queue.HostHealthy, to.host("a.example").State)
	sick := failing(breaker.Open)
	sick.Unavailable = true
	for n := 1; n <= 3; n++ { // one was hastened before
		failed := time.Now()
		to.fails("b.example", sick)
		to.moved("end of the wait", failed, failed.Add(queue.SeenPause(n)), to.act("b.example", queue.Seen).RetryAt)
	}
}

// moveRetried moves dead letters that are retried after it, and take their places, and one that was before.
func moveRetried(from, to *suite) {
	from.chain("a.example")
	l := from.lease("a.example")
	from.settle(l, dead(from.one(l, "1"), queue.ReasonRejected))
	from.finish(l, dead(from.one(l, "2"), queue.ReasonRejected))
	old := from.bury("old", "b.example", queue.ReasonGone)
	from.same("count", done(1), from.retryDead(queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: "b.example"}}))
	records := from.export()
	expire(records, "old", ttl)
	to.load(records, len(records))
	to.same("count", done(2), to.retryDead(queue.DeadLetterChoice{}))
	l = to.lease("a.example")
	for _, uri := range []string{"1", "2", "3"} {
		to.settle(l, delivered(to.one(l, uri)))
	}
	to.sweep()
	to.counts(old, queue.Counts{Dead: 1})
	to.buried(queue.ReasonExpired, "old")
}

// moveRevived moves an activity with one delivery that was retried and expires later than the other.
func moveRevived(from, to *suite) {
	id := from.put("1", "a.example", alsoTo("b.example", "c.example"), lasting(time.Hour))
	l := from.lease("a.example")
	from.finish(l, dead(from.one(l, "1"), queue.ReasonRejected))
	from.same("count", done(1), from.retryDead(queue.DeadLetterChoice{}))
	records := from.export()
	expire(records, "1", time.Hour)
	to.load(records, len(records))
	to.sweep()
	to.counts(id, queue.Counts{Pending: 1, Dead: 2})
	to.one(to.lease("a.example"), "1")
}

func moveStops(from, _ *suite) {
	furnish(from)
	for _, stop := range []int{1, 8, 17, 25} {
		n := 0
		err := from.Export(from.t.Context(), func(queue.Record) error {
			if n++; n == stop {
				return queue.ErrFull
			}
			return nil
		})
		from.is("Export to where there is no room", err, queue.ErrFull)
		from.same("records handed over", stop, n)
	}
}

func marksStores(s, _ *suite) {
	check := func(want string) {
		m, err := s.Mark(s.t.Context())
		if err != nil || m.Text != want || (m.Remove == "") != (want == "") {
			s.t.Fatalf("Mark = %+v, %v, want %q", m, err, want)
		}
	}
	check("")
	for _, text := range []string{"moved to there", "moved to elsewhere", "", ""} {
		s.is("SetMark", s.SetMark(s.t.Context(), text), nil)
		check(text)
		s.reopen()
		check(text)
	}
}

// moveOrders checks that orders hold in the store that they were moved to.
func moveOrders(from, to *suite) {
	from.put("1", "x.a.example")
	from.order("a.example", queue.Pause, queue.Order{Reason: "they move", By: "ops", For: time.Hour, Subdomains: true})
	from.order("b.example", queue.Block, covering("spam"))
	from.order("own.example", queue.Block, queue.Order{Reason: "own", For: time.Hour})
	from.sweep()
	to.sweep()
	began := time.Now()
	records := from.move(to)
	to.sweep()
	to.sameRecords(records, to.export())
	for _, host := range []string{"a.example", "x.a.example", "b.example", "own.example"} {
		want, got := from.host(host), to.host(host)
		to.sameEnds(began, want.Orders, got.Orders)
		want.OldestPendingAt = got.OldestPendingAt
		to.same("host", want, got)
	}
	to.same("entries of states", 0, len(to.stateEntries("x.a.example")))
	to.offers()
	to.refuses("x.b.example", "own.example")
	to.statesAre(queue.HostPaused, "new.a.example")
	to.act("a.example", queue.Resume)
	to.sweep()
	to.offers("x.a.example")
}
