package embedded

// signal wakes a goroutine that receives from it. Signals that nothing has received yet count as one.
type signal chan struct{}

func (c signal) send() {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Wake implements queue.Lanes.
func (s *Store) Wake() <-chan struct{} { return s.wake }
