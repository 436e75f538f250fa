package delivery

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/queue"
)

// TestMetricsAndStats checks that metrics and stats show the same counts.
func TestMetricsAndStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		m := NewMetrics(registry, "go")
		for range 3 {
			m.attempt(OutcomeGone)
		}
		m.inFlight.Add(2)
		want := Stats{InFlight: 2, Attempts: map[Outcome]int64{}, PerSecond: 3. / 60}
		for _, o := range Outcomes {
			want.Attempts[o] = 0
		}
		want.Attempts[OutcomeGone] = 3
		if diff := cmp.Diff(want, m.Stats()); diff != "" {
			t.Error(diff)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		scraped := Stats{Attempts: map[Outcome]int64{}, PerSecond: want.PerSecond}
		for _, f := range families {
			for _, series := range f.GetMetric() {
				switch f.GetName() {
				case "postrider_attempts_total":
					scraped.Attempts[Outcome(series.GetLabel()[0].GetValue())] = int64(series.GetCounter().GetValue())
				case "postrider_attempts_in_flight":
					scraped.InFlight = int(series.GetGauge().GetValue())
				}
			}
		}
		if diff := cmp.Diff(want, scraped); diff != "" {
			t.Errorf("scraped: %s", diff)
		}
	})
}

// TestDeliveryLatency checks that the time from the 202 to the 2xx is counted once for each delivery that arrived, apart for
// those that arrived at once and for those that had to be tried again.
func TestDeliveryLatency(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics := NewMetrics(registry, "go")
	failed := false
	answer := func(req *http.Request) Answer {
		time.Sleep(3 * time.Second)
		switch {
		case req.URL.Host == "gone.example":
			return Answer{Status: http.StatusGone}
		case req.URL.Host == "flaky.example" && !failed:
			failed = true
			return Answer{Status: http.StatusInternalServerError}
		}
		return Answer{Status: http.StatusAccepted}
	}
	measured := func(o *Options) { o.Metrics = metrics }
	pooled(t, answer, measured, func(r *rig) {
		r.submit("https://app.example/1", "k", queue.Normal, time.Hour, "good.example", "flaky.example", "gone.example")
		time.Sleep(10 * time.Minute)
	})
	arrived := map[string]int64{}
	for i, n := range metrics.Arrived() {
		if n > 0 {
			arrived[queue.SumArrived(i)] += n
		}
	}
	if diff := cmp.Diff(map[string]int64{"arrived:5000": 1, "arrived:30000": 1}, arrived); diff != "" {
		t.Errorf("arrived (-want +got):\n%s", diff)
	}
	if n, sum := latencies(t, registry, "first"); n != 1 || sum < 3 || sum > 4 {
		t.Errorf("%d deliveries arrived at the first attempt, in %v s together; one is expected, in 3 s", n, sum)
	}
	if n, sum := latencies(t, registry, "later"); n != 1 || sum < 3+15+3 || sum > 60 {
		t.Errorf("%d deliveries arrived later, in %v s together; one is expected, after one retry", n, sum)
	}
}

// latencies returns how many deliveries that arrived at such an attempt were counted, and the sum of their times in seconds.
func latencies(t *testing.T, registry *prometheus.Registry, attempt string) (n uint64, sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			if f.GetName() == "postrider_delivery_latency_seconds" && series.GetLabel()[0].GetValue() == attempt {
				n += series.GetHistogram().GetSampleCount()
				sum += series.GetHistogram().GetSampleSum()
			}
		}
	}
	return n, sum
}
