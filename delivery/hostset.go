package delivery

import (
	"maps"
	"sync"
	"time"
)

// hostSet remembers hosts that have to be treated in another way than most, or something of each, for a while and as many
// as there is room for. A host that is forgotten is only found out again.
type hostSet struct {
	most  int
	lasts time.Duration

	mu    sync.Mutex
	known map[string]known // guarded by mu
}

// known is what is remembered of a host.
type known struct {
	value string
	until time.Time
}

func newHostSet(most int, lasts time.Duration) *hostSet {
	return &hostSet{most: most, lasts: lasts, known: map[string]known{}}
}

// add remembers a host from now on.
func (s *hostSet) add(host string) { s.put(host, "") }

// put remembers a host with a value from now on. If there is no room, hosts whose time is over are forgotten, and of the
// others so many that room has not to be made soon again.
func (s *hostSet) put(host, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if _, again := s.known[host]; !again && len(s.known) >= s.most {
		s.makeRoom(now)
	}
	s.known[host] = known{value, now.Add(s.lasts)}
}

// makeRoom forgets hosts. The caller holds mu.
func (s *hostSet) makeRoom(now time.Time) {
	maps.DeleteFunc(s.known, func(_ string, k known) bool { return !now.Before(k.until) })
	for other := range s.known {
		if len(s.known) < s.most-s.most/8 {
			return
		}
		delete(s.known, other)
	}
}

// get returns the value that is remembered of a host, and whether the host is remembered.
func (s *hostSet) get(host string) (value string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[host]
	return k.value, time.Now().Before(k.until)
}

// has reports whether a host is remembered.
func (s *hostSet) has(host string) bool {
	_, ok := s.get(host)
	return ok
}
