package redisq

import (
	"math"
	"sync"
	"time"
)

// never is when nothing is known to become due.
const never = time.Duration(math.MaxInt64)

// agenda is when each partition may have a lane due: as Due was told of it last, and as this node has heard since. So a
// partition is asked only when there may be something. Times count from the start of the store.
type agenda struct {
	mu    sync.Mutex
	parts []outlook // guarded by mu, and what is below, too
	first int       // where the next look begins
}

// outlook is the agenda of a partition. Unless its wakes are heard, it may have a lane due at any time.
type outlook struct {
	at       time.Duration // without the suspects that may be due
	heard    bool
	suspects bool // suspects may be due that were not wanted
}

func newAgenda(partitions int) *agenda { return &agenda{parts: make([]outlook, partitions)} }

// due returns those of some partitions that may have a lane due now, or a suspect if such are wanted, in the order in which they
// are to be asked. They have nothing more on the agenda until put and putSuspects say what came of it.
func (a *agenda) due(now time.Duration, served []bool, suspects bool) (list []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.parts {
		n := (a.first + i) % len(a.parts)
		if o := &a.parts[n]; served[n] && (!o.heard || o.at <= now || suspects && o.suspects) {
			o.at = never
			o.suspects = o.suspects && !suspects
			list = append(list, n)
		}
	}
	return list
}

// put says that a partition may have a lane due at a time, if not before.
func (a *agenda) put(n int, at time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts[n].at = min(a.parts[n].at, at)
}

// putSuspects says that a partition may have suspects due, for which a node looks once it has room for them.
func (a *agenda) putSuspects(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts[n].suspects = true
}

// begin says with which partition the next look begins.
func (a *agenda) begin(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.first = n
}

// hear says whether the wakes of a partition are heard from now on. A wake may have been missed before, so it may be due.
func (a *agenda) hear(n int, heard bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts[n] = outlook{heard: heard}
}

// hears reports whether the wakes of some partitions are heard, all of them.
func (a *agenda) hears(served []bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, o := range a.parts {
		if served[n] && !o.heard {
			return false
		}
	}
	return true
}

// next returns when the first of some partitions may have a lane due, without suspects that were not wanted.
func (a *agenda) next(served []bool) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := never
	for n, o := range a.parts {
		if served[n] {
			first = min(first, o.at)
		}
	}
	return first
}
