package handlers

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"

	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
)

// otherRoute is the route of requests that reached none of the API's: of those refused before, and of the dashboard's.
const otherRoute = "other"

// Metrics are what the API counts. Their labels have few values, whatever strangers send.
type Metrics struct {
	activities prometheus.Counter
	deliveries prometheus.Counter
	requests   *prometheus.HistogramVec // by route and status
	feedAges   prometheus.Histogram
}

// NewMetrics registers the API's metrics. With nil they are registered nowhere. The series of a route and a status begins with
// the first such answer, but for that of accepted calls.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	m := &Metrics{
		activities: f.NewCounter(prometheus.CounterOpts{
			Name: "postrider_activities_accepted_total", Help: "Activities accepted by this node; a repeated call counts once.",
		}),
		deliveries: f.NewCounter(prometheus.CounterOpts{
			Name: "postrider_deliveries_accepted_total", Help: "Deliveries accepted by this node, duplicates left out.",
		}),
		requests: f.NewHistogramVec(telemetry.Histogram(
			"postrider_http_request_duration_seconds", "Time from a request to the end of its answer, by route and status.",
			.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30,
		), []string{"route", "status"}),
		feedAges: f.NewHistogram(telemetry.Histogram(
			"postrider_feed_read_age_seconds", "Age of the oldest entry of each page of the feed that was read: how far readers are behind.",
			.1, .5, 1, 5, 15, 60, 300, 1800, 3600, 6*3600, 24*3600, 72*3600,
		)),
	}
	m.requests.WithLabelValues("POST /v1/activities", strconv.Itoa(http.StatusAccepted))
	return m
}

// accepted counts a call that was accepted for the first time.
func (m *Metrics) accepted(deliveries int) {
	m.activities.Inc()
	m.deliveries.Add(float64(deliveries))
}

// Accepted returns how many activities and deliveries the node has accepted.
func (m *Metrics) Accepted() (activities, deliveries int64) {
	return valueOf(m.activities), valueOf(m.deliveries)
}

func valueOf(c prometheus.Counter) int64 {
	var read dto.Metric
	if err := c.Write(&read); err != nil {
		return 0 // it never fails
	}
	return int64(read.GetCounter().GetValue())
}

// request counts a request that was answered.
func (m *Metrics) request(v *visit, rec *recorder, start time.Time) {
	status := strconv.Itoa(cmp.Or(rec.status, http.StatusOK))
	m.requests.WithLabelValues(cmp.Or(v.route, otherRoute), status).Observe(time.Since(start).Seconds())
}

// feedRead counts a page of the feed.
func (m *Metrics) feedRead(entries []queue.Event) {
	if len(entries) > 0 {
		m.feedAges.Observe(max(0, time.Since(entries[0].At).Seconds()))
	}
}
