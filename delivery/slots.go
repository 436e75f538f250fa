package delivery

import "sync"

// slots are a node's places for attempts. At most half of them may be held by turns on suspect hosts, so that the dead
// can't starve the living. A turn begins with one slot that the scheduler reserved, and grows by slots that nobody waits
// for.
type slots struct {
	total, suspects int
	freed           chan struct{} // fires when a slot came free

	mu            sync.Mutex
	used          int  // guarded by mu
	suspectUsed   int  // guarded by mu
	hungry        bool // the scheduler wants a slot; guarded by mu
	hungrySuspect bool // the scheduler wants a slot for a suspect; guarded by mu
}

func newSlots(total int) *slots {
	return &slots{total: total, suspects: max(1, total/2), freed: make(chan struct{}, 1)}
}

// reserve takes up to n slots for new turns, s of which may go to suspects, and remembers what it could not get.
func (s *slots) reserve(n int) (got, suspects int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got = min(n, s.total-s.used)
	suspects = min(got, max(0, s.suspects-s.suspectUsed))
	s.used += got
	s.suspectUsed += suspects
	s.hungry, s.hungrySuspect = got == 0, suspects == 0
	return got, suspects
}

// unreserve gives back what the scheduler had no use for.
func (s *slots) unreserve(n, suspects int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	s.suspectUsed -= suspects
}

// release gives a turn's slots back, so many of them suspects', and tells the scheduler.
func (s *slots) release(n, suspects int) {
	s.unreserve(n, suspects)
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// grow takes one more slot for a turn, unless there is none or the scheduler wants it.
func (s *slots) grow(suspect bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hungry || s.used >= s.total || suspect && s.suspectUsed >= s.suspects {
		return false
	}
	s.used++
	if suspect {
		s.suspectUsed++
	}
	return true
}

// wanted tells a turn that others wait for its slots.
func (s *slots) wanted(suspect bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hungry || suspect && s.hungrySuspect
}

// reclass moves a turn's slots between the classes, and tells whether suspects keep within their half.
func (s *slots) reclass(n int, suspect bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if suspect {
		s.suspectUsed += n
		return s.suspectUsed <= s.suspects
	}
	s.suspectUsed -= n
	return true
}

// inUse returns how many slots are held, and by suspects.
func (s *slots) inUse() (used, suspects int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.suspectUsed
}
