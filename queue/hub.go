package queue

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	subscriberBuffer = 1024            // events that may wait for a subscriber that reads slowly
	sourceTimeout    = 5 * time.Second // for a source to be ready
)

// errNoSource says that the source of a hub's events is not ready.
var errNoSource = errors.New("events are not received")

// Hub publishes events to those who subscribe on this node. A subscriber that reads too slowly misses events. It is safe
// for concurrent use, and its zero value is ready.
type Hub struct {
	// Source, if it is set, starts what publishes events that come from elsewhere, until ctx ends: it is called when the
	// first subscriber comes, and ctx ends when the last one has left. It calls ready when no event is missed any more.
	// It must neither block nor call the hub.
	Source func(ctx context.Context, ready func())

	count atomic.Int32 // of the subscribers

	mu          sync.Mutex
	subscribers map[chan Event]struct{} // guarded by mu
	ready       chan struct{}           // closed when the source is ready, guarded by mu
	stop        context.CancelFunc      // of the source, guarded by mu
	closed      bool                    // guarded by mu
}

// Watched reports whether there is a subscriber.
func (h *Hub) Watched() bool { return h.count.Load() > 0 }

// Publish gives events to all subscribers.
func (h *Hub) Publish(events ...Event) {
	if !h.Watched() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for subscriber := range h.subscribers {
		for _, e := range events {
			select {
			case subscriber <- e:
			default:
			}
		}
	}
}

// Subscribe returns what is published from now on, until ctx ends or the hub is closed.
func (h *Hub) Subscribe(ctx context.Context) (<-chan Event, error) {
	events, ready := h.join()
	if events == nil {
		return nil, ErrClosed
	}
	context.AfterFunc(ctx, func() { h.leave(events) })
	select {
	case <-ready:
		return events, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(sourceTimeout):
		h.leave(events)
		return nil, errNoSource
	}
}

// join adds a subscriber, unless the hub is closed. The first one starts the source.
func (h *Hub) join() (events chan Event, ready <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil
	}
	if len(h.subscribers) == 0 {
		h.start()
	}
	events = make(chan Event, subscriberBuffer)
	h.subscribers[events] = struct{}{}
	h.count.Add(1)
	return events, h.ready
}

// start starts the source. The hub's mutex must be held.
func (h *Hub) start() {
	ready := make(chan struct{})
	h.subscribers, h.ready = map[chan Event]struct{}{}, ready
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	if h.Source == nil {
		close(ready)
		return
	}
	h.Source(ctx, sync.OnceFunc(func() { close(ready) }))
}

func (h *Hub) leave(events chan Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(events)
}

// drop takes out a subscriber, if it is there. The last one stops the source. The hub's mutex must be held.
func (h *Hub) drop(events chan Event) {
	if _, there := h.subscribers[events]; !there {
		return
	}
	delete(h.subscribers, events)
	h.count.Add(-1)
	close(events)
	if len(h.subscribers) == 0 {
		h.stop()
	}
}

// Close ends all subscriptions. There are no more after it.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for events := range h.subscribers {
		h.drop(events)
	}
}
