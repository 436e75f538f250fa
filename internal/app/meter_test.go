package app

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// brokenStore answers every call that a meter measures with the same error.
type brokenStore struct {
	queue.Queue
	err error
}

func (s *brokenStore) Enqueue(context.Context, *queue.Submission) (r queue.Receipt, err error) {
	return r, s.err
}
func (s *brokenStore) Due(context.Context, queue.Want) (o queue.Offer, err error) { return o, s.err }
func (s *brokenStore) Take(context.Context, []lockmgr.Lease, int) ([]queue.Turn, error) {
	return nil, s.err
}
func (s *brokenStore) Settle(context.Context, lockmgr.Lease, queue.Settlement, int) ([]queue.Delivery, error) {
	return nil, s.err
}
func (s *brokenStore) Sweep(context.Context) (time.Duration, error)      { return 0, s.err }
func (s *brokenStore) Stats(context.Context) (st queue.Stats, err error) { return st, s.err }
func (s *brokenStore) Ready(context.Context) error                       { return s.err }

// TestMeter checks that each measured call is counted once, by what came of it, and returns what the store returned.
func TestMeter(t *testing.T) {
	for _, tt := range []struct {
		err       error
		cancelled bool
		want      string // "": it is not counted
	}{
		{nil, false, resultOK},
		{queue.ErrNotHeld, false, resultOK},
		{queue.ErrIdempotencyMismatch, false, resultOK},
		{fmt.Errorf("%w: disk", queue.ErrFull), false, resultFull},
		{queue.ErrBusy, false, resultBusy},
		{errors.New("connection refused"), false, resultFailed},
		{context.DeadlineExceeded, false, resultFailed},
		{context.Canceled, true, ""},
	} {
		registry := prometheus.NewRegistry()
		m := newMeter(&brokenStore{err: tt.err}, registry)
		ctx, cancel := context.WithCancel(t.Context())
		if tt.cancelled {
			cancel()
		}
		_, enqueued := m.Enqueue(ctx, nil)
		_, due := m.Due(ctx, queue.Want{})
		_, took := m.Take(ctx, nil, 0)
		_, settled := m.Settle(ctx, lockmgr.Lease{}, queue.Settlement{}, 0)
		_, swept := m.Sweep(ctx)
		_, stats := m.Stats(ctx)
		for i, err := range []error{enqueued, due, took, settled, swept, stats, m.Ready(ctx)} {
			if !errors.Is(err, tt.err) || err == nil != (tt.err == nil) {
				t.Errorf("call %d returned %v, the store %v", i, err, tt.err)
			}
		}
		cancel()
		want := map[string]uint64{}
		for _, call := range []string{"enqueue", "due", "take", "settle", "sweep", "stats", "ready"} {
			if tt.want != "" {
				want[call+" "+tt.want] = 1
			}
		}
		if diff := cmp.Diff(want, callsIn(t, registry)); diff != "" {
			t.Errorf("%v: %s", tt.err, diff)
		}
	}
}

// callsIn returns how many calls were counted, by call and result.
func callsIn(t *testing.T, registry *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]uint64{}
	for _, series := range families[0].GetMetric() {
		if n := series.GetHistogram().GetSampleCount(); n > 0 {
			calls[series.GetLabel()[0].GetValue()+" "+series.GetLabel()[1].GetValue()] = n
		}
	}
	return calls
}

// BenchmarkMeter is what measuring adds to a call of the store.
func BenchmarkMeter(b *testing.B) {
	m := newMeter(&brokenStore{}, prometheus.NewRegistry())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Settle(b.Context(), lockmgr.Lease{}, queue.Settlement{}, 0); err != nil {
			b.Fatal(err)
		}
	}
}
