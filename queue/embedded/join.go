package embedded

import "github.com/postrider/postrider/queue"

// Join implements queue.Fleet.
func (s *Store) Join(info func() queue.NodeInfo) (name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info = info
	return s.name
}
