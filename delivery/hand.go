package delivery

import (
	"context"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

const (
	takeAtOnce = 16                     // deliveries taken from a lane at once
	fresh      = 500 * time.Millisecond // how long what was taken may begin without a look at the store
)

// hand is what a turn has taken and not begun. It ages: meanwhile the lane may have been paused or blocked, an activity
// cancelled, or something more urgent accepted, of which only the store knows.
type hand struct {
	waiting []queue.Delivery
	taken   time.Time
	stops   uint64 // of the queue, before it was taken
	more    bool   // the lane has more to give
	slow    bool   // it grew old in this turn: no more is taken than can begin at once
}

// stale tells that what is in hand must not begin.
func (t *turn) stale() bool {
	return len(t.waiting) > 0 && (t.old() || t.pool.Queue.Stops() != t.stops)
}

func (h *hand) old() bool { return time.Since(h.taken) >= fresh }

// putBack empties a stale hand, and returns the results that tell the store so.
func (t *turn) putBack() []queue.Result {
	if !t.stale() {
		return nil
	}
	results := make([]queue.Result, len(t.waiting))
	for i, d := range t.waiting {
		results[i] = queue.Result{ID: d.ID, Verdict: queue.Defer}
	}
	t.waiting, t.more, t.slow = nil, true, t.slow || t.old()
	return results
}

// refill takes more from the lane when the turn runs short.
func (t *turn) refill(ctx context.Context) {
	if len(t.waiting) > 0 || !t.more || t.over(ctx) {
		return
	}
	n := takeAtOnce
	if t.slow {
		n = min(n, t.breaker.Limit()-t.inFlight)
	}
	if n <= 0 {
		return
	}
	stops := t.pool.Queue.Stops()
	sure := context.WithoutCancel(ctx) // what is taken and not heard of is not given back when the turn ends
	turns, err := t.pool.Queue.Take(sure, []lockmgr.Lease{t.held.Lease}, n)
	if err != nil || len(turns) == 0 {
		t.stop = true // the scheduler finds out about the store
		return
	}
	t.waiting, t.more, t.taken, t.stops = turns[0].Deliveries, turns[0].More, time.Now(), stops
}
