package embedded

import (
	"context"
	"time"

	"github.com/postrider/postrider/queue"
)

// Nodes implements queue.Fleet: no other node uses the store.
func (s *Store) Nodes(context.Context) (queue.FleetStatus, error) {
	s.mu.Lock()
	info := s.info
	looks, choosy := s.looks, s.choosy
	s.mu.Unlock()
	n := queue.Node{Name: s.name, Self: true, Delivers: looks, HeardAt: time.Now()}
	if info != nil {
		n.NodeInfo = info()
	}
	if looks {
		n.Partitions = 1
		n.HasRoom = !choosy && (n.Concurrency == 0 || n.InFlight < n.Concurrency)
	}
	return queue.FleetStatus{Nodes: []queue.Node{n}, Partitions: 1}, nil
}
