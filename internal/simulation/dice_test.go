package simulation

import (
	"math/rand/v2"
	"sync"
	"time"
)

// mix hashes a seed and labels, so that random choices for different labels are independent.
func mix(seed uint64, labels ...string) uint64 {
	const prime = 1099511628211
	h := seed ^ 14695981039346656037
	for _, l := range labels {
		for i := range len(l) {
			h = (h ^ uint64(l[i])) * prime
		}
		h = (h ^ 0xff) * prime
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

// dice are the random numbers for one label.
func dice(seed uint64, labels ...string) *rand.Rand {
	return rand.New(rand.NewPCG(seed, mix(seed, labels...)))
}

// between draws a time from a range, to the nanosecond: no two events are at the same instant.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// pick draws one of several.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// jitter returns random numbers in [0,1). It is safe for concurrent use.
func jitter(r *rand.Rand) func() float64 {
	var mu sync.Mutex
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}

// clock gives every call another duration, so that no two events are at the same instant: then virtual time orders them,
// not the scheduler.
type clock struct {
	seed uint64
	mu   sync.Mutex
	nth  map[string]uint64 // guarded by mu: calls so far, by what they are
}

func newClock(seed uint64) *clock { return &clock{seed: seed, nth: map[string]uint64{}} }

// next returns the duration of the next call of a kind: up to a millisecond.
func (c *clock) next(what, whom string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := what + " " + whom
	c.nth[k]++
	n := mix(c.seed^c.nth[k]*0x9e3779b97f4a7c15, k)
	return time.Duration(20_000 + n%980_000)
}
