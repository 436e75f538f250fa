// Package telemetry has what the parts of a node share to show what they do.
//
// Traces exports spans as the OTEL_* variables say. A place in a trace is packed into few bytes, to be stored with an
// activity, so that spans made later, on other nodes, are in the same trace.
//
// A Sampler keeps a log readable while something fails again and again: of lines with the same key it lets the first
// through, and then one each Interval. A Writer does so for libraries that write their own lines. Histogram makes all
// histograms alike.
package telemetry

import (
	"maps"
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
	mu    sync.Mutex
	lines map[string]line // by key; guarded by mu
}

// line is what is remembered of the lines with one key.
type line struct {
	at      time.Time // when the last one was let through
	skipped int       // how many were not since then
}

// Allow reports whether a line with this key may be logged now, and how many were skipped since the last one.
func (s *Sampler) Allow(key string) (skipped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[string]line{}
	}
	last, known := s.lines[key]
	switch {
	case known && time.Since(last.at) < Interval:
		s.lines[key] = line{last.at, last.skipped + 1}
		return 0, false
	case !known && !s.makeRoom():
		return 0, false
	}
	s.lines[key] = line{at: time.Now()}
	return last.skipped, true
}

// makeRoom reports whether one more key may be remembered. If there is no room, it forgets the keys whose interval is over.
func (s *Sampler) makeRoom() bool {
	if len(s.lines) >= maxKeys {
		maps.DeleteFunc(s.lines, func(_ string, l line) bool { return time.Since(l.at) >= Interval })
	}
	return len(s.lines) < maxKeys
}
