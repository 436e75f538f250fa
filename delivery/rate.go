package delivery

import (
	"sync"
	"time"
)

// rate counts what happened in each of the last 60 seconds. It is safe for concurrent use, and its zero value is ready.
type rate struct {
	mu      sync.Mutex
	latest  int64     // the second counted last, since the epoch; guarded by mu
	seconds [60]int64 // by the second modulo 60; guarded by mu
}

func (r *rate) add(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(at.Unix())
	r.seconds[r.latest%60]++
}

// perSecond is the mean of the last minute.
func (r *rate) perSecond(at time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(at.Unix())
	var n int64
	for _, m := range r.seconds {
		n += m
	}
	return float64(n) / 60
}

// turn forgets the seconds that are more than a minute ago. A clock that was set back does not turn it.
func (r *rate) turn(second int64) {
	for i := max(r.latest+1, second-59); i <= second; i++ {
		r.seconds[i%60] = 0
	}
	r.latest = max(r.latest, second)
}
