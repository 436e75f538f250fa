package delivery

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/postrider/postrider/queue"
)

// Metrics are what the pool counts. No label names a host: there may be a hundred thousand.
type Metrics struct {
	attempts    *prometheus.CounterVec // by outcome
	dead        *prometheus.CounterVec // by reason
	breakers    *prometheus.CounterVec // by change
	connections *prometheus.CounterVec // by reused
	duration    prometheus.Histogram
	inFlight    prometheus.Gauge
}

// NewMetrics registers the pool's metrics, and which back-end signs. All series but that start at 0.
func NewMetrics(r prometheus.Registerer, signing string) *Metrics {
	f := promauto.With(r)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postrider_signing_info", Help: "Always 1, with the back-end that does RSA.",
	}, []string{"backend"}).WithLabelValues(signing).Set(1)
	m := &Metrics{
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_attempts_total", Help: "Attempts that ended, by outcome.",
		}, []string{"outcome"}),
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
		inFlight: f.NewGauge(prometheus.GaugeOpts{Name: "postrider_attempts_in_flight", Help: "Attempts in flight."}),
	}
	for _, o := range Outcomes {
		m.attempts.WithLabelValues(string(o))
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
