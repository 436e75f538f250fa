// Package seldom keeps a log readable while something fails over and over: of lines that say the same the first is
// written, and then one in a while.
package seldom

import (
	"sync"
	"time"
)

// Every is how long a gate stays closed after it was open.
const Every = 10 * time.Second

// Gate lets few of many through, for each of a small set of keys on its own. The zero value is open. It is safe for
// concurrent use.
type Gate struct {
	mu     sync.Mutex
	passed map[string]time.Time // guarded by mu: when a key last passed
	left   map[string]int       // guarded by mu: how many did not since
}

// Open tells whether the gate is open for a key, closes it if so, and tells how many found it closed before.
func (g *Gate) Open(key string) (left int, open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.passed == nil {
		g.passed, g.left = map[string]time.Time{}, map[string]int{}
	}
	if at, ok := g.passed[key]; ok && time.Since(at) < Every {
		g.left[key]++
		return 0, false
	}
	left = g.left[key]
	g.passed[key], g.left[key] = time.Now(), 0
	return left, true
}
