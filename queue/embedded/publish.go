package embedded

import "github.com/postrider/postrider/queue"

// Publish implements queue.Lanes.
func (s *Store) Publish(events ...queue.Event) { s.hub.Publish(events...) }
