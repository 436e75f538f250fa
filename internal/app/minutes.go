package app

import (
	"context"
	"maps"
	"time"

	"github.com/postrider/postrider/queue"
)

const (
	minuteMargin  = time.Second     // after the end of a minute, so that what ended with it is in the metrics
	minuteTimeout = 2 * time.Second // of an addition: a node that stops must not wait for long
)

// recorder adds what a node counts to the minutes of the store, for charts. It counts nothing itself.
type recorder struct {
	store  queue.Queue
	counts func() map[string]int64 // what the node counted since its start, by the names of sums

	added   map[string]int64 // what counts returned when that was last added
	addedAt time.Time
	levels  map[string]int64 // those that were written last
	written time.Time        // when they were
}

// newRecorder returns a recorder. Before it counts anything, it adds the levels of the minute
// before: so charts know how they have changed since.
func newRecorder(store queue.Queue, counts func() map[string]int64) *recorder {
	return &recorder{store: store, counts: counts, addedAt: time.Now().Add(-2 * time.Minute)}
}

// run adds once a minute until ctx ends. Then add has to be called once more, when the node counts nothing any more.
// While the store is away, counts are kept and added a minute later, and the pool logs the outage.
func (r *recorder) run(ctx context.Context) {
	for {
		next, err := r.add(ctx)
		if err != nil {
			next = time.Minute
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next + minuteMargin):
		}
	}
}

// add adds what was counted since the last time, and returns when to come again. It writes nothing if nothing was
// counted and the levels are known.
func (r *recorder) add(ctx context.Context) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, minuteTimeout)
	defer cancel()
	stats, err := r.store.Stats(ctx)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	counts := r.counts()
	c := queue.Counted{Took: now.Sub(r.addedAt), Sums: map[string]int64{}, Levels: levelsOf(&stats)}
	for name, n := range counts {
		if n > r.added[name] {
			c.Sums[name] = n - r.added[name]
		}
	}
	next = time.Minute - minuteMargin
	if len(c.Sums) > 0 || !r.known(c.Levels, now) {
		if next, err = r.store.AddMinute(ctx, c); err != nil {
			return 0, err
		}
		r.levels = c.Levels
		r.written = now
	}
	r.added = counts
	r.addedAt = now
	return next, nil
}

// known reports whether levels need not be written: they are as they were written last, and that was not long ago or
// they are all 0.
func (r *recorder) known(levels map[string]int64, now time.Time) bool {
	if !maps.Equal(levels, r.levels) {
		return false
	}
	for _, n := range levels {
		if n != 0 {
			return now.Sub(r.written) < queue.LevelsHold-time.Minute
		}
	}
	return true
}

// levelsOf returns the levels of a store.
func levelsOf(s *queue.Stats) map[string]int64 {
	levels := map[string]int64{queue.LevelPending: int64(s.Pending)}
	for reason, n := range s.Died {
		levels[queue.LevelDied+string(reason)] = n
	}
	for _, state := range []queue.HostState{queue.HostRefusing, queue.HostOpen, queue.HostUnavailable} {
		levels[queue.LevelHosts+string(state)] = int64(s.Hosts[state])
	}
	return levels
}

// counts returns what the node counted since its start, by the names of sums. It reads what metrics count.
func (n *node) counts() map[string]int64 {
	activities, deliveries := n.calls.Accepted()
	counts := map[string]int64{queue.SumActivities: activities, queue.SumDeliveries: deliveries}
	for outcome, count := range n.pool.Metrics.Stats().Attempts {
		counts[queue.SumAttempts+string(outcome)] = count
	}
	for bucket, count := range n.pool.Metrics.Arrived() {
		counts[queue.SumArrived(bucket)] = count
	}
	return counts
}
