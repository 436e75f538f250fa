package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var hostDeliveryCases = []testCase{
	{name: "of a host never heard of are none", run: listsNoPending},
	{name: "are shown whole", run: showsPending},
	{name: "say what they wait for", run: showsWaits},
	{name: "say that they wait for their host", run: showsHeldBack},
	{name: "are in the order accepted", run: listsInOrder},
	{name: "of a deep lane are paged", run: pagesDeepLane, large: true},
	{name: "of long chains are paged", run: pagesChains, large: true},
	{name: "are all listed while others end", run: pagesWhileSettling, large: true},
	{name: "of a large submission are there at once", run: listsLargeSubmission},
	{name: "have what is retried in its place", run: listsRetried},
	{name: "survive a restart", run: listsPendingAgain, large: true},
	{name: "refuse a bad cursor", run: refusesPendingCursor},
}

// pendingFor lists what is pending for a host, by pages of so many.
func (s *suite) pendingFor(host string, limit int) (all []queue.DeliveryStatus) {
	s.t.Helper()
	for p := (queue.Page{Limit: limit}); ; {
		var list queue.List[queue.DeliveryStatus]
		list, p.Cursor = s.pendingPage(host, p)
		all = append(all, list.Items...)
		if p.Cursor == "" {
			return all
		}
		if len(all) > 5000 {
			s.t.Fatalf("HostDeliveries(%s) does not end: it goes on at %q", host, p.Cursor)
		}
	}
}

// pendingPage reads a page of what is pending for a host, and returns the cursor of the next one.
func (s *suite) pendingPage(host string, p queue.Page) (list queue.List[queue.DeliveryStatus], next string) {
	s.t.Helper()
	list, err := s.HostDeliveries(s.t.Context(), host, p)
	if err != nil || len(list.Items) > p.Limit {
		s.t.Fatalf("HostDeliveries(%s, %+v) gave %d, %v", host, p, len(list.Items), err)
	}
	return list, list.Next
}

// statusURIs are the URIs of deliveries.
func statusURIs(ds []queue.DeliveryStatus) []string {
	names := make([]string, len(ds))
	for i := range ds {
		names[i] = ds[i].URI
	}
	return names
}

// pendingPages checks the list of what is pending for a host.
func (s *suite) pendingPages(host string, want ...string) {
	s.t.Helper()
	for _, limit := range []int{7, 50, 500} {
		s.same("list", slices.Concat([]string{}, want), statusURIs(s.pendingFor(host, limit)))
	}
	s.same("pending for "+host, len(want), s.host(host).Pending)
}

func listsNoPending(s *suite) {
	s.pendingPages("a.example")
	s.put("1", "b.example")
	s.pendingPages("a.example")
	l := s.lease("b.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.pendingPages("b.example")
}

func showsPending(s *suite) {
	s.put("1", "b.example", alsoTo("a.example:8443"), knowing(`{"n":1}`, "https://b.example/users/bob"), priority(queue.High))
	s.put("2", "https://a.example:8443/users/ann", knowing(`{"n":2}`, "https://a.example:8443/users/ann"), priority(queue.Low))
	l := s.lease("a.example:8443")
	failed := retry(s.take(l, "1", "2")["2"], time.Hour)
	s.finish(l, failed)
	all := s.pendingFor("a.example:8443", 10)
	s.same("deliveries", []string{"1", "2"}, statusURIs(all))
	for _, d := range all {
		s.same("delivery", s.delivery(d.ID), d)
	}
	s.same("ID", failed.ID, all[1].ID)
	s.same("history", queue.History{*failed.Attempt}, all[1].History)
	s.same("priorities", []queue.Priority{queue.High, queue.Low}, []queue.Priority{all[0].Priority, all[1].Priority})
	s.same("type and metadata", []string{"Create", `{"n":2}`}, []string{all[1].Type, string(all[1].Metadata)})
	s.near("acceptance", time.Now(), all[1].CreatedAt)
}

// waitsOf checks what is waited for, by URI.
func (s *suite) waitsOf(host string, want map[string]queue.Waits) {
	s.t.Helper()
	got := map[string]queue.Waits{}
	for _, d := range s.pendingFor(host, 3) {
		got[d.URI] = d.Waits
		s.same("what the delivery of "+d.URI+" waits for", d.Waits, s.delivery(d.ID).Waits)
		s.same("what it waits for in its activity", d.Waits, s.listed(d.ActivityID, "")[d.Inbox].Waits)
	}
	s.same("what is waited for", want, got)
}

func showsWaits(s *suite) {
	s.put("retry", "a.example")
	s.put("key", "a.example")
	s.put("turn", "a.example")
	s.put("first", "a.example", ordering("x"))
	s.put("second", "a.example", ordering("x"))
	s.put("answer", "a.example")
	l := s.lease("a.example")
	taken := s.take(l, "retry", "key", "turn", "first", "answer")
	s.settle(l, retry(taken["retry"], time.Hour), waitKey(taken["key"]), deferred(taken["turn"], 0), deferred(taken["first"], 0))
	s.waitsOf("a.example", map[string]queue.Waits{
		"retry": queue.WaitsRetry, "key": queue.WaitsKey, "turn": queue.WaitsTurn, "first": queue.WaitsTurn,
		"second": queue.WaitsPredecessor, "answer": queue.WaitsAnswer,
	})
}

func showsHeldBack(s *suite) {
	s.put("1", "a.example")
	s.put("2", "a.example")
	l := s.lease("a.example")
	taken := s.take(l, "1", "2")
	open := failing(breaker.Open)
	s.settlement(l, queue.Settlement{
		Results: []queue.Result{hostFailed(taken["1"], time.Minute), deferred(taken["2"], 0)}, Host: &open, Wait: time.Hour, Release: true,
	})
	held := map[string]queue.Waits{"1": queue.WaitsHost, "2": queue.WaitsHost}
	s.waitsOf("a.example", held)
	s.act("a.example", queue.Reset)
	s.waitsOf("a.example", map[string]queue.Waits{"1": queue.WaitsTurn, "2": queue.WaitsTurn})
	s.act("a.example", queue.Pause)
	s.waitsOf("a.example", held)
}

func listsInOrder(s *suite) {
	var want []string
	for i := range 60 {
		uri := fmt.Sprint(i)
		s.put(uri, "a.example", priority(queue.Priority(i*i%queue.Priorities)))
		s.put("other "+uri, "b.example")
		want = append(want, uri)
	}
	s.pendingPages("a.example", want...)
}

func pagesDeepLane(s *suite) {
	const n = 350
	want := s.fill("a.example", n)
	l := s.lease("a.example")
	// Some have waited for a retry since, and others are being attempted.
	ds := s.turn(l, 100).Deliveries
	results := make([]queue.Result, 60)
	for i := range results {
		results[i] = retry(ds[i], time.Hour)
	}
	s.settle(l, results...)
	s.pendingPages("a.example", want...)
	for i := range results {
		results[i] = delivered(ds[60+i%40])
	}
	s.finish(l, results[:40]...)
	s.pendingPages("a.example", slices.Concat(want[:60], want[100:])...)
}

func pagesChains(s *suite) {
	var want []string
	for i := range 150 {
		uri := fmt.Sprint(i)
		s.put(uri, "a.example", ordering(fmt.Sprint(i%7*(i%2))))
		want = append(want, uri)
	}
	l := s.lease("a.example")
	for range 5 { // what is behind moves up
		var results []queue.Result
		for _, d := range s.turn(l, 100).Deliveries {
			results = append(results, delivered(d))
			want = slices.DeleteFunc(want, func(uri string) bool { return uri == d.Activity.URI })
		}
		s.settle(l, results...)
		s.pendingPages("a.example", want...)
	}
}

// pagesWhileSettling changes the lane between the pages: what ends, waits for its retry or comes while it is read must not
// hide anything else.
func pagesWhileSettling(s *suite) {
	const n, ofPage = 250, 20
	for i := range n {
		s.put(fmt.Sprint(i), "a.example", ordering(fmt.Sprint(i%90)), priority(queue.Priority(i%queue.Priorities)))
	}
	l := s.lease("a.example")
	ended, seen := map[string]bool{}, []string{}
	for p := (queue.Page{Limit: ofPage}); ; {
		var list queue.List[queue.DeliveryStatus]
		list, p.Cursor = s.pendingPage("a.example", p)
		seen = append(seen, statusURIs(list.Items)...)
		if p.Cursor == "" {
			break
		}
		var results []queue.Result
		for i, d := range s.turn(l, 40).Deliveries {
			switch i % 4 {
			case 0:
				results = append(results, delivered(d))
				ended[d.Activity.URI] = true
			case 1:
				results = append(results, retry(d, time.Hour))
			case 2:
				results = append(results, deferred(d, 0))
			}
		}
		s.settle(l, results...)
		s.put("new "+p.Cursor, "a.example")
	}
	listed := map[string]int{}
	for _, uri := range seen {
		listed[uri]++
	}
	if len(ended) == 0 || len(ended) == n {
		s.t.Fatalf("%d of %d ended while the list was read", len(ended), n)
	}
	for i := range n {
		if uri := fmt.Sprint(i); !ended[uri] && listed[uri] != 1 || listed[uri] > 1 {
			s.t.Errorf("%s, which ended: %t, is listed %d times", uri, ended[uri], listed[uri])
		}
	}
}

func listsLargeSubmission(s *suite) {
	const n = 700
	inboxes := make([]string, n)
	for i := range inboxes {
		inboxes[i] = fmt.Sprintf("https://a.example/users/%d/inbox", i)
	}
	s.put("1", inboxes[0], alsoTo(inboxes[1:]...))
	s.same("deliveries", n, len(s.pendingFor("a.example", 500)))
}

func listsRetried(s *suite) {
	want := s.fill("a.example", 50)
	l := s.lease("a.example")
	var results []queue.Result
	for _, d := range s.turn(l, 20).Deliveries {
		results = append(results, dead(d, queue.ReasonRejected))
	}
	s.finish(l, results...)
	s.pendingPages("a.example", want[20:]...)
	s.retryDead(queue.DeadLetterChoice{})
	s.pendingPages("a.example", want...)
}

func listsPendingAgain(s *suite) {
	want := s.fill("a.example", 300)
	s.reopen()
	s.pendingPages("a.example", want...)
}

func refusesPendingCursor(s *suite) {
	s.put("1", "a.example")
	for _, cursor := range []string{"nonsense", "-1", "1-2", "*", "18446744073709551615"} {
		_, err := s.HostDeliveries(s.t.Context(), "a.example", queue.Page{Limit: 10, Cursor: cursor})
		s.is("HostDeliveries("+cursor+")", err, queue.ErrBadCursor)
	}
}
