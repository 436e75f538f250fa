package telemetry

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestBothKinds checks that a histogram has the classic buckets asked for and native ones beside them, whose number is bounded.
func TestBothKinds(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := prometheus.NewHistogram(Histogram("seconds", "Time.", 1, 60))
	registry.MustRegister(h)
	for v := 1e-9; v < 1e9; v *= 1.2 {
		h.Observe(v)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := families[0].GetMetric()[0].GetHistogram()
	if len(got.GetBucket()) != 2 || got.GetBucket()[1].GetUpperBound() != 60 {
		t.Errorf("classic buckets: %v", got.GetBucket())
	}
	if n := len(got.GetPositiveDelta()); n == 0 || n > maxBuckets {
		t.Errorf("%d native buckets, 1 to %d are expected", n, maxBuckets)
	}
}

// BenchmarkObserve is what one value costs: beside one without native buckets, to see what these add.
func BenchmarkObserve(b *testing.B) {
	both := Histogram("seconds", "Time.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
	classic := prometheus.HistogramOpts{Name: both.Name, Help: both.Help, Buckets: both.Buckets}
	for name, options := range map[string]prometheus.HistogramOpts{"both": both, "classic": classic} {
		b.Run(name, func(b *testing.B) {
			h := prometheus.NewHistogram(options)
			b.ReportAllocs()
			for b.Loop() {
				h.Observe(.2)
			}
		})
	}
}
