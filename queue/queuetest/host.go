package queuetest

import (
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var hostCases = []testCase{
	{name: "is healthy if unknown", run: hostUnknown},
	{name: "keeps its record", run: keepsRecord},
	{name: "keeps a record when a settlement has none", run: keepsRecordUnchanged},
	{name: "drops a record of an earlier epoch", run: dropsEarlierEpoch},
	{name: "waits as long as the last settlement says", run: waitsAsSetLast},
	{name: "waits on when no settlement ends that", run: waitsOn},
	{name: "stops to wait", run: stopsToWait},
	{name: "shows when its wait ends", run: showsRetryAt},
	{name: "has the state of its record", run: hostStates},
	{name: "counts what is pending and in flight", run: hostCounts},
	{name: "shows since when a delivery is pending", run: oldestPending},
	{name: "shows since when a delivery is pending in a deep lane", run: oldestPendingDeep},
}

func hostUnknown(s *suite) {
	s.same("host", queue.HostStatus{Host: "a.example:8443", State: queue.HostHealthy}, s.host("a.example:8443"))
}

// fullRecord has something in every field.
func fullRecord() queue.HostRecord {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return queue.HostRecord{
		Breaker: breaker.Record{
			State: breaker.Open, Failures: 12, Trips: 2, Window: 3, Days: []int32{20000, 20003}, Failed: true,
			LastSuccess: now.Add(-time.Hour), OpenedAt: now.Add(-time.Minute),
		},
		Scheme: "rfc9421", Throttles: 4, Refusals: 7, LastAnswer: now.Add(-time.Minute), LastSuccess: now.Add(-2 * time.Hour),
		LastError: attempt("unreachable", 0),
		Doubts:    2, DoubtedAt: now.Add(-time.Hour), RefusedAt: now.Add(-2 * time.Hour),
	}
}

func keepsRecord(s *suite) {
	want := fullRecord()
	s.record("a.example", want)
	s.same("record in the host", want, s.host("a.example").Record)
	s.same("record in the turn", want, s.turn(s.lease("a.example"), 1).Host)
	s.same("record of another", queue.HostRecord{}, s.host("b.example").Record)
}

func keepsRecordUnchanged(s *suite) {
	want := fullRecord()
	want.Breaker.State = breaker.Closed
	s.record("a.example", want)
	s.fill("a.example", 1)
	l := s.lease("a.example")
	s.finish(l, delivered(s.turn(l, 1).Deliveries[0]))
	s.same("record", want, s.host("a.example").Record)
}

func dropsEarlierEpoch(s *suite) {
	want := healthy()
	s.record("a.example", want)
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	record := failing(breaker.Open)
	record.Epoch = s.turn(l, 0).Host.Epoch - 1
	d := s.one(l, "1")
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d)}, Host: &record, Release: true})
	s.same("record", want, s.host("a.example").Record)
	s.counts(id, queue.Counts{Delivered: 1})
}

// waiting is a lane with work that has to wait.
func (s *suite) waiting(host string, wait time.Duration) {
	s.t.Helper()
	s.fill(host, 1)
	s.settlement(s.takeNothing(host), queue.Settlement{Wait: wait, Release: true})
}

func waitsAsSetLast(s *suite) {
	s.waiting("a.example", time.Hour)
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Wait: second, Release: true})
	s.offers()
	time.Sleep(passing)
	s.offers("a.example")
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Wait: time.Hour, Release: true})
	s.offers()
	s.take(s.lease("a.example"))
}

func waitsOn(s *suite) {
	s.waiting("a.example", time.Hour)
	record := healthy()
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &record, Recovered: true})
	l := s.takeNothing("a.example")
	s.settlement(l, queue.Settlement{Release: true})
	s.fill("a.example", 1)
	s.offers()
	s.take(s.lease("a.example"))
}

func stopsToWait(s *suite) {
	s.waiting("a.example", time.Hour)
	l := s.takeNothing("a.example")
	s.settlement(l, queue.Settlement{Wait: -1})
	s.same("deliveries", 1, len(s.turn(l, 10).Deliveries))
	s.finish(l)
	s.offers("a.example")
}

func showsRetryAt(s *suite) {
	s.waiting("a.example", 30*time.Second)
	s.near("end of the wait", time.Now().Add(30*time.Second), s.host("a.example").RetryAt)
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Wait: -1, Release: true})
	if at := s.host("a.example").RetryAt; !at.IsZero() {
		s.t.Errorf("a lane without a wait says that it ends at %s", at)
	}
	s.waiting("b.example", second)
	time.Sleep(passing)
	if at := s.host("b.example").RetryAt; !at.IsZero() {
		s.t.Errorf("a lane whose wait is over says that it ended at %s", at)
	}
}

func hostStates(s *suite) {
	closed, sick := failing(breaker.Closed), failing(breaker.Open)
	sick.Unavailable = true
	closed.Refusals, closed.Throttles = queue.RefusingAfter, 1 // which is less grave
	for _, want := range []struct {
		host   string
		record queue.HostRecord
		state  queue.HostState
	}{
		{"well.example", healthy(), queue.HostHealthy},
		{"asked.example", throttled(), queue.HostHealthy}, // it has waited
		{"patient.example", refusing(queue.RefusingAfter - 1), queue.HostHealthy},
		{"refusing.example", refusing(queue.RefusingAfter), queue.HostRefusing},
		{"failing.example", closed, queue.HostFailing},
		{"open.example", failing(breaker.Open), queue.HostOpen},
		{"half.example", failing(breaker.HalfOpen), queue.HostOpen},
		{"sick.example", sick, queue.HostUnavailable},
	} {
		s.record(want.host, want.record)
		h := s.host(want.host)
		s.same("name", want.host, h.Host)
		s.same("state of "+want.host, want.state, h.State)
		list, err := s.Hosts(s.t.Context(), queue.HostFilter{State: want.state, Query: want.host}, queue.Page{Limit: 10})
		if err != nil || len(list.Items) != 1 || list.Items[0].Host != want.host {
			s.t.Errorf("Hosts with the state %s are %+v, %v, want %s", want.state, list.Items, err, want.host)
		}
	}
}

func hostCounts(s *suite) {
	check := func(pending, inFlight int) {
		s.t.Helper()
		h := s.host("a.example")
		s.same("pending and in flight", []int{pending, inFlight}, []int{h.Pending, h.InFlight})
	}
	wide := healthy()
	wide.Breaker.Window = 8 // so that what is taken may be in flight at once
	s.record("a.example", wide)
	s.fill("a.example", 3)
	s.fill("b.example", 1)
	check(3, 0)
	l := s.lease("a.example")
	ds := s.turn(l, 2).Deliveries
	check(3, 2)
	s.settle(l, delivered(ds[0]))
	check(2, 1)
	s.settle(l, retry(ds[1], time.Hour))
	check(2, 0)
	s.finish(l)
	s.turn(s.lease("a.example"), 10)
	check(2, 1)
}

// oldestPendingDeep is oldestPending for a lane that has more than a store may look at.
func oldestPendingDeep(s *suite) {
	start := time.Now()
	s.fill("a.example", 40)
	s.near("oldest", start, s.host("a.example").OldestPendingAt)
	l := s.lease("a.example")
	var results []queue.Result
	for _, d := range s.turn(l, 20).Deliveries {
		results = append(results, delivered(d))
	}
	s.finish(l, results...)
	time.Sleep(2 * second)
	s.fill("a.example", 1)
	s.near("oldest after the first", start, s.host("a.example").OldestPendingAt)
}

func oldestPending(s *suite) {
	first := s.fill("a.example", 1)[0]
	start := time.Now()
	time.Sleep(2 * second)
	s.fill("a.example", 2)
	s.near("oldest", start, s.host("a.example").OldestPendingAt)
	s.near("oldest of all", start, s.stats().OldestPendingAt)
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	s.same("first", first, d.Activity.URI)
	s.near("oldest while it is taken", start, s.host("a.example").OldestPendingAt)
	s.finish(l, delivered(d))
	s.near("oldest after it", start.Add(2*second), s.host("a.example").OldestPendingAt)
	s.near("oldest of all after it", start.Add(2*second), s.stats().OldestPendingAt)
}
