package embedded

import (
	"context"

	"github.com/postrider/postrider/queue"
)

// Events implements queue.Watching.
func (s *Store) Events(ctx context.Context) (<-chan queue.Event, error) { return s.hub.Subscribe(ctx) }

// changed has the next transaction look whether the feed knows of a host's state: it may have changed with the time. The
// store's mutex must be held.
func (s *Store) changed(l *lane) {
	if l.state == l.told.state {
		delete(s.restless, l.id)
	} else {
		s.restless[l.id] = true
	}
}

// restlessAtOnce is how many of them one transaction takes.
const restlessAtOnce = 1000

// takeRestless adds lanes of hosts whose state the feed may not know, and forgets them.
func (s *Store) takeRestless(into map[int64]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.restless {
		if len(into) >= restlessAtOnce {
			return
		}
		into[id] = true
		delete(s.restless, id)
	}
}
