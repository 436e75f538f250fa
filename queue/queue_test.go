package queue_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

func TestSeenPause(t *testing.T) {
	want := []int{10, 10, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600}
	for n, seconds := range want {
		want := time.Duration(seconds) * time.Second
		if got := queue.SeenPause(n); got != want {
			t.Errorf("the pause after %d is %v, want %v", n, got, want)
		}
	}
	for _, n := range []int{-1, 40, 1000, 1 << 40} {
		if got := queue.SeenPause(n); got < 10*time.Second || got > time.Hour {
			t.Errorf("the pause after %d is %v", n, got)
		}
	}
}

func TestProbed(t *testing.T) {
	for _, test := range []struct {
		record queue.HostRecord
		want   bool
	}{
		{queue.HostRecord{}, false},
		{queue.HostRecord{Breaker: breaker.Record{Failed: true, Failures: 9}}, false},
		{queue.HostRecord{Breaker: breaker.Record{State: breaker.Open}}, true},
		{queue.HostRecord{Breaker: breaker.Record{State: breaker.HalfOpen}}, true},
		{queue.HostRecord{Unavailable: true}, true},
	} {
		if got := test.record.Probed(); got != test.want {
			t.Errorf("%+v probed: %v, want %v", test.record, got, test.want)
		}
	}
}

func TestForgiven(t *testing.T) {
	success := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	record := queue.HostRecord{
		Breaker: breaker.Record{State: breaker.Open, Failures: 12, Trips: 2, Window: 3, Days: []int32{1}, Failed: true, LastSuccess: success},
		Scheme:  "cavage", Throttles: 4, Unavailable: true, LastError: &queue.LastAttempt{}, Epoch: 7,
		Doubts: 2, DoubtedAt: success, RefusedAt: success,
	}
	want := queue.HostRecord{Breaker: breaker.Record{Window: 1, LastSuccess: success}, Epoch: 7}
	if diff := cmp.Diff(want, record.Forgiven()); diff != "" {
		t.Errorf("forgiven (-want +got):\n%s", diff)
	}
}

func TestBreakerState(t *testing.T) {
	for _, tt := range []struct {
		stored   breaker.State
		inFlight int
		want     breaker.State
	}{
		{breaker.Closed, 0, breaker.Closed},
		{breaker.Closed, 8, breaker.Closed},
		{breaker.Open, 0, breaker.Open},
		{breaker.Open, 1, breaker.HalfOpen},
		{breaker.HalfOpen, 0, breaker.HalfOpen},
	} {
		h := queue.HostStatus{InFlight: tt.inFlight, Record: queue.HostRecord{Breaker: breaker.Record{State: tt.stored}}}
		if got := h.BreakerState(); got != tt.want {
			t.Errorf("stored %s, %d in flight: %s, want %s", tt.stored, tt.inFlight, got, tt.want)
		}
	}
}
