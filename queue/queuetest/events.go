package queuetest

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var eventCases = []testCase{
	{name: "reach all who watch", run: tellsAll},
	{name: "end with the context", run: eventsEnd},
	{name: "hold up nobody", run: tellsOn},
	{name: "tell that a host's state changed", run: tellsStates},
	{name: "tell that a delivery expired", run: tellsExpired},
	{name: "tell what a block buries", run: tellsBlocked},
	{name: "tell nothing twice", run: tellsOnce},
	{name: "are counted by reason", run: countsDeaths},
	{name: "have rates", run: tellsRates},
	{name: "have rates of the last minutes only", run: ratesEnd, days: true},
}

// watch watches until the case ends.
func (s *suite) watch(ctx context.Context) <-chan queue.Event {
	s.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	s.t.Cleanup(cancel)
	ch, err := s.Events(ctx)
	if err != nil {
		s.t.Fatalf("Events: %v", err)
	}
	return ch
}

// told checks that exactly these events are told next. Of those that have no time it is not compared.
func (s *suite) told(ch <-chan queue.Event, want ...queue.Event) {
	s.t.Helper()
	var got []queue.Event
	patience := time.NewTimer(second)
	defer patience.Stop()
	for {
		select {
		case e := <-ch:
			s.near("time of the event", time.Now().Add(-s.b.Ahead), e.At)
			e.At = time.Time{}
			got = append(got, e)
			if len(got) == len(want) {
				patience.Reset(second / 4) // for those that should not be told
			}
			continue
		case <-patience.C:
		}
		s.same("events", want, got)
		return
	}
}

func hostTurned(host string, state queue.HostState) queue.Event {
	return queue.Event{Kind: queue.EventHostState, Host: host, State: state}
}

func tellsAll(s *suite) {
	first := queue.Event{Kind: queue.EventDelivered, Host: "a.example", ID: "1.0", ActivityID: "1", URI: "u", Inbox: "i", Attempts: 1}
	second := queue.Event{Kind: queue.EventDead, Host: "a.example", Reason: queue.ReasonGone, Attempt: attempt("gone", 410)}
	told := func(events ...queue.Event) []queue.Event {
		for i := range events {
			events[i].At = time.Now().UTC()
		}
		return events
	}
	s.Tell(told(queue.Event{Kind: queue.EventDelivered, ID: "nobody watches"})...)
	one, two := s.watch(s.t.Context()), s.watch(s.t.Context())
	s.Tell()
	s.Tell(told(first, second)...)
	s.told(one, first, second)
	s.told(two, first, second)
}

func eventsEnd(s *suite) {
	ctx, cancel := context.WithCancel(s.t.Context())
	ch, err := s.Events(ctx)
	s.is("Events", err, nil)
	other := s.watch(s.t.Context())
	cancel()
	select {
	case e, more := <-ch:
		s.same("an event after the end", []any{queue.Event{}, false}, []any{e, more})
	case <-time.After(second):
		s.t.Error("the channel is not closed when the context ends")
	}
	s.act("a.example", queue.Pause)
	s.told(other, hostTurned("a.example", queue.HostPaused))
}

func tellsOn(s *suite) {
	s.watch(s.t.Context()) // and nobody reads
	for i := range 50_000 {
		s.Tell(queue.Event{Kind: queue.EventDelivered, At: time.Now(), ID: fmt.Sprint(i)})
	}
	s.act("a.example", queue.Pause)
}

func tellsStates(s *suite) {
	s.put("1", "a.example")
	ch := s.watch(s.t.Context())
	s.put("2", "b.example") // a new host is no change
	for _, record := range []queue.HostRecord{healthy(), failing(breaker.Closed), failing(breaker.Open), failing(breaker.HalfOpen), healthy()} {
		s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &record, Release: true})
	}
	s.told(ch, hostTurned("a.example", queue.HostFailing), hostTurned("a.example", queue.HostOpen), hostTurned("a.example", queue.HostHealthy))
	s.act("a.example", queue.Pause)
	s.act("a.example", queue.Pause)
	s.act("new.example", queue.Block)
	s.act("a.example", queue.Resume)
	s.told(ch, hostTurned("a.example", queue.HostPaused), hostTurned("new.example", queue.HostBlocked), hostTurned("a.example", queue.HostHealthy))
}

func tellsExpired(s *suite) {
	id := s.put("1", "a.example", lasting(second))
	l := s.lease("a.example")
	d := s.one(l, "1")
	r := retry(d, time.Hour)
	s.finish(l, r)
	time.Sleep(passing)
	ch := s.watch(s.t.Context())
	s.sweep()
	s.told(ch, queue.Event{
		Kind: queue.EventDead, Host: "a.example", ID: d.ID, ActivityID: id, URI: "1", Inbox: "https://a.example/inbox",
		Reason: queue.ReasonExpired, Attempts: 1, Attempt: r.Attempt,
	})
}

func tellsBlocked(s *suite) {
	id := s.put("1", "a.example")
	ch := s.watch(s.t.Context())
	s.act("a.example", queue.Block)
	s.told(ch, hostTurned("a.example", queue.HostBlocked), queue.Event{
		Kind: queue.EventDead, Host: "a.example", ID: s.letters(queue.DeadLetterFilter{})[0].ID, ActivityID: id, URI: "1",
		Inbox: "https://a.example/inbox", Reason: queue.ReasonHostBlocked,
	})
}

// tellsOnce: who settles tells of it.
func tellsOnce(s *suite) {
	s.fill("a.example", 2)
	l := s.lease("a.example")
	ds := s.turn(l, 2).Deliveries
	ch := s.watch(s.t.Context())
	s.finish(l, delivered(ds[0]), dead(ds[1], queue.ReasonGone))
	s.told(ch)
}

func countsDeaths(s *suite) {
	s.bury("1", "a.example", queue.ReasonGone)
	s.bury("2", "a.example", queue.ReasonRejected)
	s.bury("3", "a.example", queue.ReasonGone)
	s.put("4", "b.example", alsoTo("c.example"))
	s.act("b.example", queue.Block)
	s.put("5", "c.example", lasting(second))
	time.Sleep(passing)
	s.sweep()
	want := map[queue.Reason]int64{
		queue.ReasonGone: 2, queue.ReasonRejected: 1, queue.ReasonHostBlocked: 1, queue.ReasonExpired: 1,
	}
	s.same("died", want, s.stats().Died)
	s.deleteDead(queue.DeadLetterChoice{})
	s.reopen()
	s.same("died after a restart", want, s.stats().Died)
}

func tellsRates(s *suite) {
	s.same("rates of an idle store", queue.Rates{}, s.stats().PerSecond)
	s.put("1", "a.example", alsoTo(hosts("a", 19)...))
	s.deliver("2", "b.example")
	s.bury("3", "b.example", queue.ReasonGone)
	got := s.stats().PerSecond
	if got.Accepted <= got.Delivered || got.Delivered <= 0 || got.Dead <= 0 || got.Accepted > 22 {
		s.t.Errorf("the rates are %+v, want something of 22 accepted, 1 delivered and 1 dead", got)
	}
}

func ratesEnd(s *suite) {
	s.put("1", "a.example", alsoTo(hosts("a", 599)...))
	time.Sleep(30 * time.Second)
	if got := s.stats().PerSecond.Accepted; got < 5 || got > 20 {
		s.t.Errorf("%v were accepted per second, want some 10", got)
	}
	time.Sleep(3 * time.Minute)
	s.same("rates", queue.Rates{}, s.stats().PerSecond)
}
