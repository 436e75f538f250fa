package delivery

import (
	"context"
	"errors"
	"sync"
	"time"
)

// clock measures the time of an attempt, which stands still while a host's name is looked up.
type clock struct {
	outer *clock // of the attempt, in the clock of one of its requests

	mu      sync.Mutex
	timer   *time.Timer
	left    time.Duration // when it was started; guarded by mu
	started time.Time     // zero while it stands still; guarded by mu
}

type clockKey struct{}

// withClock returns a context that ends, with context.DeadlineExceeded as its cause, when a clock has run for so long.
func withClock(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &clock{outer: clockOf(ctx), left: d, started: time.Now()}
	c.timer = time.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	return context.WithValue(ctx, clockKey{}, c), func() {
		c.stop()
		cancel(nil)
	}
}

// clockOf returns the clock of a context, or nil, which is a clock too.
func clockOf(ctx context.Context) *clock {
	c, _ := ctx.Value(clockKey{}).(*clock)
	return c
}

// stop makes the clock stand still.
func (c *clock) stop() {
	if c == nil {
		return
	}
	c.outer.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started.IsZero() && c.timer.Stop() {
		c.left -= time.Since(c.started)
	}
	c.started = time.Time{}
}

// start makes the clock run again.
func (c *clock) start() {
	if c == nil {
		return
	}
	c.outer.start()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started.IsZero() {
		c.started = time.Now()
		c.timer.Reset(c.left)
	}
}

// expired reports whether a clock of the context has run out.
func expired(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), context.DeadlineExceeded)
}
