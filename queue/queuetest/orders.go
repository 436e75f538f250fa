package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

var ordersCases = []testCase{
	{name: "are shown", run: ordersShown},
	{name: "replace earlier ones", run: ordersReplaced},
	{name: "are in the feed", run: ordersFed},
	{name: "end by themselves: a pause with something pending", run: pauseEnds},
	{name: "end by themselves: a pause with nothing pending", run: pauseEndsIdle},
	{name: "end by themselves: a block", run: blockEnds},
	{name: "end by themselves, which was put off", run: pausePutOff},
	{name: "are remembered", run: ordersRemembered},
	{name: "end while the store is closed", run: ordersEndClosed},
	{name: "are not ended by a reset", run: ordersReset},
	{name: "are not forgotten", run: ordersKept},
	{name: "block subdomains", run: blocksSubdomains},
	{name: "block subdomains that are heard of later", run: blocksLater},
	{name: "pause subdomains", run: pausesSubdomains},
	{name: "cover independently of a host's own", run: coversBeside},
	{name: "cover within each other", run: coversNested},
	{name: "cover no more once they are replaced", run: coversReplaced},
	{name: "cover until they end by themselves", run: coversUntil},
	{name: "cover until they end by themselves what is blocked", run: coversBlockUntil},
	{name: "cover after a restart", run: coversRemembered},
	{name: "cover many hosts", run: coversMany},
	{name: "cover dead letters", run: coversLetters},
	{name: "may be repeated", run: coversRepeated},
}

// covering is an order for a host and its subdomains.
func covering(reason string) queue.Order {
	return queue.Order{Reason: reason, By: "ops", Subdomains: true}
}

// ordered checks which orders a host shows, but for when.
func (s *suite) ordered(host string, want ...queue.HostOrder) {
	s.t.Helper()
	got := slices.Clone(s.host(host).Orders)
	for i := range got {
		got[i].Since, got[i].Until = time.Time{}, time.Time{}
	}
	if len(want)+len(got) > 0 {
		s.same("orders for "+host, want, got)
	}
}

// orderOf is the order by which covering is shown.
func orderOf(action queue.HostAction, host, reason string) queue.HostOrder {
	return queue.HostOrder{Action: action, Host: host, Reason: reason, By: "ops", Subdomains: true}
}

// statesAre checks the states of hosts.
func (s *suite) statesAre(want queue.HostState, hosts ...string) {
	s.t.Helper()
	for _, host := range hosts {
		s.same("state of "+host, want, s.host(host).State)
	}
}

// refuses checks which hosts take nothing as they are blocked.
func (s *suite) refuses(hosts ...string) {
	s.t.Helper()
	for _, host := range hosts {
		r := s.enqueue(submission("refused "+host, host))
		s.same("refused for "+host, []queue.Refusal{{Inbox: "https://" + host + "/inbox", Reason: queue.ReasonHostBlocked}}, r.Refused)
	}
}

func ordersShown(s *suite) {
	began := time.Now()
	h := s.order("a.example", queue.Pause, queue.Order{Reason: "they move", By: "ops", For: time.Hour})
	s.same("orders", 1, len(h.Orders))
	s.near("since", began, h.Orders[0].Since)
	s.near("until", began.Add(time.Hour), h.Orders[0].Until)
	pause := queue.HostOrder{Action: queue.Pause, Host: "a.example", Reason: "they move", By: "ops"}
	s.ordered("a.example", pause)
	h = s.order("a.example", queue.Block, queue.Order{Reason: "spam"})
	block := queue.HostOrder{Action: queue.Block, Host: "a.example", Reason: "spam"}
	s.ordered("a.example", pause, block)
	if !h.Orders[1].Until.IsZero() {
		s.t.Errorf("a block without end ends at %s", h.Orders[1].Until)
	}
	list, err := s.Hosts(s.t.Context(), queue.HostFilter{State: queue.HostBlocked}, queue.Page{Limit: 10})
	if err != nil {
		s.t.Fatal(err)
	}
	s.same("host in a list", []queue.HostStatus{h}, list.Items)
	s.act("a.example", queue.Resume)
	s.ordered("a.example", block)
	s.act("a.example", queue.Unblock)
	s.ordered("a.example")
}

func ordersReplaced(s *suite) {
	first := s.order("a.example", queue.Pause, queue.Order{Reason: "first", By: "one", For: time.Hour}).Orders[0]
	time.Sleep(second / 20)
	second := s.order("a.example", queue.Pause, queue.Order{Reason: "second"}).Orders[0]
	s.same("order", queue.HostOrder{Action: queue.Pause, Host: "a.example", Reason: "second", Since: first.Since}, second)
	third := s.order("a.example", queue.Pause, queue.Order{Reason: "third", For: 2 * time.Hour})
	s.near("until", time.Now().Add(2*time.Hour), third.Orders[0].Until)
	s.states("a.example", queue.HostPaused)
}

// stateEntries returns the entries of a host's states.
func (s *suite) stateEntries(host string) []queue.Event {
	s.t.Helper()
	got, _ := s.entries(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventHostState}, Hosts: []string{host}}, "")
	return got
}

func ordersFed(s *suite) {
	s.order("a.example", queue.Pause, queue.Order{Reason: "they move", By: "ops", For: time.Hour})
	s.order("a.example", queue.Block, queue.Order{Reason: "spam", By: "mods"})
	s.order("a.example", queue.Unblock, queue.Order{By: "boss"})
	s.order("a.example", queue.Resume, queue.Order{By: "ops"})
	s.states("a.example", queue.HostPaused, queue.HostBlocked, queue.HostPaused, queue.HostHealthy)
	var by, reasons []string
	for _, e := range s.stateEntries("a.example") {
		by = append(by, e.By)
		if e.Order == nil {
			e.Order = &queue.HostOrder{}
		}
		reasons = append(reasons, string(e.Order.Action)+" "+e.Order.Host+" "+e.Order.By+" "+e.Order.Reason)
	}
	s.same("who did it", []string{"ops", "mods", "boss", "ops"}, by)
	s.same("orders", []string{"pause a.example ops they move", "block a.example mods spam", "pause a.example ops they move", "   "}, reasons)
	s.near("until", time.Now().Add(time.Hour), s.stateEntries("a.example")[0].Order.Until)
}

func pauseEnds(s *suite) {
	s.put("1", "a.example")
	s.order("a.example", queue.Pause, queue.Order{For: second})
	s.offers()
	if next := s.due(10).Next; next > second {
		s.t.Errorf("the lane is due in %s, though the pause ends in %s", next, second)
	}
	s.take(s.lease("a.example"))
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Release: true})
	time.Sleep(passing)
	s.offers("a.example")
	s.same("state", queue.HostHealthy, s.host("a.example").State)
	s.ordered("a.example")
	s.one(s.lease("a.example"), "1")
	s.sweep()
	s.states("a.example", queue.HostPaused, queue.HostHealthy)
	s.isIn("a.example", queue.HostHealthy)
}

func pauseEndsIdle(s *suite) {
	s.order("a.example", queue.Pause, queue.Order{For: second})
	s.isIn("a.example", queue.HostPaused)
	s.sweep()
	time.Sleep(passing)
	s.same("state before a sweep", queue.HostHealthy, s.host("a.example").State)
	s.hostPages(queue.HostFilter{State: queue.HostPaused})
	s.sweep()
	s.states("a.example", queue.HostPaused, queue.HostHealthy)
	s.isIn("a.example", queue.HostHealthy)
	s.same("entry", queue.Event{Kind: queue.EventHostState, Host: "a.example", State: queue.HostHealthy}, untimed(s.stateEntries("a.example")[1]))
	s.sweep()
	s.states("a.example", queue.HostPaused, queue.HostHealthy)
}

// untimed returns an entry without its time and cursor.
func untimed(e queue.Event) queue.Event {
	e.At, e.Cursor = time.Time{}, ""
	return e
}

func blockEnds(s *suite) {
	id := s.put("1", "a.example")
	s.order("a.example", queue.Block, queue.Order{For: second})
	s.counts(id, queue.Counts{Dead: 1})
	s.refuses("a.example")
	time.Sleep(passing)
	s.put("2", "a.example")
	s.offers("a.example")
	s.one(s.lease("a.example"), "2")
	s.sweep()
	s.states("a.example", queue.HostBlocked, queue.HostHealthy)
	s.isIn("a.example", queue.HostHealthy)
}

func pausePutOff(s *suite) {
	s.put("1", "a.example")
	s.put("2", "b.example")
	for _, host := range []string{"a.example", "b.example", "idle.example"} {
		s.order(host, queue.Pause, queue.Order{For: second})
	}
	s.order("a.example", queue.Pause, queue.Order{For: time.Hour})
	s.order("b.example", queue.Pause, queue.Order{})
	s.order("idle.example", queue.Pause, queue.Order{For: time.Hour})
	time.Sleep(passing)
	s.sweep()
	s.statesAre(queue.HostPaused, "a.example", "b.example", "idle.example")
	s.offers()
	s.drain()
	s.order("a.example", queue.Pause, queue.Order{For: second})
	s.order("idle.example", queue.Pause, queue.Order{For: second})
	time.Sleep(passing)
	s.offers("a.example")
	s.sweep()
	s.hostPages(queue.HostFilter{State: queue.HostPaused}, "b.example")
	s.states("idle.example", queue.HostPaused, queue.HostHealthy)
}

func ordersRemembered(s *suite) {
	s.order("a.example", queue.Pause, queue.Order{Reason: "they move", By: "ops", For: time.Hour})
	want := s.order("a.example", queue.Block, queue.Order{Reason: "spam"})
	s.reopen()
	s.same("host", want, s.host("a.example"))
	s.act("a.example", queue.Unblock)
	s.act("a.example", queue.Resume)
	s.reopen()
	s.ordered("a.example")
	s.isIn("a.example", queue.HostHealthy)
}

func ordersEndClosed(s *suite) {
	s.record("a.example", healthy())
	s.put("1", "x.a.example")
	s.order("a.example", queue.Pause, queue.Order{For: second, Subdomains: true})
	s.order("b.example", queue.Block, queue.Order{For: second})
	time.Sleep(passing)
	s.reopen()
	s.put("2", "b.example")
	s.offers("x.a.example", "b.example")
	s.sweep()
	for _, host := range []string{"a.example", "x.a.example"} {
		s.states(host, queue.HostPaused, queue.HostHealthy)
	}
	s.states("b.example", queue.HostBlocked, queue.HostHealthy)
	s.same("hosts", map[queue.HostState]int{queue.HostHealthy: 3}, s.stats().Hosts)
}

func ordersReset(s *suite) {
	s.fail("x.a.example", unreached())
	s.order("a.example", queue.Pause, covering("they move"))
	want := s.host("a.example").Orders
	s.act("x.a.example", queue.Reset)
	s.act("a.example", queue.Reset)
	if _, err := s.ResetHosts(s.t.Context(), queue.HostPaused); err != nil {
		s.t.Fatal(err)
	}
	s.same("orders", want, s.host("a.example").Orders)
	s.statesAre(queue.HostPaused, "a.example", "x.a.example")
	s.act("a.example", queue.Resume)
	s.sweep()
	s.statesAre(queue.HostHealthy, "a.example", "x.a.example")
}

func ordersKept(s *suite) {
	s.fail("x.a.example", unreached())
	s.fail("x.b.example", unreached())
	s.order("a.example", queue.Block, covering("spam"))
	s.order("b.example", queue.Pause, queue.Order{Reason: "they move"})
	s.pass(queue.HostRetention + time.Hour)
	s.sweep()
	s.knows("a.example", "b.example", "x.a.example")
	s.ordered("a.example", orderOf(queue.Block, "a.example", "spam"))
	s.ordered("x.a.example", orderOf(queue.Block, "a.example", "spam"))
	s.ordered("b.example", queue.HostOrder{Action: queue.Pause, Host: "b.example", Reason: "they move"})
	s.refuses("y.a.example")
}

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
