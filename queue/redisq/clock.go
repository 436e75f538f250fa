package redisq

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// pause waits for a time, or returns the error of a context that ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// lag is how far the clock of a partition, by which all times there are stored, is behind Redis's wall clock, in ms; see
// lane.lua. Scripts find out when it changes. A node that only shows times goes by what it has read last.
type lag struct{ ms atomic.Int64 }

// shown returns what the wall clock says, or would have said, at a time of the partition's. 0 is no time.
func (l *lag) shown(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return timeOf(ms + l.ms.Load())
}

// stored returns the partition's time, in ms, when the wall clock says t. No time is 0.
func (l *lag) stored(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli() - l.ms.Load()
}

// shownRecord returns a host's record with the times that shown returns.
func (l *lag) shownRecord(r queue.HostRecord) queue.HostRecord {
	return r.Shifted(time.Duration(l.ms.Load()) * time.Millisecond)
}

// storedRecord undoes shownRecord.
func (l *lag) storedRecord(r queue.HostRecord) queue.HostRecord {
	return r.Shifted(-time.Duration(l.ms.Load()) * time.Millisecond)
}

// noteLag takes in the lag of a partition, and tells the log if the clock has moved.
func (p *partition) noteLag(ms int64) {
	before := p.lag.ms.Swap(ms)
	if before == ms {
		return
	}
	p.log.Warn("store.clock_moved", "by", (time.Duration(ms-before) * time.Millisecond).String(), "partition", p.N,
		"detail", "the clock of Redis jumped, or no node was running: all due times, TTLs and waits move with it")
}

// readLags reads the lags of all partitions.
func (s *conn) readLags(ctx context.Context) error {
	lags, err := ask[int64](ctx, s, func(p *partition) rueidis.Completed {
		return s.client.B().Hget().Key(p.Key(rediskeys.Stats)).Field("lag").Build()
	})
	for i, ms := range lags {
		s.parts[i].lag.ms.Store(ms)
	}
	return err
}

// wallTime is what Redis's wall clock says.
func (s *conn) wallTime(ctx context.Context) (now time.Time, err error) {
	var seconds, micros int64
	err = s.read(ctx, s.client.B().Time().Build(), &seconds, &micros)
	return time.UnixMicro(seconds*1e6 + micros), err
}
