package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// observer reports the true results of the store to the checker: it wraps the store itself, inside all faults.
type observer struct {
	queue.Queue
	c *checker
}

func (o *observer) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	defer o.c.calling(true)()
	want := o.c.offered(s)
	r, err := o.Queue.Enqueue(ctx, s)
	if err == nil {
		o.c.receipt(s, r, want)
	}
	return r, err
}

func (o *observer) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	defer o.c.calling(false)()
	turns, err := o.Queue.Take(ctx, leases, n)
	if err == nil {
		o.c.taken(nodeOf(ctx), turns)
	}
	return turns, err
}

func (o *observer) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	defer o.c.calling(len(s.Results) > 0)()
	o.c.noteEnded(&s)
	next, err := o.Queue.Settle(ctx, l, s, n)
	switch {
	case err == nil:
		o.c.settled(nodeOf(ctx), l, &s, next)
	case errors.Is(err, queue.ErrNotHeld):
		o.c.refused(l, &s)
	}
	return next, err
}

func (o *observer) Act(ctx context.Context, host string, a queue.HostAction, order queue.Order) (queue.HostStatus, error) {
	defer o.c.calling(a != queue.Seen)()
	h, err := o.Queue.Act(ctx, host, a, order)
	switch {
	case err != nil:
	case a == queue.Seen:
		o.c.seen(host)
	default:
		o.c.acted(host, a, h)
	}
	return h, err
}

func (o *observer) Cancel(ctx context.Context, id string) (queue.ActivityStatus, error) {
	defer o.c.calling(true)()
	before, err := o.Activity(ctx, id)
	if err != nil {
		return before, err
	}
	after, err := o.Queue.Cancel(ctx, id)
	if err == nil {
		o.c.cancelled(before, after)
	}
	return after, err
}

func (o *observer) RetryDead(ctx context.Context, which queue.DeadLetterChoice, lasts time.Duration) (queue.DeadLetterCount, error) {
	o.c.look()
	defer o.c.calling(true)()
	before := o.c.w.deadLetters()
	n, err := o.Queue.RetryDead(ctx, which, lasts)
	if err == nil {
		o.c.changed(before, which, true, lasts, n)
	}
	return n, err
}

func (o *observer) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
	o.c.look()
	defer o.c.calling(true)()
	before := o.c.w.deadLetters()
	n, err := o.Queue.DeleteDead(ctx, which)
	if err == nil {
		o.c.changed(before, which, false, 0, n)
	}
	return n, err
}

func (o *observer) Sweep(ctx context.Context) (time.Duration, error) {
	defer o.c.calling(false)()
	next, err := o.Queue.Sweep(ctx)
	if err != nil {
		return next, err
	}
	return next, nil
}

// refused counts settlements that came too late.
func (c *checker) refused(l lockmgr.Lease, s *queue.Settlement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(s.Results) > 0 {
		c.figures.late++
		c.note("refused", l.Host, l.Token)
	}
}

// seen records that a host was reported as seen. If it has recovered it must be served soon.
func (c *checker) seen(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	before := h.quick
	h.model.seen(time.Now())
	if h.quick > before && h.kind != mixed && h.is(c.w.since()) == well {
		c.w.expect(h, h.wait.Add(slack), "it was seen")
	}
}
