//go:build !race

package simulation

import (
	"context"
	"math"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// ignoring is a store that reports success for changes to hosts, and ignores them.
func ignoring(a queue.HostAction) mutation {
	return mutation{store: func(_ *world, q queue.Queue) queue.Queue { return actionIgnorer{q, a} }}
}

type actionIgnorer struct {
	queue.Queue
	to queue.HostAction
}

func (m actionIgnorer) Act(ctx context.Context, host string, a queue.HostAction, order queue.Order) (queue.HostStatus, error) {
	if a == m.to {
		return m.Host(ctx, host)
	}
	return m.Queue.Act(ctx, host, a, order)
}

// stubborn lets turns that began before a reset undo it.
type stubborn struct{ queue.Queue }

func (m stubborn) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	if s.Host != nil {
		h := *s.Host
		h.Epoch = math.MaxInt64
		s.Host = &h
	}
	return m.Queue.Settle(ctx, l, s, n)
}

// cancelIgnorer reports success for cancellations, and ignores them.
type cancelIgnorer struct{ queue.Queue }

func (m cancelIgnorer) Cancel(ctx context.Context, id string) (queue.ActivityStatus, error) {
	a, err := m.Activity(ctx, id)
	a.Counts.Cancelled += a.Counts.Pending
	a.Counts.Pending = 0
	return a, err
}

// retryLoser drops the dead letters that it should retry.
type retryLoser struct{ queue.Queue }

func (m retryLoser) RetryDead(ctx context.Context, which queue.DeadLetterChoice, _ time.Duration) (queue.DeadLetterCount, error) {
	return m.DeleteDead(ctx, which)
}
