package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func subscribe(ctx context.Context, t *testing.T, h *Hub) <-chan Event {
	t.Helper()
	events, err := h.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// count returns how many events wait in a channel, and whether it is still open.
func count(events <-chan Event) (n int, open bool) {
	for {
		select {
		case _, open := <-events:
			if !open {
				return n, false
			}
			n++
		default:
			return n, true
		}
	}
}

// TestHub checks that every subscriber gets what is published while it is subscribed, and that one that reads nothing
// holds up no other.
func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		h.Publish(Event{}) // nobody hears it
		ctx, leave := context.WithCancel(t.Context())
		slow, short := subscribe(t.Context(), t, &h), subscribe(ctx, t, &h)
		h.Publish(Event{}, Event{})
		leave()
		synctest.Wait()
		for range 2 * subscriberBuffer {
			h.Publish(Event{})
		}
		if n, open := count(short); n != 2 || open {
			t.Errorf("a subscriber that left got %d events, open: %t", n, open)
		}
		if n, open := count(slow); n != subscriberBuffer || !open {
			t.Errorf("a slow subscriber got %d events, open: %t", n, open)
		}
		h.Close()
		h.Close()
		if _, open := count(slow); open || h.Watched() {
			t.Error("a subscription outlives the hub")
		}
		if _, err := h.Subscribe(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a subscription to a closed hub: %v", err)
		}
	})
}

// TestHubSource checks that a source runs while there are subscribers, and only then.
func TestHubSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, starts := 0, 0
		var h Hub
		h.Source = func(ctx context.Context, ready func()) {
			if starts++; starts == 3 {
				return // it is never ready
			}
			running++
			ready()
			ready() // it may say so again
			context.AfterFunc(ctx, func() { running-- })
		}
		for range 2 {
			ctx, leave := context.WithCancel(t.Context())
			subscribe(ctx, t, &h)
			subscribe(ctx, t, &h)
			if running != 1 {
				t.Errorf("%d sources run", running)
			}
			leave()
			synctest.Wait()
			if running != 0 || h.Watched() {
				t.Errorf("nobody watches and %d sources run", running)
			}
		}
		if _, err := h.Subscribe(t.Context()); !errors.Is(err, errNoSource) || h.Watched() {
			t.Errorf("without a source: %v, watched: %t", err, h.Watched())
		}
	})
}
