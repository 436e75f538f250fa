package delivery

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	var r rate
	begin := time.Date(2030, 1, 2, 3, 4, 58, 0, time.UTC)
	at := func(second int) time.Time { return begin.Add(time.Duration(second) * time.Second) }
	if got := r.perSecond(at(0)); got != 0 {
		t.Errorf("nothing happened, %v per second", got)
	}
	for second := range 100 {
		for range 3 {
			r.add(at(second))
		}
	}
	for second, want := range map[int]float64{99: 3, 100: 2.95, 129: 1.5} {
		r := rate{latest: r.latest, seconds: r.seconds}
		if got := r.perSecond(at(second)); got != want {
			t.Errorf("after %d s: %v per second, want %v", second, got, want)
		}
	}
	r.add(at(90)) // the clock was set back
	if got := r.perSecond(at(99)); got != 181.0/60 {
		t.Errorf("%v per second", got)
	}
	if got := r.perSecond(at(159)); got != 0 {
		t.Errorf("a minute later %v per second", got)
	}
	if got := r.perSecond(at(1e9)); got != 0 {
		t.Errorf("years later %v per second", got)
	}
}
