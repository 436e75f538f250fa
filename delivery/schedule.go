package delivery

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/queue"
)

// Schedule says when and how often a delivery is tried again.
type Schedule struct {
	Base        time.Duration // the wait before the first retry
	MaxAttempts int           // attempts, after which a delivery is dead
	// Jitter gives random numbers in [0,1). It must be safe for concurrent use; nil is math/rand/v2's.
	Jitter func() float64
}

// lowAttempts is the most attempts that a delivery of low priority gets.
const lowAttempts = 9

// Attempts returns how many attempts a delivery gets.
func (s Schedule) Attempts(p queue.Priority) int {
	if p == queue.Low {
		return min(lowAttempts, s.MaxAttempts)
	}
	return s.MaxAttempts
}

// maxWait is no limit in practice: it only keeps the arithmetic from overflowing.
const maxWait = 365 * 24 * time.Hour

// Wait returns how long to wait before retry n (1, 2, …): Base × (1 + (n-1)⁴/15) and up to half of it more. At 15 s that
// is Mastodon's curve; elapsed, without the jitter, after the nth attempt:
//
//	n   wait      elapsed     n   wait      elapsed
//	1   15 s      15 s        9   1.1 h     2.4 h
//	2   16 s      31 s       10   1.8 h     4.3 h
//	3   31 s      1 min      11   2.8 h     7.0 h
//	4   1.6 min   2.6 min    12   4.1 h     11.1 h
//	5   4.5 min   7.2 min    13   5.8 h     16.9 h
//	6   11 min    18 min     14   7.9 h     24.8 h
//	7   22 min    40 min     15   10.7 h    35.5 h
//	8   40 min    1.3 h      16   14.1 h    49.6 h
func (s Schedule) Wait(n int) time.Duration {
	wait := float64(s.Base) * (1 + math.Pow(float64(max(n, 1)-1), 4)/15)
	wait *= 1 + s.jitter()/2
	return time.Duration(min(wait, float64(maxWait)))
}

func (s Schedule) jitter() float64 {
	if s.Jitter == nil {
		return rand.Float64()
	}
	return s.Jitter()
}
