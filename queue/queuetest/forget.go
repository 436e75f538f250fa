package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var forgetCases = []testCase{
	{name: "forgets a host that was never reached", run: forgetsNeverReached},
	{name: "forgets a host without a record", run: forgetsNeverTried},
	{name: "keeps hosts that matter", run: keepsHosts},
	{name: "keeps failure days and what follows from them for as long", run: keepsUnavailable},
	{name: "begins again when something happens", run: forgetsLater},
	{name: "lets no late writer win", run: forgetsFenced},
	{name: "retries dead letters of a forgotten host", run: retriesForgotten},
	{name: "forgets many, and lists go on", run: forgetsMany, large: true},
	{name: "forgets in time though it restarts each day", run: forgetsAcrossRestarts, days: true, alone: true},
}

// pass lets time pass.
func (s *suite) pass(d time.Duration) {
	s.t.Helper()
	s.b.Pass(s.t, s.Queue, d)
}

// unreached is the record of a host that never answered.
func unreached() queue.HostRecord {
	return queue.HostRecord{
		Breaker:   breaker.Record{State: breaker.Open, Failures: 12, Trips: 2, Days: []int32{20000, 20003}, Failed: true},
		LastError: attempt("unreachable", 0),
	}
}

// fail has a new delivery fail for good, and the store record that of its host.
func (s *suite) fail(host string, r queue.HostRecord) {
	s.t.Helper()
	uri := s.fill(host, 1)[0]
	l := s.lease(host)
	s.settlement(l, queue.Settlement{
		Results: []queue.Result{dead(s.one(l, uri), queue.ReasonExhausted)}, Host: &r, Wait: time.Hour, Release: true,
	})
}

// knows checks which hosts are listed and counted.
func (s *suite) knows(want ...string) {
	s.t.Helper()
	s.hostsAre("", want...)
	n := 0
	for _, m := range s.stats().Hosts {
		n += m
	}
	s.same("hosts counted", len(want), n)
}

func forgetsNeverReached(s *suite) {
	s.fail("a.example", unreached())
	s.pass(queue.HostRetention - 24*time.Hour)
	s.sweep()
	s.knows("a.example")
	s.same("record", unreached().Breaker, s.host("a.example").Record.Breaker)
	_, cursor := s.entries(queue.FeedFilter{}, "")
	s.pass(25 * time.Hour)
	s.sweep()
	s.knows()
	s.same("host", queue.HostStatus{Host: "a.example", State: queue.HostHealthy}, s.host("a.example"))
	told, _ := s.entries(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventHostState}}, cursor)
	s.same("states told", []queue.HostState{queue.HostHealthy}, []queue.HostState{told[len(told)-1].State})
	s.same("dead letters", 1, len(s.letters(queue.DeadLetterFilter{Host: "a.example"})))
	s.put("again", "a.example")
	l := s.lease("a.example")
	got := s.turn(l, 1)
	s.same("record of the host that is new again", queue.HostRecord{}, got.Host)
	s.finish(l, delivered(got.Deliveries[0]))
	s.knows("a.example")
}

func forgetsNeverTried(s *suite) {
	s.cancel(s.put("1", "a.example"))
	s.act("a.example", queue.Pause)
	s.act("a.example", queue.Resume)
	s.fail("b.example", unreached())
	s.act("b.example", queue.Reset)
	s.pass(time.Hour)
	s.sweep()
	s.knows("a.example", "b.example")
	s.act("c.example", queue.Block)
	s.act("c.example", queue.Unblock)
	s.pass(queue.HostRetention)
	s.sweep()
	s.knows()
}

func keepsHosts(s *suite) {
	for _, host := range []string{"blocked.example", "paused.example", "pending.example", "taken.example"} {
		s.fail(host, unreached())
	}
	s.act("blocked.example", queue.Block)
	s.act("paused.example", queue.Pause)
	s.put("pending", "pending.example", lasting(2*queue.HostRetention))
	refused := unreached()
	refused.LastAnswer = time.Now().UTC()
	s.fail("answered.example", refused)
	s.record("healthy.example", healthy())
	s.act("taken.example", queue.Reset)
	s.put("taken", "taken.example", lasting(2*queue.HostRetention))
	s.one(s.lease("taken.example"), "taken")
	s.pass(queue.HostRetention + time.Hour)
	s.sweep()
	s.knows("answered.example", "blocked.example", "healthy.example", "paused.example", "pending.example", "taken.example")
	s.same("pending", 2, s.stats().Pending)
	s.act("blocked.example", queue.Unblock)
	s.act("paused.example", queue.Resume)
	s.pass(queue.HostRetention + time.Hour)
	s.sweep()
	s.knows("answered.example", "healthy.example", "pending.example", "taken.example")
}

func keepsUnavailable(s *suite) {
	sick := unreached()
	sick.Unavailable = true
	s.fail("a.example", sick)
	refused := func() int {
		s.t.Helper()
		return len(s.enqueue(submission("https://app.example/refused", "a.example")).Refused)
	}
	s.same("refused", 1, refused())
	s.pass(queue.HostRetention - 24*time.Hour)
	s.sweep()
	h := s.host("a.example")
	s.same("state and failure days", []any{queue.HostUnavailable, 2}, []any{h.State, h.Record.Breaker.FailureDays()})
	s.pass(25 * time.Hour)
	s.sweep()
	s.same("refused once it is forgotten", 0, refused())
}

func forgetsLater(s *suite) {
	s.fail("a.example", unreached())
	s.fail("b.example", unreached())
	s.pass(queue.HostRetention / 2)
	s.sweep()
	s.fail("a.example", unreached())
	s.pass(queue.HostRetention/2 + 2*time.Hour)
	s.sweep()
	s.knows("a.example")
	s.pass(queue.HostRetention / 2)
	s.sweep()
	s.knows()
}

// A lease of before a host was forgotten changes nothing of it after, whether the host is known again or not.
func forgetsFenced(s *suite) {
	uri := s.fill("a.example", 1)[0]
	late := s.lease("a.example")
	d := s.one(late, uri)
	s.finish(late, dead(d, queue.ReasonExhausted))
	s.pass(queue.HostRetention + time.Hour)
	s.sweep()
	s.knows()
	sick := unreached()
	settle := func(when string) {
		s.t.Helper()
		st := queue.Settlement{Results: []queue.Result{retry(d, 0)}, Host: &sick, Wait: time.Hour, Release: true}
		_, err := s.Settle(s.t.Context(), late, st, 1)
		s.is("Settle "+when, err, queue.ErrNotHeld)
	}
	settle("on a host that is forgotten")
	s.knows()
	s.put("new", "a.example")
	settle("on a host that is new again")
	l := s.lease("a.example")
	s.one(l, "new")
	settle("on a host that is leased again")
	turns, err := s.Take(s.t.Context(), []lockmgr.Lease{late}, 1)
	s.same("turns for the late lease", 0, len(turns))
	s.is("Take", err, nil)
	h := s.host("a.example")
	s.same("record, pending and state", []any{queue.HostRecord{}, 1, queue.HostHealthy}, []any{h.Record, h.Pending, h.State})
}

func retriesForgotten(s *suite) {
	id := s.bury("1", "a.example", queue.ReasonPrivateAddress)
	s.pass(queue.HostRetention + time.Hour)
	s.sweep()
	s.knows()
	s.same("retried", queue.DeadLetterCount{Matched: 1, Done: 1}, s.retryDead(queue.DeadLetterChoice{}))
	s.knows("a.example")
	s.counts(id, queue.Counts{Pending: 1})
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.counts(id, queue.Counts{Delivered: 1})
}

func forgetsMany(s *suite) {
	const known = 30
	for _, host := range hosts("known", known) {
		s.act(host, queue.Pause)
	}
	s.cancel(s.put("1", "a.example", alsoTo(hosts("b", 1200)...), alsoTo(hosts("x", 1200)...)))
	var names []string
	page := func(cursor string) string {
		s.t.Helper()
		list, err := s.Hosts(s.t.Context(), queue.HostFilter{}, queue.Page{Limit: 10, Cursor: cursor})
		s.is("Hosts", err, nil)
		for _, h := range list.Items {
			names = append(names, h.Host)
		}
		return list.Next
	}
	next := page("")
	s.pass(queue.HostRetention + time.Hour)
	s.sweep()
	for next != "" {
		next = page(next)
	}
	s.same("hosts listed", append([]string{"a.example"}, append(hosts("b", 9), hosts("known", known)...)...), names)
	s.same("hosts counted", map[queue.HostState]int{queue.HostPaused: known}, s.stats().Hosts)
	s.put("2", "a.example", alsoTo(hosts("b", 3)...))
	s.offers(slices.Concat([]string{"a.example"}, hosts("b", 3))...)
}

func forgetsAcrossRestarts(s *suite) {
	s.fail("a.example", unreached())
	s.record("b.example", healthy())
	for day := range 29 {
		s.pass(24 * time.Hour)
		s.sweep() // a store that is not swept for long takes the time for a stop
		s.reopen()
		s.same(fmt.Sprintf("state after %d days", day+1), queue.HostOpen, s.host("a.example").State)
	}
	s.pass(25 * time.Hour)
	s.sweep()
	s.knows("b.example")
	s.reopen()
	s.knows("b.example")
}
