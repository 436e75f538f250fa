package delivery

import (
	"slices"
	"sync"

	"github.com/postrider/postrider/queue"
)

// slots are a node's places for attempts. Suspect hosts hold at most half of them, so that the dead can't starve the
// living, and suspects of one group (see groupOf) at most a quarter of that half, so that any number of names costs the
// others no more than a few do. Every method looks and counts in one step.
//
// A turn begins with one slot that the scheduler reserved, and grows by slots that no other host waits for.
type slots struct {
	total    int
	suspects int           // of total
	group    int           // of suspects, but at least what one host may hold
	freed    chan struct{} // fires when a slot came free
	crowded  *hostSet      // groups whose hosts lately found no room
	served   *hostSet      // hosts of these groups that just had a turn

	mu              sync.Mutex
	used            int            // guarded by mu
	suspectUsed     int            // guarded by mu
	held            map[string]int // by suspects, for each group that holds any; guarded by mu
	reserved        int            // for the scheduler; guarded by mu
	reservedSuspect int            // of reserved; guarded by mu
	hungry          bool           // the scheduler wants a slot; guarded by mu
	hungrySuspect   bool           // the scheduler wants a slot for a suspect; guarded by mu
}

// maxCrowded bounds the crowded groups that are remembered, and the hosts that were served.
const maxCrowded = 4096

func newSlots(total, window int) *slots {
	return &slots{
		total: total, suspects: max(1, total/2), group: max(1, window, total/8), freed: make(chan struct{}, 1),
		crowded: newHostSet(maxCrowded, 2*queue.OfferTTL), served: newHostSet(maxCrowded, 2*queue.OfferTTL), held: map[string]int{},
	}
}

// share is what one turn holds of the slots. Only its turn has n and suspect changed, and may read them without mu.
type share struct {
	host    string
	n       int      // guarded by mu
	suspect bool     // guarded by mu
	groups  []string // of the host, that of its name first, without repeats; guarded by mu
}

// reserve sets up to n slots aside for claims, and returns how many, and how many of them suspects may get. It
// remembers what it could not get.
func (s *slots) reserve(n int) (got, suspects int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved = min(n, s.total-s.used)
	s.reservedSuspect = min(s.reserved, max(0, s.suspects-s.suspectUsed))
	s.hungry = s.reserved == 0
	s.hungrySuspect = s.reservedSuspect == 0
	return s.reserved, s.reservedSuspect
}

// claim gives a reserved slot to a turn on a host. It returns nil if there is none, or none for a suspect of these
// groups. A host of a crowded group that just had a turn gets no other one before those that found no room are offered
// again.
func (s *slots) claim(host string, suspect bool, groups []string) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserved == 0 || suspect && (s.reservedSuspect == 0 || s.served.has(host) || !s.room(1, groups...)) {
		return nil
	}
	s.reserved--
	if suspect {
		s.reservedSuspect--
	}
	sh := &share{host: host, suspect: suspect, groups: groups}
	s.add(sh, 1)
	return sh
}

// unreserve ends a reservation.
func (s *slots) unreserve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved = 0
	s.reservedSuspect = 0
}

// grow takes one more slot for a turn, unless there is none or others want it.
func (s *slots) grow(sh *share) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hungry || s.used+s.reserved >= s.total {
		return false
	}
	if sh.suspect && (s.suspectUsed+s.reservedSuspect >= s.suspects || s.awaited(sh) || s.over(1, sh.groups)) {
		return false
	}
	s.add(sh, 1)
	return true
}

// enter counts a turn's slots with one more group. It reports false if that has no room for them.
func (s *slots) enter(sh *share, group string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(sh.groups, group) {
		return true
	}
	if sh.suspect && !s.room(sh.n, group) {
		return false
	}
	if sh.suspect {
		s.hold(sh.n, group)
	}
	sh.groups = append(sh.groups, group)
	if len(sh.groups) > 1+maxAddrs { // the turn has been to many addresses: it is counted with the latest
		if sh.suspect {
			s.hold(-sh.n, sh.groups[1])
		}
		sh.groups = slices.Delete(sh.groups, 1, 2)
	}
	return true
}

// reclass moves a turn's slots to the class of suspects or out of it, and reports whether suspects keep within their
// bounds.
func (s *slots) reclass(sh *share, suspect bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.suspect == suspect {
		return true
	}
	n := sh.n
	s.add(sh, -n)
	sh.suspect = suspect
	s.add(sh, n)
	if !suspect {
		s.wake() // there is room for other suspects
	}
	return !suspect || s.suspectUsed+s.reservedSuspect <= s.suspects && !s.over(0, sh.groups)
}

// release gives n of a turn's slots back, and wakes the scheduler.
func (s *slots) release(sh *share, n int) {
	s.drop(sh, n)
	s.wake()
}

func (s *slots) wake() {
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// ending notes that a turn is about to release its host.
func (s *slots) ending(sh *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited(sh) {
		s.served.add(sh.host)
	}
}

// drop gives n of a turn's slots back.
func (s *slots) drop(sh *share, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(sh, -n)
}

// wanted reports whether others wait for a turn's slots.
func (s *slots) wanted(sh *share) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hungry || sh.suspect && s.hungrySuspect || s.awaited(sh)
}

// inUse returns how many slots turns hold, and how many of them suspects do.
func (s *slots) inUse() (used, suspects int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.suspectUsed
}

// awaited reports whether other hosts of a suspect's groups lately found no room. The caller holds mu.
func (s *slots) awaited(sh *share) bool {
	return sh.suspect && slices.ContainsFunc(sh.groups, s.crowded.has)
}

// add counts n more slots of a turn, or fewer if n is negative. The caller holds mu.
func (s *slots) add(sh *share, n int) {
	sh.n += n
	s.used += n
	if !sh.suspect {
		return
	}
	s.suspectUsed += n
	s.hold(n, sh.groups...)
}

// hold counts n more slots with groups, or fewer if n is negative. The caller holds mu.
func (s *slots) hold(n int, groups ...string) {
	for _, group := range groups {
		if s.held[group] += n; s.held[group] == 0 {
			delete(s.held, group)
		}
	}
}

// over reports whether n more slots are too many for one of the groups. The caller holds mu.
func (s *slots) over(n int, groups []string) bool {
	return slices.ContainsFunc(groups, func(group string) bool { return s.held[group]+n > s.group })
}

// room reports whether n more slots fit into each of the groups, and remembers those into which they don't. The caller
// holds mu.
func (s *slots) room(n int, groups ...string) bool {
	fits := true
	for _, group := range groups {
		if s.over(n, []string{group}) {
			s.crowded.add(group)
			fits = false
		}
	}
	return fits
}
