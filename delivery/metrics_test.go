package delivery

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsAndStats: what is counted is told by both.
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
