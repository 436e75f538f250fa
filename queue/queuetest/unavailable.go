package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var unavailableCases = []testCase{
	{name: "buries all but the newest", run: buriesButNewest},
	{name: "buries many", run: buriesMany},
	{name: "keeps what is taken", run: keepsTaken},
	{name: "keeps what waits for no key", run: keepsUsable},
	{name: "keeps what waits for a key where nothing else pends", run: keepsWaiting},
	{name: "probes with what was kept", run: probesWithKept},
	{name: "accepts the next probe", run: acceptsProbe},
	{name: "accepts one delivery of a submission as the probe", run: acceptsOneProbe},
	{name: "accepts high priority and hastens the probe", run: acceptsHigh},
	{name: "probes with high priority first", run: probesWithHigh},
	{name: "still counts duplicates", run: unavailableDuplicates},
	{name: "ends with a success", run: availableAgain},
	{name: "is remembered", run: unavailableRemembered},
}

// unavailable makes a host unavailable that waits for its next probe, with nothing pending.
func (s *suite) unavailable(host string, wait time.Duration) {
	s.t.Helper()
	sick := failing(breaker.Open)
	sick.Unavailable = true
	uri := fmt.Sprintf("https://app.example/sick/%s", host)
	s.put(uri, host)
	l := s.lease(host)
	d := s.one(l, uri)
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d)}, Host: &sick, Wait: wait, Release: true})
}

// makeUnavailable makes a host unavailable that has pending deliveries.
func (s *suite) makeUnavailable(host string, wait time.Duration) {
	s.t.Helper()
	sick := failing(breaker.Open)
	sick.Unavailable = true
	s.settlement(s.takeNothing(host), queue.Settlement{Host: &sick, Wait: wait, Release: true})
}

// buried checks which activities have dead letters for a reason.
func (s *suite) buried(why queue.Reason, want ...string) {
	s.t.Helper()
	got := letterURIs(s.letters(queue.DeadLetterFilter{Reason: why}))
	s.same("dead letters", slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)))
}

func buriesButNewest(s *suite) {
	s.put("high", "a.example", priority(queue.High))
	s.chain("a.example")
	low := s.put("low", "a.example", priority(queue.Low), alsoTo("b.example"))
	newest := s.put("newest", "a.example")
	l := s.lease("a.example")
	s.finish(l, hostFailed(s.take(l, "high", "1", "low", "newest")["1"], time.Hour))
	s.makeUnavailable("a.example", time.Hour)
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, "high", "1", "2", "3", "low")
	s.counts(low, queue.Counts{Dead: 1, Pending: 1})
	s.counts(newest, queue.Counts{Pending: 1})
	h := s.host("a.example")
	s.same("state and pending", []any{queue.HostUnavailable, 1}, []any{h.State, h.Pending})
	s.near("end of the wait", time.Now().Add(time.Hour), h.RetryAt)
	s.sweep()
	s.same("pending", 1, s.host("a.example").Pending)
}

func buriesMany(s *suite) {
	inboxes := make([]string, 2100)
	for i := range inboxes {
		inboxes[i] = fmt.Sprintf("https://a.example/users/%d", i)
	}
	s.put("1", "a.example", alsoTo(inboxes...))
	s.put("2", "a.example")
	s.makeUnavailable("a.example", time.Hour)
	s.sweep()
	st := s.stats()
	s.same("pending and dead", []int{1, 2101}, []int{st.Pending, st.Dead})
	s.act("a.example", queue.Probe)
	s.one(s.lease("a.example"), "2")
}

func keepsTaken(s *suite) {
	names := s.fill("a.example", 4)
	l := s.lease("a.example")
	ds := s.turn(l, 2).Deliveries
	sick := failing(breaker.Open)
	sick.Unavailable = true
	s.settlement(l, queue.Settlement{Host: &sick, Wait: time.Hour})
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, names[2])
	s.settle(l, hostFailed(ds[0], time.Hour))
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, names[0], names[2])
	s.finish(l)
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, names[:3]...)
	s.same("pending", 1, s.host("a.example").Pending)
}

func keepsUsable(s *suite) {
	s.put("1", "a.example")
	s.put("2", "a.example")
	s.put("3", "a.example", func(sub *queue.Submission) { sub.KeyID = "missing" })
	l := s.lease("a.example")
	ds := s.take(l, "1", "2", "3")
	s.finish(l, waitKey(ds["3"]))
	s.makeUnavailable("a.example", time.Hour)
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, "1", "3")
}

func keepsWaiting(s *suite) {
	s.put("1", "a.example")
	s.put("2", "a.example")
	l := s.lease("a.example")
	ds := s.take(l, "1", "2")
	s.finish(l, waitKey(ds["1"]), waitKey(ds["2"]))
	s.makeUnavailable("a.example", time.Hour)
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, "1")
}

func probesWithKept(s *suite) {
	names := s.fill("a.example", 3)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	sick := healthy() // the breaker need not be open
	sick.Unavailable = true
	s.settlement(l, queue.Settlement{
		Results: []queue.Result{hostFailed(ds[names[2]], time.Hour)}, Host: &sick, Wait: second, Release: true,
	})
	l = s.lease("a.example")
	s.take(l) // it waits
	s.finish(l)
	s.sweep()
	s.offers()
	time.Sleep(passing)
	s.offers("a.example")
	l = s.lease("a.example")
	d := s.one(l, names[2])
	if !d.Early {
		s.t.Error("a probe before its own time is not early")
	}
	s.fill("a.example", 1, priority(queue.High))
	s.take(l) // there is one at a time, in any state of the breaker
}

func acceptsProbe(s *suite) {
	s.unavailable("a.example", second)
	s.same("accepted while it waits", 0, s.enqueue(submission("1", "a.example")).Accepted)
	time.Sleep(passing)
	s.put("2", "a.example")
	s.same("accepted while the probe pends", 0, s.enqueue(submission("3", "a.example")).Accepted)
	s.offers("a.example")
	l := s.lease("a.example")
	d := s.one(l, "2")
	s.same("accepted while the probe is made", 0, s.enqueue(submission("4", "a.example")).Accepted)
	s.finish(l, dead(d, queue.ReasonRejected))
	s.put("5", "a.example")
}

func acceptsOneProbe(s *suite) {
	s.unavailable("a.example", -1)
	sub := submission("1", "https://a.example/users/1", "https://a.example/users/2", "b.example")
	r := s.enqueue(sub)
	s.same("accepted and refused", []int{2, 1}, []int{r.Accepted, len(r.Refused)})
	s.same("pending", 1, s.host("a.example").Pending)
}

func acceptsHigh(s *suite) {
	s.unavailable("a.example", time.Hour)
	s.put("1", "a.example", priority(queue.High))
	s.near("end of the wait", time.Now().Add(queue.SeenPause(0)), s.host("a.example").RetryAt)
	s.put("2", "a.example", priority(queue.High))
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, "1")
	s.act("a.example", queue.Probe)
	s.one(s.lease("a.example"), "2")

	s.unavailable("b.example", -1)
	s.put("3", "b.example", priority(queue.High))
	s.offers("b.example")
}

func probesWithHigh(s *suite) {
	s.put("normal", "a.example")
	s.makeUnavailable("a.example", -1)
	s.put("high", "a.example", priority(queue.High))
	for range 16 { // whosever turn it is among the priorities
		l := s.lease("a.example")
		s.finish(l, deferred(s.one(l, "high"), 0))
	}
}

func unavailableDuplicates(s *suite) {
	s.put("1", "a.example")
	s.makeUnavailable("a.example", time.Hour)
	r := s.enqueue(submission("1", "a.example"))
	s.same("duplicates and refused", []int{1, 0}, []int{r.Duplicates, len(r.Refused)})
}

func availableAgain(s *suite) {
	s.put("1", "a.example")
	s.makeUnavailable("a.example", -1)
	l, well := s.lease("a.example"), healthy()
	d := s.one(l, "1")
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d)}, Host: &well, Recovered: true, Release: true})
	names := s.fill("a.example", 3)
	s.sweep()
	s.take(s.lease("a.example"), names...)
	s.buried(queue.ReasonHostUnavailable)
}

func unavailableRemembered(s *suite) {
	names := s.fill("a.example", 3)
	s.makeUnavailable("a.example", time.Hour)
	s.reopen() // before it was swept
	s.sweep()
	s.buried(queue.ReasonHostUnavailable, names[:2]...)
	s.reopen()
	s.sweep()
	s.same("state", queue.HostUnavailable, s.host("a.example").State)
	s.same("accepted", 0, s.enqueue(submission("1", "a.example")).Accepted)
	s.act("a.example", queue.Probe)
	s.one(s.lease("a.example"), names[2])
}
