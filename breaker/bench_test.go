package breaker

import (
	"testing"
	"time"
)

func BenchmarkRestore(b *testing.B) {
	s := Settings{Threshold: 10, CoolOff: time.Minute, CoolOffMax: time.Hour, Window: 8, UnavailableDays: 7}
	for name, r := range map[string]Record{
		"healthy": {Window: 8, LastSuccess: time.Now()},
		"failing": {Failures: 4, Failed: true},
		"open":    {State: Open, Failures: 10, Trips: 1, Failed: true},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Restore(r)
			}
		})
	}
}

func BenchmarkAttempt(b *testing.B) {
	breaker := Settings{Threshold: 10, Window: 8}.Restore(Record{})
	b.ReportAllocs()
	for b.Loop() {
		p, _ := breaker.Allow()
		p.Done(Alive)
	}
}

// TestHealthyIsCheap holds the promise that a healthy host is restored without the detour over JSON, which takes some
// thirty allocations more.
func TestHealthyIsCheap(t *testing.T) {
	r := Record{Window: 8, LastSuccess: time.Now()}
	if n := testing.AllocsPerRun(100, func() { rules.Restore(r) }); n > 10 {
		t.Errorf("%v allocations", n)
	}
}
