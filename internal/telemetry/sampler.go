// Package telemetry has what the parts of a node share to show what they do.
//
// A Sampler keeps a log readable while something fails again and again: of lines with the same key it lets the first
// through, and then one each Interval. A Writer does so for libraries that write their own lines. Histogram makes all
// histograms alike.
package telemetry

import (
	"sync"
	"time"
)

// Interval is the least time between two lines with the same key.
const Interval = 10 * time.Second

// maxKeys is how many keys a Sampler remembers: some keys are names of hosts, and there may be any number of those.
const maxKeys = 1000

// Sampler decides which lines are logged, for each key on its own. Of keys that it cannot remember (see maxKeys) it lets no
// line through. The zero value is ready to use. It is safe for concurrent use.
type Sampler struct {
	mu      sync.Mutex
	allowed map[string]time.Time // guarded by mu: when a line with this key was last let through
	skipped map[string]int       // guarded by mu: how many were not since then
}

// Allow reports whether a line with this key may be logged now, and how many were skipped since the last one.
func (s *Sampler) Allow(key string) (skipped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowed == nil {
		s.allowed = map[string]time.Time{}
		s.skipped = map[string]int{}
	}
	if at, known := s.allowed[key]; known && time.Since(at) < Interval {
		s.skipped[key]++
		return 0, false
	}
	if !s.makeRoom(key) {
		return 0, false
	}
	skipped = s.skipped[key]
	s.allowed[key] = time.Now()
	s.skipped[key] = 0
	return skipped, true
}

// makeRoom reports whether a key may be remembered. If there is no room, it forgets the keys whose interval is over.
func (s *Sampler) makeRoom(key string) bool {
	if _, known := s.allowed[key]; known || len(s.allowed) < maxKeys {
		return true
	}
	for other, at := range s.allowed {
		if time.Since(at) >= Interval {
			delete(s.allowed, other)
			delete(s.skipped, other)
		}
	}
	return len(s.allowed) < maxKeys
}
