package app

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// meter is a store whose calls on the hot path of intake and delivery are measured, and those that show whether it works.
// queue.Keys.Key is not, because it is answered from memory.
type meter struct {
	queue.Queue
	calls map[string]map[string]prometheus.Observer // by call and result; the maps don't change
}

// The calls that a meter measures.
const (
	callEnqueue = "enqueue"
	callDue     = "due"
	callTake    = "take"
	callSettle  = "settle"
	callSweep   = "sweep"
	callStats   = "stats"
	callReady   = "ready"
)

// The results of a call. Sentinels that are no fault of the store, such as queue.ErrNotHeld, are ok.
const (
	resultOK     = "ok"
	resultFull   = "full"
	resultBusy   = "busy"
	resultFailed = "failed"
)

// newMeter measures the calls of a store.
func newMeter(store queue.Queue, r prometheus.Registerer) queue.Queue {
	times := promauto.With(r).NewHistogramVec(telemetry.Histogram(
		"postrider_store_call_duration_seconds", "Time that calls of the store took, by call and result.",
		.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30,
	), []string{"call", "result"})
	m := &meter{store, map[string]map[string]prometheus.Observer{}}
	for _, call := range []string{callEnqueue, callDue, callTake, callSettle, callSweep, callStats, callReady} {
		m.calls[call] = map[string]prometheus.Observer{}
		for _, result := range []string{resultOK, resultFull, resultBusy, resultFailed} {
			m.calls[call][result] = times.WithLabelValues(call, result)
		}
	}
	return m
}

// ended counts a call. One that its caller cancelled says nothing of the store.
func (m *meter) ended(ctx context.Context, call string, began time.Time, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	m.calls[call][resultOf(err)].Observe(time.Since(began).Seconds())
}

func resultOf(err error) string {
	switch {
	case err == nil, errors.Is(err, queue.ErrNotHeld), errors.Is(err, queue.ErrIdempotencyMismatch):
		return resultOK
	case errors.Is(err, queue.ErrFull):
		return resultFull
	case errors.Is(err, queue.ErrBusy):
		return resultBusy
	}
	return resultFailed
}

// Enqueue implements queue.Intake.
func (m *meter) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	began := time.Now()
	receipt, err := m.Queue.Enqueue(ctx, s)
	m.ended(ctx, callEnqueue, began, err)
	return receipt, err
}

// Due implements queue.Lanes.
func (m *meter) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	began := time.Now()
	offer, err := m.Queue.Due(ctx, want)
	m.ended(ctx, callDue, began, err)
	return offer, err
}

// Take implements queue.Lanes.
func (m *meter) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	began := time.Now()
	turns, err := m.Queue.Take(ctx, leases, n)
	m.ended(ctx, callTake, began, err)
	return turns, err
}

// Settle implements queue.Lanes.
func (m *meter) Settle(ctx context.Context, lease lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	began := time.Now()
	next, err := m.Queue.Settle(ctx, lease, s, n)
	m.ended(ctx, callSettle, began, err)
	return next, err
}

// Sweep implements queue.Lanes.
func (m *meter) Sweep(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	next, err := m.Queue.Sweep(ctx)
	m.ended(ctx, callSweep, began, err)
	return next, err
}

// Stats implements queue.Watching.
func (m *meter) Stats(ctx context.Context) (queue.Stats, error) {
	began := time.Now()
	stats, err := m.Queue.Stats(ctx)
	m.ended(ctx, callStats, began, err)
	return stats, err
}

// Ready implements queue.Queue.
func (m *meter) Ready(ctx context.Context) error {
	began := time.Now()
	err := m.Queue.Ready(ctx)
	m.ended(ctx, callReady, began, err)
	return err
}
