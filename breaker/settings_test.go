package breaker

import (
	"math"
	"testing"
	"time"
)

func TestCoolOff(t *testing.T) {
	tests := []struct {
		name   string
		s      Settings
		jitter float64
		want   []time.Duration
	}{
		{"doubles", Settings{CoolOff: time.Minute, CoolOffMax: 5 * time.Minute}, 0,
			[]time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
		{"jitter adds a tenth", Settings{CoolOff: time.Minute, CoolOffMax: 5 * time.Minute}, 0.5,
			[]time.Duration{63 * time.Second, 126 * time.Second, 252 * time.Second, 315 * time.Second, 315 * time.Second}},
		{"jitter stays below a near cap", Settings{CoolOff: 60 * time.Second, CoolOffMax: 62 * time.Second}, 0.5,
			[]time.Duration{61 * time.Second, 65100 * time.Millisecond}},
		{"cap below the first", Settings{CoolOff: time.Minute, CoolOffMax: time.Second}, 0,
			[]time.Duration{time.Minute, time.Minute}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.Jitter = func() float64 { return tt.jitter }
			for i, want := range tt.want {
				if got := tt.s.coolOff(i + 1); got != want {
					t.Errorf("coolOff(%d) = %v, want %v", i+1, got, want)
				}
			}
			if got := tt.s.coolOff(math.MaxInt32); got < tt.s.CoolOff || got > 2*max(tt.s.CoolOff, tt.s.CoolOffMax) {
				t.Errorf("coolOff after very many trips = %v", got)
			}
		})
	}
}

// TestGapsGrow trips a breaker again and again, as turns do, under the worst jitter: much at first, none later.
func TestGapsGrow(t *testing.T) {
	for _, last := range []time.Duration{61 * time.Second, 100 * time.Second, 121 * time.Second, time.Hour} {
		s := Settings{Threshold: 1, CoolOff: time.Minute, CoolOffMax: last, Window: 1}
		var before time.Duration
		r := Record{}
		for trip := 1; before < last; trip++ {
			s.Jitter = func() float64 { return math.Nextafter(float64(trip%2), 0) } // all but 1, or all but 0
			b := s.Restore(r)
			attempt(t, b, Failed)
			gap, yes := b.Opened()
			if !yes || gap <= before {
				t.Fatalf("max %v, trip %d: waits %v after %v", last, trip, gap, before)
			}
			before, r = gap, b.Record()
		}
	}
}
