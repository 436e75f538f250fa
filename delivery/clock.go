package delivery

import (
	"context"
	"errors"
	"sync"
	"time"
)

// clock measures the time of an attempt, which stands still while a host's name is looked up.
type clock struct {
	expire func()

	mu      sync.Mutex
	timer   *time.Timer   // nil until it is first started; guarded by mu
	left    time.Duration // when it was started; guarded by mu
	started time.Time     // zero while it stands still; guarded by mu
}

type clockKey struct{}

// withClock returns a context that ends, with context.DeadlineExceeded as its cause, when a clock has run for so long. The
// clock stands still until it is started.
func withClock(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &clock{left: d, expire: func() { cancel(context.DeadlineExceeded) }}
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started.IsZero() && c.timer.Stop() {
		c.left -= time.Since(c.started)
	}
	c.started = time.Time{}
}

// start makes the clock run, or run again.
func (c *clock) start() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started.IsZero() {
		return
	}
	c.started = time.Now()
	if c.timer == nil {
		c.timer = time.AfterFunc(c.left, c.expire)
	} else {
		c.timer.Reset(c.left)
	}
}

// expired reports whether a clock of the context has run out.
func expired(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), context.DeadlineExceeded)
}
