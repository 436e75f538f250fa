package queuetest

import (
	"slices"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var takeCases = []testCase{
	{name: "gives no more than wanted and shows that there is more", run: takesWanted},
	{name: "gives nothing twice", run: takesOnce},
	{name: "gives what a silent holder took to a later one", run: takesOver},
	{name: "leaves an earlier lease out", run: leavesOut},
	{name: "gives turns in the order of the leases", run: inOrderOfLeases},
	{name: "gives one delivery while the breaker is not closed", run: probesOnce},
	{name: "gives the one due first as a probe, even early", run: probesEarly},
	{name: "gives what is due as a probe that is not early", run: probesDue},
	{name: "draws a probe at random, of any priority", run: probesAtRandom},
	{name: "gives nothing of a lane that waits", run: takesNothingWaiting},
	{name: "gives the store's time", run: showsTime},
	{name: "gives oldest first", run: oldestFirst},
	{name: "gives high priority first, and each its share", run: shares},
	{name: "gives all priorities together if there is room", run: takesAllPriorities},
}

func takesWanted(s *suite) {
	s.fill("a.example", 5)
	l := s.lease("a.example")
	got := 0
	for _, want := range []struct {
		n, gives int
		more     bool
	}{{2, 2, true}, {0, 0, true}, {2, 2, true}, {2, 1, false}, {2, 0, false}} {
		turn := s.turn(l, want.n)
		if len(turn.Deliveries) != want.gives || turn.More != want.more {
			s.t.Errorf("after %d of 5 Take(%d) gave %d, more %t; want %d, %t",
				got, want.n, len(turn.Deliveries), turn.More, want.gives, want.more)
		}
		s.same("lease", l, turn.Lease)
		got += len(turn.Deliveries)
	}
}

func takesOnce(s *suite) {
	names := s.fill("a.example", 3)
	l := s.lease("a.example")
	first := s.turn(l, 2).Deliveries
	rest := s.turn(l, 10).Deliveries
	s.same("what two takes gave", names, append(uris(first), uris(rest)...))
	s.take(l)
	s.settle(l, delivered(first[0]))
	s.take(l)
}

func takesOver(s *suite) {
	names := s.fill("a.example", 3)
	first, second := s.lease("a.example"), s.lease("a.example")
	d := s.turn(first, 2).Deliveries[0]
	s.take(second, names...)
	_, err := s.Settle(s.t.Context(), first, queue.Settlement{Results: []queue.Result{delivered(d)}, Release: true}, 0)
	s.is("Settle of the earlier lease", err, queue.ErrNotHeld)
	s.take(second)
}

func showsTime(s *suite) {
	s.fill("a.example", 1)
	s.near("the time given", time.Now(), s.turn(s.lease("a.example"), 1).Now)
}

func leavesOut(s *suite) {
	s.fill("a.example", 3)
	names := s.fill("b.example", 3)
	early, late := s.lease("a.example"), s.lease("a.example")
	s.turn(late, 0)
	other := s.lease("b.example")
	turns, err := s.Take(s.t.Context(), []lockmgr.Lease{early, other}, 10)
	if err != nil || len(turns) != 1 {
		s.t.Fatalf("Take gave %d turns, %v, want that of b.example only", len(turns), err)
	}
	s.same("lease", other, turns[0].Lease)
	s.same("deliveries", names, uris(turns[0].Deliveries))
	s.settlement(late, queue.Settlement{Release: true})
	turns, err = s.Take(s.t.Context(), []lockmgr.Lease{early}, 10)
	if err != nil || len(turns) != 0 {
		s.t.Errorf("after the later lease was released Take of the earlier gave %v, %v", turns, err)
	}
}

func inOrderOfLeases(s *suite) {
	names := hosts("a", 30)
	s.enqueue(submission("https://app.example/a/1", names...))
	slices.Reverse(names)
	var leases []lockmgr.Lease
	for _, host := range names {
		leases = append(leases, s.lease(host))
	}
	s.take(leases[7], "https://app.example/a/1")
	turns, err := s.Take(s.t.Context(), leases, 10)
	if err != nil || len(turns) != len(leases) {
		s.t.Fatalf("Take of %d leases gave %d turns, %v", len(leases), len(turns), err)
	}
	for i, turn := range turns {
		s.same("lease", leases[i], turn.Lease)
		want := 1
		if i == 7 {
			want = 0
		}
		s.same("deliveries", want, len(turn.Deliveries))
	}
}

// probed is a lane with its breaker in the state given and n deliveries due.
func (s *suite) probed(state breaker.State, n int) (lockmgr.Lease, []string) {
	s.t.Helper()
	s.record("a.example", failing(state))
	return s.lease("a.example"), s.fill("a.example", n)
}

func probesOnce(s *suite) {
	for _, state := range []breaker.State{breaker.Open, breaker.HalfOpen} {
		l, _ := s.probed(state, 3)
		d := s.turn(l, 10).Deliveries
		s.same("deliveries", 1, len(d))
		s.take(l)
		s.settle(l, deferred(d[0], 0))
		d = s.turn(l, 10).Deliveries
		s.same("deliveries after one was put back", 1, len(d))
		well := healthy()
		s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d[0])}, Host: &well})
		var all []queue.Result
		for _, d := range s.turn(l, 10).Deliveries {
			all = append(all, delivered(d))
		}
		s.same("deliveries once the breaker is closed", 2, len(all))
		s.finish(l, all...)
	}
}

func probesEarly(s *suite) {
	l, names := s.probed(breaker.Closed, 3)
	ds := s.take(l, names...)
	open := failing(breaker.Open)
	s.settlement(l, queue.Settlement{Host: &open, Release: true, Results: []queue.Result{
		retry(ds[names[0]], time.Hour), hostFailed(ds[names[1]], time.Minute), retry(ds[names[2]], 2*time.Hour),
	}})
	l = s.lease("a.example")
	d := s.one(l, names[1])
	s.same("early", true, d.Early)
	s.same("attempts", 1, d.Attempts)
	s.take(l)
}

func probesDue(s *suite) {
	l, names := s.probed(breaker.Open, 1)
	d := s.one(l, names[0])
	s.same("early", false, d.Early)
	s.finish(l, retry(d, second))
	s.fill("a.example", 1)
	l = s.lease("a.example")
	ds := s.turn(l, 10).Deliveries
	if len(ds) != 1 || ds[0].Early {
		s.t.Errorf("with one delivery due and one that waits, the probes are %+v", ds)
	}
}

func probesAtRandom(s *suite) {
	l, names := s.probed(breaker.Open, 12)
	s.fill("a.example", 12, priority(queue.Low))
	lows, seen := 0, map[string]bool{}
	for range 100 {
		d := s.turn(l, 1).Deliveries[0]
		if low := !slices.Contains(names, d.Activity.URI); low {
			lows++
		}
		seen[d.Activity.URI] = true
		s.settle(l, deferred(d, 0))
	}
	if lows < 10 || lows > 90 { // one in 10^17 is that bad
		s.t.Errorf("%d of a hundred probes were of low priority, which half of what is due has", lows)
	}
	if len(seen) < 6 { // one in 10^30 is that bad
		s.t.Errorf("a hundred probes were of %d of 24 deliveries", len(seen))
	}
}

func takesNothingWaiting(s *suite) {
	names := s.fill("a.example", 2)
	l := s.lease("a.example")
	ds := s.turn(l, 1).Deliveries
	s.settlement(l, queue.Settlement{Results: []queue.Result{deferred(ds[0], 0)}, Wait: second})
	s.take(l)
	s.settlement(l, queue.Settlement{Release: true})
	l = s.lease("a.example")
	s.take(l)
	time.Sleep(passing)
	s.take(l, names...)
}

func oldestFirst(s *suite) {
	names := s.fill("a.example", 20)
	l := s.lease("a.example")
	var got []string
	for range 4 {
		got = append(got, uris(s.turn(l, 5).Deliveries)...)
	}
	s.same("order", names, got)
}

func shares(s *suite) {
	const each = 24
	var of [queue.Priorities][]string
	for _, p := range []queue.Priority{queue.Low, queue.Normal, queue.High} {
		of[p] = s.fill("a.example", each, priority(p))
	}
	l := s.lease("a.example")
	var got [queue.Priorities][]string
	for range each {
		d := s.turn(l, 1).Deliveries[0]
		got[d.Activity.Priority] = append(got[d.Activity.Priority], d.Activity.URI)
		s.settle(l, delivered(d))
	}
	high := len(got[queue.High])
	normal := len(got[queue.Normal])
	low := len(got[queue.Low])
	if low == 0 || normal < low || high <= normal {
		s.t.Errorf("of the first %d deliveries %d were high, %d normal and %d low; want each to get on, high first",
			each, high, normal, low)
	}
	for p := range got {
		s.same("order within a priority", of[p][:len(got[p])], got[p])
	}
}

func takesAllPriorities(s *suite) {
	var names []string
	for p := range queue.Priority(queue.Priorities) {
		names = append(names, s.fill("a.example", 4, priority(p))...)
	}
	s.take(s.lease("a.example"), names...)
}
