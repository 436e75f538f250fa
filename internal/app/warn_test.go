package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
)

// totalsOnly is a store that only knows its totals.
type totalsOnly struct {
	queue.Watching
	away, accepts atomic.Bool
	asked         atomic.Int64
}

func (s *totalsOnly) Stats(context.Context) (stats queue.Stats, err error) {
	s.asked.Add(1)
	if s.away.Load() {
		return stats, errors.New("away")
	}
	stats.Answers[queue.AnsweredUnauthorized] = 3
	if s.accepts.Load() {
		stats.Answers[queue.AnsweredAccepted] = 1
	}
	return stats, nil
}

// TestWarns checks that a node logs a warning soon, then once an hour at most while it holds, and that it asks the store
// for nothing while there is nothing new.
func TestWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var count atomic.Int64
		var store totalsOnly
		store.away.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			warn(ctx, &store, count.Load, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		lines := func() int { return strings.Count(log.String(), "code=most_hosts_unauthorized") }
		wait := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := lines(); got != want {
				t.Errorf("%d lines after %d questions, want %d:\n%s", got, store.asked.Load(), want, log.String())
			}
		}
		wait(time.Hour, 0)
		if got := store.asked.Load(); got != 0 {
			t.Errorf("asked %d times though nothing happened", got)
		}
		count.Add(1)
		wait(time.Minute, 0) // the store is away
		store.away.Store(false)
		wait(warnInterval, 1)
		for range 350 { // nearly an hour
			count.Add(1)
			wait(warnInterval, 1)
		}
		count.Add(1)
		wait(2*time.Minute, 1) // nothing new since
		count.Add(1)
		wait(warnInterval, 2)
		store.accepts.Store(true)
		count.Add(1)
		wait(2*time.Hour, 2)
		cancel()
		<-done
	})
}
