package embedded

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/postrider/postrider/queue"
)

// heard is how many events may wait for one who reads slowly.
const heard = 1024

// hub spreads events to those who watch. It is safe for concurrent use.
type hub struct {
	watching atomic.Int32

	mu     sync.Mutex
	ears   map[chan queue.Event]struct{} // guarded by mu
	closed bool                          // guarded by mu
}

// watched tells whether anybody watches.
func (h *hub) watched() bool { return h.watching.Load() > 0 }

func (h *hub) tell(events ...queue.Event) {
	if !h.watched() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for ear := range h.ears {
		for _, e := range events {
			select {
			case ear <- e:
			default:
			}
		}
	}
}

// listen returns what is told until ctx ends, or nil if the hub is closed.
func (h *hub) listen(ctx context.Context) <-chan queue.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	ear := make(chan queue.Event, heard)
	if h.ears == nil {
		h.ears = map[chan queue.Event]struct{}{}
	}
	h.ears[ear] = struct{}{}
	h.watching.Add(1)
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.leave(ear)
	})
	return ear
}

// leave ends a channel, if it has not ended. The hub's mutex must be held.
func (h *hub) leave(ear chan queue.Event) {
	if _, there := h.ears[ear]; there {
		delete(h.ears, ear)
		h.watching.Add(-1)
		close(ear)
	}
}

// close ends all channels.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ear := range h.ears {
		h.leave(ear)
	}
}

// Tell implements queue.Lanes.
func (s *Store) Tell(events ...queue.Event) { s.hub.tell(events...) }

// Events implements queue.Watching.
func (s *Store) Events(ctx context.Context) (<-chan queue.Event, error) {
	if ear := s.hub.listen(ctx); ear != nil {
		return ear, nil
	}
	return nil, queue.ErrClosed
}
