package queuetest

import (
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Settle gives the next deliveries, as Take would.
var nextCases = []testCase{
	{name: "gives no more than wanted, and nothing twice", run: givesWanted},
	{name: "gives without results", run: givesWithoutResults},
	{name: "gives nothing where none is wanted", run: givesNone},
	{name: "gives what is behind a result in its chain", run: givesNextOfChain},
	{name: "gives what a result frees at once", run: givesRetried},
	{name: "gives what waited for a host that recovered", run: givesRecovered},
	{name: "gives high priority first, and each its share", run: givesShares},
	{name: "gives one probe at a time", run: givesProbes},
	{name: "gives nothing once the lane waits", run: givesNothingWaiting},
	{name: "gives nothing once its host is paused or blocked", run: givesNothingStopped},
	{name: "gives nothing that is cancelled", run: givesNothingCancelled},
	{name: "gives nothing that is superseded", run: givesNothingSuperseded},
	{name: "ends the turn only if it gives nothing", run: endsTurnWithNothing},
	{name: "ends the turn if all it would give is superseded", run: endsTurnSuperseded},
	{name: "gives again what a lost answer gave", run: givesAgain},
	{name: "gives nothing to an earlier lease", run: givesNothingFenced},
}

// next settles, and returns the URIs of at most n deliveries that this gives, beside those by their URIs.
func (s *suite) next(l lockmgr.Lease, n int, st queue.Settlement) ([]string, map[string]queue.Delivery) {
	s.t.Helper()
	ds, err := s.Settle(s.t.Context(), l, st, n)
	if err != nil {
		s.t.Fatalf("Settle(%s): %v", l.Host, err)
	}
	byURI := map[string]queue.Delivery{}
	for _, d := range ds {
		byURI[d.Activity.URI] = d
	}
	return uris(ds), byURI
}

// gives checks what a settlement of results gives, in any order.
func (s *suite) gives(l lockmgr.Lease, st queue.Settlement, want ...string) map[string]queue.Delivery {
	s.t.Helper()
	got, ds := s.next(l, 100, st)
	s.same("what Settle gave", slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)))
	return ds
}

func results(rs ...queue.Result) queue.Settlement { return queue.Settlement{Results: rs} }

// last is the settlement of results that may be the last of a turn.
func last(rs ...queue.Result) queue.Settlement { return queue.Settlement{Results: rs, Release: true} }

func givesWanted(s *suite) {
	names := s.fill("a.example", 40) // more than a lane's window
	l := s.lease("a.example")
	ds := s.turn(l, 2).Deliveries
	got, all := uris(ds), []queue.Result{delivered(ds[0]), delivered(ds[1])}
	for n := range 8 {
		more, byURI := s.next(l, n, results(all...))
		s.same("how many Settle gave", n, len(more))
		got, all = append(got, more...), nil
		for _, d := range byURI {
			all = append(all, delivered(d))
			s.same("body, inbox and early", []any{d.Activity.URI, "https://a.example/inbox", false},
				[]any{strings.Split(string(d.Activity.Body), `"`)[3], d.Inbox, d.Early})
		}
	}
	more, _ := s.next(l, 100, results(all...))
	s.same("order", names, append(got, more...))
	s.gives(l, queue.Settlement{})
	s.same("pending", 10, s.host("a.example").Pending)
}

func givesWithoutResults(s *suite) {
	names := s.fill("a.example", 3)
	l := s.lease("a.example")
	s.turn(l, 0)
	s.gives(l, queue.Settlement{}, names...)
	s.take(l)
}

func givesNone(s *suite) {
	names := s.fill("a.example", 2)
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	got, _ := s.next(l, 0, results(delivered(d)))
	s.same("what Settle gave", 0, len(got))
	s.take(l, names[1])
}

func givesNextOfChain(s *suite) {
	s.chain("a.example")
	l := s.lease("a.example")
	d := s.one(l, "1")
	s.gives(l, queue.Settlement{})
	ds := s.gives(l, last(delivered(d)), "2")
	s.gives(l, results(retry(ds["2"], time.Hour)))
	s.take(l)
}

func givesRetried(s *suite) {
	s.put("1", "a.example")
	l := s.lease("a.example")
	ds := s.gives(l, results(retry(s.one(l, "1"), 0)), "1")
	s.same("attempts", 1, ds["1"].Attempts)
	s.gives(l, results(retry(ds["1"], time.Hour)))
}

func givesRecovered(s *suite) {
	names := s.fill("a.example", 3)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	s.settle(l, hostFailed(ds[names[0]], time.Hour))
	st := results(delivered(ds[names[1]]))
	st.Recovered = true
	s.gives(l, st, names[0])
}

func givesShares(s *suite) {
	const each = 24
	var of [queue.Priorities][]string
	for _, p := range []queue.Priority{queue.Low, queue.Normal, queue.High} {
		of[p] = s.fill("a.example", each, priority(p))
	}
	l := s.lease("a.example")
	s.turn(l, 0)
	var got [queue.Priorities][]string
	var all []queue.Result
	for range each {
		_, ds := s.next(l, 1, results(all...))
		all = nil
		for uri, d := range ds {
			got[d.Activity.Priority] = append(got[d.Activity.Priority], uri)
			all = append(all, delivered(d))
		}
	}
	high := len(got[queue.High])
	normal := len(got[queue.Normal])
	low := len(got[queue.Low])
	if high+normal+low != each || low == 0 || normal < low || high <= normal {
		s.t.Errorf("of the first %d deliveries %d were high, %d normal and %d low; want each to get on, high first", each, high, normal, low)
	}
	for p := range got {
		s.same("order within a priority", of[p][:len(got[p])], got[p])
	}
}

func givesProbes(s *suite) {
	l, _ := s.probed(breaker.Open, 3)
	d := s.turn(l, 10).Deliveries[0]
	s.gives(l, queue.Settlement{})
	got, ds := s.next(l, 10, results(deferred(d, 0)))
	s.same("probes", 1, len(got))
	well := healthy()
	st := results(delivered(ds[got[0]]))
	st.Host = &well
	got, _ = s.next(l, 10, st)
	s.same("deliveries once the breaker is closed", 2, len(got))
}

func givesNothingWaiting(s *suite) {
	names := s.fill("a.example", 2)
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	st := last(delivered(d))
	st.Wait = second
	s.gives(l, st)
	s.offers()
	time.Sleep(passing)
	s.take(s.lease("a.example"), names[1])
}

func givesNothingStopped(s *suite) {
	for _, stop := range []queue.HostAction{queue.Pause, queue.Block} {
		host := string(stop) + ".example"
		s.fill(host, 3)
		l := s.lease(host)
		ds := s.turn(l, 2).Deliveries
		s.act(host, stop)
		s.gives(l, results(delivered(ds[0])))
		s.gives(l, last(delivered(ds[1])))
		s.take(s.lease(host))
	}
}

func givesNothingCancelled(s *suite) {
	first := s.put("1", "a.example")
	second := s.put("2", "a.example")
	s.put("3", "a.example")
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	s.cancel(first)
	s.cancel(second)
	s.gives(l, results(delivered(d)), "3")
	s.counts(first, queue.Counts{Cancelled: 1})
	s.counts(second, queue.Counts{Cancelled: 1})
}

func givesNothingSuperseded(s *suite) {
	create := s.waited("create", "a.example", role(queue.Makes))
	s.put("1", "b.example")
	s.put("delete", "a.example", role(queue.Deletes))
	l := s.lease("a.example")
	s.turn(l, 0)
	s.gives(l, queue.Settlement{Release: true}, "delete")
	s.counts(create, queue.Counts{Cancelled: 1})
	s.same("pending", 1, s.host("a.example").Pending)
}

func endsTurnWithNothing(s *suite) {
	names := s.fill("a.example", 2)
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	ds := s.gives(l, last(delivered(d)), names[1])
	s.offers()
	s.same("in flight", 1, s.host("a.example").InFlight)
	s.put("3", "a.example", ordering(names[1]))
	st := last(retry(ds[names[1]], 0))
	got, ds := s.next(l, 1, st)
	s.same("what Settle gave", names[1:], got)
	s.gives(l, last(retry(ds[names[1]], time.Hour)))
	s.act("a.example", queue.Resume)
	s.put("4", "a.example")
	s.offers("a.example")
	s.take(s.lease("a.example"), "4")
}

func endsTurnSuperseded(s *suite) {
	leases := s.b.Leases(s.Queue)
	create := s.waited("create", "a.example", role(queue.Makes))
	held, err := leases.Acquire(s.t.Context(), []string{"a.example"})
	if err != nil || len(held) != 1 {
		s.t.Fatalf("Acquire gave %v, %v", held, err)
	}
	s.turn(held[0], 0)
	s.put("delete", "b.example", role(queue.Deletes))
	s.gives(held[0], queue.Settlement{Release: true})
	s.counts(create, queue.Counts{Cancelled: 1})
	if held, err = leases.Acquire(s.t.Context(), []string{"a.example"}); err != nil || len(held) != 1 {
		s.t.Errorf("once the turn has ended Acquire gave %v, %v", held, err)
	}
}

func givesAgain(s *suite) {
	names := s.fill("a.example", 4)
	l := s.lease("a.example")
	ds := s.turn(l, 2).Deliveries
	lost := results(delivered(ds[0]))
	s.next(l, 1, lost)
	got, _ := s.next(l, 0, lost)
	s.same("what Settle gave", 0, len(got))
	s.settlement(l, last(delivered(ds[1])))
	s.offers("a.example")
	s.take(s.lease("a.example"), names[2:]...)

	more := s.fill("b.example", 2) // the answer to the last settlement of a turn
	l = s.lease("b.example")
	d := s.turn(l, 1).Deliveries[0]
	s.gives(l, last(delivered(d)), more[1])
	s.settlement(l, last(delivered(d)))
	s.offers("b.example")
	s.take(s.lease("b.example"), more[1])
}

func givesNothingFenced(s *suite) {
	names := s.fill("a.example", 2)
	early, late := s.lease("a.example"), s.lease("a.example")
	d := s.turn(early, 1).Deliveries[0]
	s.turn(late, 0)
	ds, err := s.Settle(s.t.Context(), early, results(delivered(d)), 2)
	s.is("Settle of the earlier lease", err, queue.ErrNotHeld)
	s.same("what it gave", 0, len(ds))
	s.take(late, names...)
}
