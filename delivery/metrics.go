package delivery

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/postrider/postrider/queue"
)

// Metrics are what the pool counts. No label names a host: there may be a hundred thousand.
type Metrics struct {
	attempts map[Outcome]*atomic.Int64 // the map itself doesn't change
	inFlight atomic.Int64
	rate     rate

	dead        *prometheus.CounterVec // by reason
	breakers    *prometheus.CounterVec // by change
	connections *prometheus.CounterVec // by reused
	duration    prometheus.Histogram
}

// NewMetrics registers the pool's metrics, and which back-end signs. All series but that start at 0.
func NewMetrics(r prometheus.Registerer, signing string) *Metrics {
	f := promauto.With(r)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postrider_signing_info", Help: "Always 1, with the back-end that does RSA.",
	}, []string{"backend"}).WithLabelValues(signing).Set(1)
	m := &Metrics{
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
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "postrider_attempt_duration_seconds", Help: "Time from signing to the end of the answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
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
	for _, to := range []string{"opened", "closed"} {
		m.breakers.WithLabelValues(to)
	}
	m.connections.WithLabelValues("true")
	m.connections.WithLabelValues("false")
	return m
}

func (m *Metrics) connection(reused bool) {
	m.connections.WithLabelValues(strconv.FormatBool(reused)).Inc()
}

// attempt counts an attempt that ended.
func (m *Metrics) attempt(o Outcome) {
	m.attempts[o].Add(1)
	m.rate.add(time.Now())
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
		PerSecond: m.rate.perSecond(time.Now()),
	}
	for o, n := range m.attempts {
		s.Attempts[o] = n.Load()
	}
	return s
}
