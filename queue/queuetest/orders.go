package queuetest

import (
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
	{name: "cover many hosts", run: coversMany, large: true},
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
