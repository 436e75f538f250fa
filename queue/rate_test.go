package queue

import (
	"math"
	"testing"
)

func TestRate(t *testing.T) {
	const begin = 1000*minute + 58_000 // in ms
	at := func(second int) int64 { return begin + int64(second)*1000 }
	var r Rate
	if got := r.PerSecond(at(0)); got != 0 {
		t.Errorf("nothing happened, %v per second", got)
	}
	for second := range 100 {
		r.Add(at(second), 3)
	}
	r.Add(at(50), 6) // the clock was set back
	// The latest minute began at 62 s and has 120 events, the one before has 180.
	for second, want := range map[int]float64{62: 5, 92: 3.5, 122: 2, 152: 1, 182: 0, 1e6: 0} {
		if got := r.PerSecond(at(second)); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %d s: %v per second, want %v", second, got, want)
		}
	}
	r.Add(at(122), 60)
	if want := (Rate{Minute: 1003, This: 60, Before: 120}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	r.Add(at(242), 1)
	if want := (Rate{Minute: 1005, This: 1}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
}
