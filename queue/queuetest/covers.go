package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// under are hosts that an order for a.example and its subdomains covers.
var under = []string{"x.a.example", "y.x.a.example", "a.example:8443", "x.a.example:8443"}

// beside are hosts that it does not cover.
var beside = []string{"ba.example", "x.ba.example", "example", "a.example.net", "other.example", "10.0.0.1", "[2001:db8::1]:8443"}

// with returns names and more of them, in order.
func with(names []string, more ...string) []string {
	return slices.Sorted(slices.Values(slices.Concat(names, more)))
}

func blocksSubdomains(s *suite) {
	ids := map[string]string{}
	for _, host := range with(under, append(slices.Clone(beside), "a.example")...) {
		ids[host] = s.put("1 "+host, host)
	}
	h := s.order("a.example", queue.Block, covering("spam"))
	s.same("state", queue.HostBlocked, h.State)
	for _, host := range under {
		s.take(s.lease(host))
	}
	s.refuses("a.example")
	s.refuses(under...)
	s.sweep()
	for _, host := range with(under, "a.example") {
		s.counts(ids[host], queue.Counts{Dead: 1})
		s.ordered(host, orderOf(queue.Block, "a.example", "spam"))
		s.states(host, queue.HostBlocked)
		e := s.stateEntries(host)[0]
		s.same("order and token of the entry", []string{"a.example", "spam", "ops"}, []string{e.Order.Host, e.Order.Reason, e.By})
	}
	s.hostsAre(queue.HostBlocked, with(under, "a.example")...)
	s.hostsAre(queue.HostHealthy, with(beside)...)
	s.same("hosts", map[queue.HostState]int{queue.HostBlocked: 5, queue.HostHealthy: len(beside)}, s.stats().Hosts)
	s.offers(beside...)
	for _, host := range beside {
		s.one(s.lease(host), "1 "+host)
		s.states(host)
		s.ordered(host)
	}
	s.act("a.example", queue.Unblock)
	for _, host := range under {
		s.put("2 "+host, host)
	}
	s.sweep()
	for _, host := range with(under, "a.example") {
		s.states(host, queue.HostBlocked, queue.HostHealthy)
	}
	s.same("hosts", map[queue.HostState]int{queue.HostHealthy: 5 + len(beside)}, s.stats().Hosts)
}

func blocksLater(s *suite) {
	s.order("a.example", queue.Block, covering("spam"))
	mixed := with(under, "other.example")
	r := s.enqueue(submission("1", mixed...))
	s.same("accepted and refused", []int{1, len(under)}, []int{r.Accepted, len(r.Refused)})
	s.refuses(under...)
	s.statesAre(queue.HostBlocked, under...)
	for _, host := range under {
		want := s.host("a.example").Orders
		got := s.host(host)
		s.near("since", want[0].Since.Add(-s.b.Ahead), got.Orders[0].Since) // each partition has a clock
		want[0].Since = got.Orders[0].Since
		s.same("host", queue.HostStatus{Host: host, State: queue.HostBlocked, Orders: want}, got)
	}
	s.sweep()
	s.hostsAre("", "a.example", "other.example")
	s.act("a.example", queue.Unblock)
	s.put("2", under[0], alsoTo(under[1:]...))
	s.offers(with(under, "other.example")...)
}

func pausesSubdomains(s *suite) {
	known := under[:2]
	for _, host := range with(known, "ba.example") {
		s.put("1 "+host, host)
	}
	s.order("a.example", queue.Pause, covering("they move"))
	for _, host := range under {
		s.put("2 "+host, host)
	}
	s.put("2 a.example", "a.example")
	s.offers("ba.example")
	s.one(s.lease("ba.example"), "1 ba.example")
	for _, host := range with(under, "a.example") {
		s.take(s.lease(host))
		s.settlement(s.takeNothing(host), queue.Settlement{Release: true})
	}
	s.sweep()
	s.offers()
	s.hostsAre(queue.HostPaused, with(under, "a.example")...)
	for _, host := range under {
		s.ordered(host, orderOf(queue.Pause, "a.example", "they move"))
		s.states(host, queue.HostPaused)
	}
	s.drain()
	s.act("a.example", queue.Resume)
	s.woken("Resume")
	s.sweep()
	s.offers(with(under, "a.example")...)
	for _, host := range under[2:] {
		s.one(s.lease(host), "2 "+host)
		s.states(host, queue.HostPaused, queue.HostHealthy)
	}
}

// isCovered checks that an action fails as another host's order covers the host.
func (s *suite) isCovered(host string, action queue.HostAction, by string) {
	s.t.Helper()
	_, err := s.Act(s.t.Context(), host, action, queue.Order{})
	cover, ok := errors.AsType[*queue.CoveredError](err)
	if !ok || cover.Host != by {
		s.t.Errorf("%s of %s gave the error %v, want that %s covers it", action, host, err, by)
	}
}

func coversBeside(s *suite) {
	s.put("1", "x.a.example")
	s.order("a.example", queue.Pause, covering("they move"))
	s.isCovered("x.a.example", queue.Resume, "a.example")
	s.isCovered("y.a.example", queue.Resume, "a.example")
	s.act("x.a.example", queue.Unblock) // no block covers it
	s.same("state of what is not known", queue.HostPaused, s.host("y.a.example").State)

	own := queue.HostOrder{Action: queue.Pause, Host: "x.a.example", Reason: "own"}
	s.order("x.a.example", queue.Pause, queue.Order{Reason: "own"})
	s.ordered("x.a.example", own, orderOf(queue.Pause, "a.example", "they move"))
	s.same("state", queue.HostPaused, s.act("x.a.example", queue.Resume).State)
	s.ordered("x.a.example", orderOf(queue.Pause, "a.example", "they move"))
	s.isCovered("x.a.example", queue.Resume, "a.example")

	s.order("x.a.example", queue.Pause, queue.Order{Reason: "own"})
	s.act("a.example", queue.Resume)
	s.sweep()
	s.ordered("x.a.example", own)
	s.offers()
	s.same("state", queue.HostPaused, s.host("x.a.example").State)
	s.same("state", queue.HostHealthy, s.act("x.a.example", queue.Resume).State)
	s.offers("x.a.example")
	s.states("x.a.example", queue.HostPaused, queue.HostHealthy)

	s.order("a.example", queue.Block, covering("spam"))
	s.order("x.a.example", queue.Pause, queue.Order{Reason: "own"})
	s.statesAre(queue.HostBlocked, "x.a.example")
	s.isCovered("x.a.example", queue.Unblock, "a.example")
	s.ordered("x.a.example", own, orderOf(queue.Block, "a.example", "spam"))
	s.act("a.example", queue.Unblock)
	s.sweep()
	s.statesAre(queue.HostPaused, "x.a.example")
	s.states("x.a.example", queue.HostPaused, queue.HostHealthy, queue.HostBlocked, queue.HostPaused)
}

func coversNested(s *suite) {
	s.put("1", "y.x.a.example")
	s.order("a.example", queue.Pause, covering("outer"))
	s.order("x.a.example", queue.Pause, covering("inner"))
	s.order("a.example", queue.Block, queue.Order{Reason: "only itself"})
	s.ordered("y.x.a.example", orderOf(queue.Pause, "x.a.example", "inner"), orderOf(queue.Pause, "a.example", "outer"))
	s.ordered("x.a.example", orderOf(queue.Pause, "x.a.example", "inner"), orderOf(queue.Pause, "a.example", "outer"))
	s.isCovered("y.x.a.example", queue.Resume, "x.a.example")
	s.act("x.a.example", queue.Resume)
	s.sweep()
	s.isCovered("x.a.example", queue.Resume, "a.example")
	s.ordered("y.x.a.example", orderOf(queue.Pause, "a.example", "outer"))
	s.offers()
	s.act("a.example", queue.Resume)
	s.sweep()
	s.ordered("y.x.a.example")
	s.offers("y.x.a.example")
	s.states("y.x.a.example", queue.HostPaused, queue.HostHealthy)
}

func coversReplaced(s *suite) {
	s.put("1", "x.a.example")
	s.order("a.example", queue.Pause, covering("they move"))
	s.offers()
	s.order("a.example", queue.Pause, queue.Order{Reason: "they move", By: "ops"})
	s.sweep()
	s.offers("x.a.example")
	s.one(s.lease("x.a.example"), "1")
	s.hostPages(queue.HostFilter{State: queue.HostPaused}, "a.example")
	s.order("a.example", queue.Pause, covering("they move"))
	s.statesAre(queue.HostPaused, "x.a.example", "z.a.example")
	s.act("a.example", queue.Resume)
	s.sweep()
	s.statesAre(queue.HostHealthy, "a.example", "x.a.example", "z.a.example")
}

func coversUntil(s *suite) {
	for _, host := range under {
		s.put("1 "+host, host)
	}
	s.record("idle.a.example", healthy())
	s.order("a.example", queue.Pause, queue.Order{For: second, Subdomains: true})
	s.sweep()
	s.offers()
	s.near("until", time.Now().Add(second), s.host("x.a.example").Orders[0].Until)
	s.order("y.x.a.example", queue.Pause, queue.Order{For: time.Hour})
	time.Sleep(passing)
	free := []string{"x.a.example", "a.example:8443", "x.a.example:8443"}
	s.statesAre(queue.HostHealthy, with(free, "idle.a.example", "a.example", "new.a.example")...)
	s.offers(free...)
	s.sweep()
	s.hostPages(queue.HostFilter{State: queue.HostPaused}, "y.x.a.example")
	s.hostsAre(queue.HostHealthy, with(free, "a.example", "idle.a.example")...)
	s.sweep()
	for _, host := range with(free, "a.example", "idle.a.example") {
		s.states(host, queue.HostPaused, queue.HostHealthy)
	}
	s.states("y.x.a.example", queue.HostPaused)
	s.act("x.a.example", queue.Resume) // nothing covers it any more
}

func coversBlockUntil(s *suite) {
	s.record("x.a.example", healthy())
	s.record("idle.a.example", healthy())
	s.order("a.example", queue.Block, queue.Order{For: second, Subdomains: true})
	s.refuses("x.a.example", "new.a.example")
	s.sweep()
	time.Sleep(passing)
	s.put("1", "x.a.example", alsoTo("new.a.example"))
	s.offers("x.a.example", "new.a.example")
	s.sweep()
	s.hostPages(queue.HostFilter{State: queue.HostBlocked})
	for _, host := range []string{"x.a.example", "idle.a.example", "a.example"} {
		s.states(host, queue.HostBlocked, queue.HostHealthy)
	}
	s.states("new.a.example")
}

func coversRemembered(s *suite) {
	s.put("1", "x.a.example")
	s.order("a.example", queue.Pause, covering("they move"))
	s.order("b.example", queue.Block, covering("spam"))
	s.sweep()
	s.reopen()
	s.statesAre(queue.HostPaused, "a.example", "x.a.example", "new.a.example")
	s.offers()
	s.ordered("x.a.example", orderOf(queue.Pause, "a.example", "they move"))
	s.refuses("b.example", "x.b.example")
	s.act("a.example", queue.Resume)
	s.act("b.example", queue.Unblock)
	s.reopen()
	s.sweep()
	s.offers("x.a.example")
	s.put("2", "x.b.example")
	s.states("x.a.example", queue.HostPaused, queue.HostHealthy)
}

func coversMany(s *suite) {
	const n = 1100
	var records []queue.Record
	for i := range n {
		records = append(records, queue.Record{Host: &queue.MovedHost{Host: fmt.Sprintf("h%04d.a.example", i), Record: healthy()}})
	}
	s.load(records, n)
	s.put("1", "h0007.a.example")
	s.order("a.example", queue.Block, covering("spam"))
	s.sweep()
	s.same("hosts", map[queue.HostState]int{queue.HostBlocked: n + 1}, s.stats().Hosts)
	s.states("h1099.a.example", queue.HostBlocked)
	s.same("dead", 1, s.stats().Dead)
	s.act("a.example", queue.Unblock)
	s.sweep()
	s.same("hosts", map[queue.HostState]int{queue.HostHealthy: n + 1}, s.stats().Hosts)
	s.states("h1099.a.example", queue.HostBlocked, queue.HostHealthy)
}

func coversLetters(s *suite) {
	s.bury("1", "x.a.example", queue.ReasonRejected)
	s.order("a.example", queue.Block, covering("spam"))
	got, err := s.RetryDead(s.t.Context(), queue.DeadLetterChoice{}, ttl)
	if err != nil {
		s.t.Fatal(err)
	}
	s.same("retried", queue.DeadLetterCount{Matched: 1}, got)
	s.act("a.example", queue.Unblock)
	if got, err = s.RetryDead(s.t.Context(), queue.DeadLetterChoice{}, ttl); err != nil {
		s.t.Fatal(err)
	}
	s.same("retried", queue.DeadLetterCount{Matched: 1, Done: 1}, got)
	s.one(s.lease("x.a.example"), "1")
}

func coversRepeated(s *suite) {
	s.put("1", "x.a.example")
	order := covering("spam")
	order.For = time.Hour
	for _, action := range []queue.HostAction{queue.Pause, queue.Block, queue.Unblock, queue.Resume} {
		for range 2 {
			s.order("a.example", action, order)
			s.sweep()
		}
	}
	s.states("a.example", queue.HostPaused, queue.HostBlocked, queue.HostPaused, queue.HostHealthy)
	s.states("x.a.example", queue.HostPaused, queue.HostBlocked, queue.HostPaused, queue.HostHealthy)
}

// sameEnds checks that orders that were moved have the times that they had, and gives want those of got. Each partition has a
// clock of its own.
func (s *suite) sameEnds(began time.Time, want, got []queue.HostOrder) {
	s.t.Helper()
	for i := range want {
		if i == len(got) {
			break
		}
		s.moved("since", began, want[i].Since.Add(-s.b.Ahead), got[i].Since)
		want[i].Since = got[i].Since
		if !want[i].Until.IsZero() {
			s.moved("until", began, want[i].Until, got[i].Until)
			want[i].Until = got[i].Until
		}
	}
}
