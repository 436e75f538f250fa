package relay

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are a relay's.
type metrics struct {
	rows     *prometheus.CounterVec
	rejected prometheus.Counter
	took     prometheus.Histogram
	oldest   prometheus.Gauge
	refused  prometheus.Gauge
}

// The results of a row, as a label.
const (
	resultAccepted = "accepted"
	resultReplayed = "replayed"
	resultRefused  = "refused"
)

func newMetrics(registry prometheus.Registerer) *metrics {
	f := promauto.With(registry)
	m := &metrics{
		rows: f.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_relay_rows_total",
			Help: "Rows that left the queue: accepted, replayed (the node had them already), or refused.",
		}, []string{"result"}),
		rejected: f.NewCounter(prometheus.CounterOpts{
			Name: "postrider_relay_inboxes_rejected_total", Help: "Inboxes of accepted rows that the node rejected.",
		}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name: "postrider_relay_batch_seconds", Help: "Time from a batch to the end of the node's answer.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30},
		}),
		oldest: f.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_relay_oldest_waiting_seconds", Help: "Age of the oldest row that waits, 0 if there is none.",
		}),
		refused: f.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_relay_refused_rows", Help: "Refused rows in the table.",
		}),
	}
	for _, result := range []string{resultAccepted, resultReplayed, resultRefused} {
		m.rows.WithLabelValues(result)
	}
	return m
}

// count adds the results of a batch.
func (m *metrics) count(all results) {
	m.rows.WithLabelValues(resultAccepted).Add(float64(len(all.accepted) - all.replayed))
	m.rows.WithLabelValues(resultReplayed).Add(float64(all.replayed))
	m.rows.WithLabelValues(resultRefused).Add(float64(len(all.refused)))
	m.rejected.Add(float64(all.rejected))
}

const gaugesSQL = `SELECT
	coalesce((SELECT extract(epoch FROM clock_timestamp() - min(created_at)) FROM postrider_outbox_slots s, LATERAL (
		SELECT created_at FROM postrider_outbox WHERE slot = s.slot AND refused_at IS NULL ORDER BY id LIMIT 1
	) o), 0)::float8,
	(SELECT count(*) FROM postrider_outbox WHERE refused_at IS NOT NULL)`

// measure updates the gauges if that was not done for as long as Poll.
func (w *worker) measure(ctx context.Context) error {
	if !w.measures || time.Since(w.measured) < w.Poll {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	var oldest float64
	var refused int64
	if err := w.conn.QueryRow(ctx, gaugesSQL).Scan(&oldest, &refused); err != nil {
		return wrap("measure the outbox", err)
	}
	w.metrics.oldest.Set(max(oldest, 0))
	w.metrics.refused.Set(float64(refused))
	w.measured = time.Now()
	return nil
}
