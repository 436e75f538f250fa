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
	for _, call := range []string{"enqueue", "due", "take", "settle", "sweep", "stats", "ready"} {
		m.calls[call] = map[string]prometheus.Observer{}
		for _, result := range []string{resultOK, resultFull, resultBusy, resultFailed} {
			m.calls[call][result] = times.WithLabelValues(call, result)
		}
	}
	return m
}

// measure begins a call, and returns the function that counts it when it has ended. A call that its caller cancelled says
// nothing of the store.
func (m *meter) measure(ctx context.Context, call string) func(*error) {
	began := time.Now()
	return func(err *error) {
		if *err == nil || !errors.Is(ctx.Err(), context.Canceled) {
			m.calls[call][resultOf(*err)].Observe(time.Since(began).Seconds())
		}
	}
}

func resultOf(err error) string {
	switch {
	case err == nil, errors.Is(err, queue.ErrNotHeld), errors.Is(err, queue.ErrIdempotencyMismatch):
		return resultOK
	case errors.Is(err, queue.ErrFull):
		return resultFull
	case errors.Is(err, queue.ErrBusy), errors.Is(err, queue.ErrUnderWay):
		return resultBusy
	}
	return resultFailed
}

// Enqueue implements queue.Intake.
func (m *meter) Enqueue(ctx context.Context, s *queue.Submission) (_ queue.Receipt, err error) {
	defer m.measure(ctx, "enqueue")(&err)
	return m.Queue.Enqueue(ctx, s)
}

// Due implements queue.Lanes.
func (m *meter) Due(ctx context.Context, want queue.Want) (_ queue.Offer, err error) {
	defer m.measure(ctx, "due")(&err)
	return m.Queue.Due(ctx, want)
}

// Take implements queue.Lanes.
func (m *meter) Take(ctx context.Context, leases []lockmgr.Lease, n int) (_ []queue.Turn, err error) {
	defer m.measure(ctx, "take")(&err)
	return m.Queue.Take(ctx, leases, n)
}

// Settle implements queue.Lanes.
func (m *meter) Settle(ctx context.Context, lease lockmgr.Lease, s queue.Settlement, n int) (_ []queue.Delivery, err error) {
	defer m.measure(ctx, "settle")(&err)
	return m.Queue.Settle(ctx, lease, s, n)
}

// Sweep implements queue.Lanes.
func (m *meter) Sweep(ctx context.Context) (_ time.Duration, err error) {
	defer m.measure(ctx, "sweep")(&err)
	return m.Queue.Sweep(ctx)
}

// Stats implements queue.Watching.
func (m *meter) Stats(ctx context.Context) (_ queue.Stats, err error) {
	defer m.measure(ctx, "stats")(&err)
	return m.Queue.Stats(ctx)
}

// Ready implements queue.Queue.
func (m *meter) Ready(ctx context.Context) (err error) {
	defer m.measure(ctx, "ready")(&err)
	return m.Queue.Ready(ctx)
}
