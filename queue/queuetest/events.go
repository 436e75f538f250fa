package queuetest

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/queue"
)

var eventCases = []testCase{
	{name: "reach all subscribers", run: publishesAll},
	{name: "end with the context", run: eventsEnd},
	{name: "never block", run: publishesWithoutBlocking},
	{name: "are counted by reason", run: countsDeaths},
	{name: "have rates", run: showsRates},
	{name: "have rates of the last minutes only", run: ratesEnd, days: true},
}

// watch subscribes to events until the case ends.
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

// published checks that exactly these events come next. It does not compare their times.
func (s *suite) published(ch <-chan queue.Event, want ...queue.Event) {
	s.t.Helper()
	var got []queue.Event
	patience := time.NewTimer(second)
	defer patience.Stop()
	for {
		select {
		case e := <-ch:
			if e.Kind == queue.EventFed {
				continue
			}
			s.near("time of the event", time.Now().Add(-s.b.Ahead), e.At)
			e.At = time.Time{}
			got = append(got, e)
			if len(got) == len(want) {
				patience.Reset(second / 4) // for those that should not come
			}
			continue
		case <-patience.C:
		}
		s.same("events", want, got)
		return
	}
}

// drainEvents forgets the events that came so far.
func (s *suite) drainEvents(ch <-chan queue.Event) {
	for {
		select {
		case <-ch:
		case <-time.After(second / 4):
			return
		}
	}
}

// hearsOf checks that an event of the kind comes soon.
func (s *suite) hearsOf(ch <-chan queue.Event, kind queue.EventKind) {
	s.t.Helper()
	patience := time.After(second)
	for {
		select {
		case e := <-ch:
			if e.Kind == kind {
				return
			}
		case <-patience:
			s.t.Fatalf("no event of %s came", kind)
		}
	}
}

func publishesAll(s *suite) {
	first := queue.Event{Kind: queue.EventDelivered, Host: "a.example", ID: "1.0", ActivityID: "1", URI: "u", Inbox: "i", Attempts: 1}
	second := queue.Event{Kind: queue.EventDelivered, Host: "a.example", IDs: []string{"https://a.example/users/ann"}, Attempt: attempt("delivered", 202)}
	stamped := func(events ...queue.Event) []queue.Event {
		for i := range events {
			events[i].At = time.Now().UTC()
		}
		return events
	}
	s.Publish(stamped(queue.Event{Kind: queue.EventDelivered, ID: "without subscribers"})...)
	one, two := s.watch(s.t.Context()), s.watch(s.t.Context())
	s.Publish()
	s.Publish(stamped(first, second)...)
	s.published(one, first, second)
	s.published(two, first, second)
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
	s.hearsOf(other, queue.EventFed)
}

func publishesWithoutBlocking(s *suite) {
	s.watch(s.t.Context()) // which is not read
	for i := range 50_000 {
		s.Publish(queue.Event{Kind: queue.EventDelivered, At: time.Now(), ID: fmt.Sprint(i)})
	}
	s.act("a.example", queue.Pause)
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

func showsRates(s *suite) {
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
