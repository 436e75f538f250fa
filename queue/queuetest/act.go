package queuetest

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var actCases = []testCase{
	{name: "pauses a host and resumes it", run: pauses},
	{name: "pauses in the midst of a turn", run: pausesTurn},
	{name: "takes unknown hosts", run: actsOnUnknown},
	{name: "knows no other action", run: actsNoOther},
	{name: "may be repeated", run: actsAgain},
	{name: "blocks a host and buries what pends", run: blocks},
	{name: "blocks what is being attempted", run: blocksTaken},
	{name: "buries many at a block", run: blocksMany},
	{name: "unblocks a host", run: unblocks},
	{name: "shows the gravest of states", run: actStates},
	{name: "resets a host", run: resets},
	{name: "resets so that the holder can't undo it", run: resetsForGood},
	{name: "resets an unavailable host", run: resetsUnavailable},
	{name: "resets all hosts in a state", run: resetsAll, large: true},
	{name: "probes a host with an open breaker", run: probesOpen},
	{name: "probes a host that asked to wait", run: probesWaiting},
	{name: "probes with what would be due first", run: probesFirst},
	{name: "probes with the oldest of what would be due first", run: probesOldest},
	{name: "is remembered", run: actRemembered},
}

// act does something to a host, and checks that the answer is what Host says then.
func (s *suite) act(host string, action queue.HostAction) queue.HostStatus {
	s.t.Helper()
	return s.order(host, action, queue.Order{})
}

// order does something to a host with an order, and checks likewise.
func (s *suite) order(host string, action queue.HostAction, order queue.Order) queue.HostStatus {
	s.t.Helper()
	got, err := s.Act(s.t.Context(), host, action, order)
	if err != nil {
		s.t.Fatalf("Act(%s, %s): %v", host, action, err)
	}
	s.same("answer to "+string(action), s.host(host), got)
	return got
}

// parked is a host whose last attempt failed: what pends for it waits, and so does the lane. It returns the URIs of two
// deliveries: the first waits because the host failed, the second of itself.
func (s *suite) parked(host string, record queue.HostRecord, wait time.Duration) []string {
	s.t.Helper()
	names := s.fill(host, 2)
	l := s.lease(host)
	ds := s.take(l, names...)
	s.settlement(l, queue.Settlement{
		Results: []queue.Result{hostFailed(ds[names[0]], time.Hour), retry(ds[names[1]], 2*time.Hour)},
		Host:    &record, Wait: wait, Release: true,
	})
	return names
}

func pauses(s *suite) {
	first := s.fill("a.example", 1)
	s.same("state", queue.HostPaused, s.act("a.example", queue.Pause).State)
	second := s.fill("a.example", 1)
	s.same("pending", 2, s.host("a.example").Pending)
	s.offers()
	s.take(s.lease("a.example"))
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Release: true})
	s.offers()
	s.drain()
	s.same("state", queue.HostHealthy, s.act("a.example", queue.Resume).State)
	s.woken("Resume")
	s.offers("a.example")
	s.take(s.lease("a.example"), first[0], second[0])
}

func pausesTurn(s *suite) {
	names := s.fill("a.example", 3)
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	s.act("a.example", queue.Pause)
	s.take(l)
	s.settle(l, delivered(d))
	s.same("pending", 2, s.host("a.example").Pending)
	s.finish(l)
	s.offers()
	s.act("a.example", queue.Resume)
	s.take(s.lease("a.example"), names[1:]...)
}

func actsOnUnknown(s *suite) {
	for _, action := range []queue.HostAction{queue.Resume, queue.Unblock, queue.Reset, queue.Probe, queue.Seen} {
		s.same("unknown host", queue.HostStatus{Host: "a.example", State: queue.HostHealthy}, s.act("a.example", action))
	}
	s.act("paused.example", queue.Pause)
	s.act("blocked.example", queue.Block)
	s.hostPages(queue.HostFilter{State: queue.HostPaused}, "paused.example")
	s.hostPages(queue.HostFilter{State: queue.HostBlocked}, "blocked.example")
	s.put("1", "paused.example")
	s.offers()
	r := s.enqueue(submission("2", "blocked.example"))
	s.same("refused", []queue.Refusal{{Inbox: "https://blocked.example/inbox", Reason: queue.ReasonHostBlocked}}, r.Refused)
}

func actsNoOther(s *suite) {
	s.put("1", "a.example")
	for _, action := range []queue.HostAction{"", "Pause", "heal"} {
		if _, err := s.Act(s.t.Context(), "a.example", action, queue.Order{}); err == nil {
			s.t.Errorf("the action %q is known", action)
		}
	}
	s.one(s.lease("a.example"), "1")
}

func actsAgain(s *suite) {
	s.parked("a.example", failing(breaker.Open), time.Hour)
	for _, action := range queue.HostActions {
		first := s.act("a.example", action)
		second := s.act("a.example", action)
		first.Record.Epoch, second.Record.Epoch = 0, 0 // each reset makes an epoch
		s.same("second answer to "+string(action), first, second)
	}
}

func blocks(s *suite) {
	s.chain("a.example")
	high := s.put("high", "a.example", priority(queue.High), alsoTo("b.example"))
	waits := s.put("waits", "a.example", func(sub *queue.Submission) { sub.KeyID = "missing" })
	l := s.lease("a.example")
	ds := s.take(l, "1", "high", "waits")
	s.finish(l, retry(ds["1"], time.Hour), waitKey(ds["waits"]))

	h := s.act("a.example", queue.Block)
	s.same("state and pending", []any{queue.HostBlocked, 0}, []any{h.State, h.Pending})
	s.counts(high, queue.Counts{Dead: 1, Pending: 1})
	s.counts(waits, queue.Counts{Dead: 1})
	letters := s.letters(queue.DeadLetterFilter{Host: "a.example", Reason: queue.ReasonHostBlocked})
	s.same("dead letters", 5, len(letters))
	for _, d := range letters {
		s.near("time of death", time.Now(), d.DiedAt)
	}
	s.offers("b.example")
	s.take(s.lease("a.example"))
	r := s.enqueue(submission("5", "a.example", "b.example"))
	s.same("accepted", 1, r.Accepted)
	s.same("refused", []queue.Refusal{{Inbox: "https://a.example/inbox", Reason: queue.ReasonHostBlocked}}, r.Refused)
	urgent := submission("6", "a.example")
	urgent.Priority = queue.High
	s.same("accepted of high priority", 0, s.enqueue(urgent).Accepted)
}

func blocksTaken(s *suite) {
	id := s.put("1", "a.example", ordering("key"))
	behind := s.put("2", "a.example", ordering("key"))
	l := s.lease("a.example")
	d := s.one(l, "1")
	s.act("a.example", queue.Block)
	s.counts(id, queue.Counts{Dead: 1})
	s.counts(behind, queue.Counts{Dead: 1})
	record := healthy()
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d)}, Host: &record, Wait: time.Hour})
	s.counts(id, queue.Counts{Dead: 1})
	s.same("delivered", int64(0), s.stats().Delivered)
	s.finish(l)
	h := s.host("a.example")
	s.same("record", record, h.Record)
	s.near("end of the wait", time.Now().Add(time.Hour), h.RetryAt)
}

func blocksMany(s *suite) {
	inboxes := make([]string, 1200)
	for i := range inboxes {
		inboxes[i] = "https://a.example/users/" + string(rune('a'+i%26)) + time.Duration(i).String()
	}
	id := s.put("1", "a.example", alsoTo(inboxes...))
	s.same("pending", 0, s.act("a.example", queue.Block).Pending)
	s.counts(id, queue.Counts{Dead: 1201})
	s.same("dead", 1201, s.stats().Dead)
}

func unblocks(s *suite) {
	id := s.put("1", "a.example")
	s.act("a.example", queue.Block)
	s.same("state", queue.HostHealthy, s.act("a.example", queue.Unblock).State)
	s.counts(id, queue.Counts{Dead: 1})
	s.put("2", "a.example")
	s.offers("a.example")
	s.one(s.lease("a.example"), "2")
}

func actStates(s *suite) {
	s.unavailable("a.example", time.Hour)
	for _, step := range []struct {
		action queue.HostAction
		want   queue.HostState
	}{
		{queue.Seen, queue.HostUnavailable},
		{queue.Pause, queue.HostPaused},
		{queue.Block, queue.HostBlocked},
		{queue.Resume, queue.HostBlocked},
		{queue.Pause, queue.HostBlocked},
		{queue.Unblock, queue.HostPaused},
		{queue.Reset, queue.HostPaused},
		{queue.Resume, queue.HostHealthy},
	} {
		s.same("state after "+string(step.action), step.want, s.act("a.example", step.action).State)
		s.hostPages(queue.HostFilter{State: step.want}, "a.example")
		s.same("hosts", map[queue.HostState]int{step.want: 1}, s.stats().Hosts)
	}
}

func resets(s *suite) {
	record := fullRecord()
	names := s.parked("a.example", record, time.Hour)
	s.drain()
	h := s.act("a.example", queue.Reset)
	want := record.Forgiven()
	want.Epoch = h.Record.Epoch
	s.same("record", want, h.Record)
	s.same("signature scheme", "", h.Record.Scheme)
	s.same("state", queue.HostHealthy, h.State)
	if !h.RetryAt.IsZero() {
		s.t.Errorf("a host that was reset waits until %s", h.RetryAt)
	}
	s.woken("Reset")
	s.offers("a.example")
	l := s.lease("a.example")
	s.same("record in the turn", want, s.turn(l, 0).Host)
	s.one(l, names[0])
}

func resetsAll(s *suite) {
	const n = 1100 // more than a store may reset in a step
	open := failing(breaker.Open)
	open.Breaker.Days = []int32{20000}
	var records []queue.Record
	for i := range n {
		records = append(records, queue.Record{Host: &queue.MovedHost{Host: fmt.Sprintf("h%04d.example", i), Record: open, Wait: time.Hour}})
	}
	s.load(records, n)
	names := s.parked("parked.example", open, time.Hour)
	s.record("failing.example", failing(breaker.Closed))
	s.act("h0000.example", queue.Pause)
	s.drain()
	got, err := s.ResetHosts(s.t.Context(), queue.HostOpen)
	if err != nil {
		s.t.Fatal(err)
	}
	s.same("hosts that were reset", n, got) // one of them is paused, and another is parked
	s.same("hosts in each state", map[queue.HostState]int{queue.HostHealthy: n, queue.HostPaused: 1, queue.HostFailing: 1}, s.stats().Hosts)
	for _, host := range []string{"h0001.example", "h1099.example", "parked.example"} {
		h := s.host(host)
		want := open.Forgiven()
		want.Epoch = h.Record.Epoch
		s.same("record", want, h.Record)
		s.same("end of the wait", time.Time{}, h.RetryAt)
	}
	s.same("failures of a paused host", 1, len(s.host("h0000.example").Record.Breaker.Days))
	s.woken("ResetHosts")
	s.offers("parked.example")
	s.one(s.lease("parked.example"), names[0])
	if got, err = s.ResetHosts(s.t.Context(), queue.HostOpen); err != nil || got != 0 {
		s.t.Errorf("a second call resets %d hosts, %v", got, err)
	}
}

func resetsForGood(s *suite) {
	s.record("a.example", failing(breaker.Closed))
	id := s.fill("a.example", 2)
	l := s.lease("a.example")
	turn := s.turn(l, 2)
	want := s.act("a.example", queue.Reset).Record
	record := turn.Host
	record.Breaker.State, record.Breaker.Failures = breaker.Open, 10
	s.settlement(l, queue.Settlement{
		Results: []queue.Result{hostFailed(turn.Deliveries[0], time.Hour), delivered(turn.Deliveries[1])},
		Host:    &record, Wait: time.Hour, Release: true,
	})
	h := s.host("a.example")
	s.same("record", want, h.Record)
	s.same("end of the wait", time.Time{}, h.RetryAt)
	s.same("pending of "+id[0], 1, h.Pending)

	record = want
	record.Scheme = "rfc9421"
	later := s.takeNothing("a.example")
	s.settlement(later, queue.Settlement{Host: &record, Release: true})
	s.same("record of the epoch", record, s.host("a.example").Record)
}

func resetsUnavailable(s *suite) {
	s.unavailable("a.example", time.Hour)
	s.same("state", queue.HostHealthy, s.act("a.example", queue.Reset).State)
	names := s.fill("a.example", 3)
	s.sweep()
	s.take(s.lease("a.example"), names...)
}

func probesOpen(s *suite) {
	names := s.parked("a.example", failing(breaker.Open), time.Hour)
	s.drain()
	h := s.act("a.example", queue.Probe)
	s.same("state", queue.HostOpen, h.State)
	s.same("end of the wait", time.Time{}, h.RetryAt)
	s.woken("Probe")
	s.offers("a.example")
	if d := s.one(s.lease("a.example"), names[0]); !d.Early {
		s.t.Error("a probe before its own time is not early")
	}
}

func probesWaiting(s *suite) {
	s.waiting("a.example", time.Hour)
	s.act("a.example", queue.Probe)
	s.offers("a.example")
	s.same("deliveries", 1, len(s.turn(s.lease("a.example"), 10).Deliveries))
}

func probesFirst(s *suite) {
	names := s.parked("a.example", failing(breaker.Closed), 0)
	s.offers()
	s.drain()
	s.act("a.example", queue.Probe)
	s.woken("Probe")
	s.offers("a.example")
	l := s.lease("a.example")
	if d := s.one(l, names[0]); d.Early {
		s.t.Error("a delivery made due is early")
	}
	s.finish(l)
	s.act("a.example", queue.Probe) // one is due already
	s.one(s.lease("a.example"), names[0])
}

func probesOldest(s *suite) {
	names := s.fill("a.example", 12)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	var results []queue.Result
	for _, name := range names {
		results = append(results, retry(ds[name], time.Hour))
	}
	s.finish(l, results...)
	for _, name := range names[:4] {
		s.act("a.example", queue.Probe)
		l := s.lease("a.example")
		s.finish(l, delivered(s.one(l, name)))
	}
}

func actRemembered(s *suite) {
	s.put("1", "paused.example")
	s.act("paused.example", queue.Pause)
	s.act("blocked.example", queue.Block)
	s.parked("reset.example", failing(breaker.Open), time.Hour)
	want := s.act("reset.example", queue.Reset)
	first := s.parked("probed.example", failing(breaker.Closed), time.Hour)[0]
	s.act("probed.example", queue.Probe)
	s.reopen()
	s.same("state", queue.HostPaused, s.host("paused.example").State)
	s.same("state", queue.HostBlocked, s.host("blocked.example").State)
	s.same("host that was reset", want, s.host("reset.example"))
	s.same("hosts paused and blocked", []int{1, 1}, []int{s.stats().Hosts[queue.HostPaused], s.stats().Hosts[queue.HostBlocked]})
	s.offers("reset.example", "probed.example")
	s.one(s.lease("probed.example"), first)
	s.take(s.lease("paused.example"))
	s.same("accepted", 0, s.enqueue(submission("2", "blocked.example")).Accepted)
	s.act("paused.example", queue.Resume)
	s.act("blocked.example", queue.Unblock)
	s.reopen()
	s.one(s.lease("paused.example"), "1")
	s.put("3", "blocked.example")
}
