package delivery

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"

	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
)

// Metrics are what the pool counts. No label names a host: there may be a hundred thousand.
type Metrics struct {
	attempts map[Outcome]*atomic.Int64 // the map itself doesn't change
	inFlight atomic.Int64
	began    time.Time

	mu   sync.Mutex
	rate queue.Rate // of attempts, in ms since began; guarded by mu

	dead        *prometheus.CounterVec // by reason
	breakers    *prometheus.CounterVec // by change
	connections *prometheus.CounterVec // by reused
	duration    prometheus.Histogram
	first       prometheus.Histogram // time from the 202 to the 2xx of deliveries that arrived at their first attempt
	later       prometheus.Histogram // and of the others
}

// NewMetrics registers the pool's metrics, and which back-end signs. All series but that start at 0.
func NewMetrics(r prometheus.Registerer, signing string) *Metrics {
	f := promauto.With(r)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postrider_signing_info", Help: "Always 1, with the back-end that does RSA.",
	}, []string{"backend"}).WithLabelValues(signing).Set(1)
	m := &Metrics{
		began:    time.Now(),
		attempts: map[Outcome]*atomic.Int64{},
		dead: f.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_attempts_dead_total", Help: "Deliveries that an attempt made dead letters, by reason.",
		}, []string{"reason"}),
		breakers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_breaker_changes_total", Help: "Breakers of hosts that opened or closed again.",
		}, []string{"to"}),
		connections: f.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_connections_total", Help: "Answers, by whether the connection had been used before.",
		}, []string{"reused"}),
		duration: f.NewHistogram(telemetry.Histogram(
			"postrider_attempt_duration_seconds", "Time from signing to the end of the answer.",
			.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30,
		)),
	}
	var bounds []float64 // in seconds
	for _, bound := range queue.LatencyBounds {
		bounds = append(bounds, bound.Seconds())
	}
	latency := f.NewHistogramVec(telemetry.Histogram(
		"postrider_delivery_latency_seconds",
		"Time from the 202 for an activity to the 2xx of an inbox, by whether it came at the first attempt that was spent.",
		bounds...,
	), []string{"attempt"})
	m.first = latency.WithLabelValues("first").(prometheus.Histogram)
	m.later = latency.WithLabelValues("later").(prometheus.Histogram)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "postrider_attempts_in_flight", Help: "Attempts in flight."}, func() float64 {
		return float64(m.inFlight.Load())
	})
	for _, o := range Outcomes {
		n := new(atomic.Int64)
		m.attempts[o] = n
		f.NewCounterFunc(prometheus.CounterOpts{
			Name: "postrider_attempts_total", Help: "Attempts that ended, by outcome.",
			ConstLabels: prometheus.Labels{"outcome": string(o)},
		}, func() float64 { return float64(n.Load()) })
	}
	for _, r := range []queue.Reason{
		queue.ReasonRejected, queue.ReasonGone, queue.ReasonExhausted, queue.ReasonPrivateAddress,
	} {
		m.dead.WithLabelValues(string(r))
	}
	m.breakers.WithLabelValues("opened")
	m.breakers.WithLabelValues("closed")
	m.connections.WithLabelValues("true")
	m.connections.WithLabelValues("false")
	return m
}

// attempt counts an attempt that ended.
func (m *Metrics) attempt(o Outcome) {
	m.attempts[o].Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rate.Add(time.Since(m.began).Milliseconds(), 1)
}

// delivered counts a delivery that arrived, with its trace as an exemplar. A clock of the store that is ahead of the node's counts as no time.
func (m *Metrics) delivered(a *attempt) {
	latency := m.later
	if a.delivery.Attempts == 0 {
		latency = m.first
	}
	arrived := a.began.Add(a.took)
	telemetry.Observe(latency, max(0, arrived.Sub(a.delivery.Activity.CreatedAt).Seconds()), a.spanContext())
}

// Arrived returns how many deliveries arrived, by the buckets of queue.LatencyBounds.
func (m *Metrics) Arrived() (counts [len(queue.LatencyBounds) + 1]int64) {
	for _, latency := range []prometheus.Histogram{m.first, m.later} {
		var read dto.Metric
		if err := latency.Write(&read); err != nil {
			continue // it never fails
		}
		before := uint64(0)
		for i, bucket := range read.GetHistogram().GetBucket() { // each with those before it
			counts[i] += int64(bucket.GetCumulativeCount() - before)
			before = bucket.GetCumulativeCount()
		}
		counts[len(counts)-1] += int64(read.GetHistogram().GetSampleCount() - before)
	}
	return counts
}

// Stats is what a pool did since it was made.
type Stats struct {
	InFlight  int               // attempts
	Attempts  map[Outcome]int64 // that ended
	PerSecond float64           // attempts that ended, over the last minute
}

// Stats returns what is counted. It is safe for concurrent use.
func (m *Metrics) Stats() Stats {
	s := Stats{
		InFlight: int(m.inFlight.Load()), Attempts: make(map[Outcome]int64, len(m.attempts)),
	}
	m.mu.Lock()
	s.PerSecond = m.rate.PerSecond(time.Since(m.began).Milliseconds())
	m.mu.Unlock()
	for o, n := range m.attempts {
		s.Attempts[o] = n.Load()
	}
	return s
}
