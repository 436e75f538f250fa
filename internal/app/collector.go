package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/queue"
)

// notReadyReasons are the reasons that node.ready gives.
var notReadyReasons = []string{"store", "pool", "names"}

// collector shows a store's totals, and whether the node is ready, as metrics.
type collector struct {
	store   queue.Watching
	ready   func(context.Context) (reason string, err error)
	metrics map[string]*prometheus.Desc
}

// newCollector returns the metrics of a whole store, read at each scrape, and whether the node is ready. While the store is
// unavailable there are none of the store.
func newCollector(store queue.Watching, ready func(context.Context) (string, error)) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("postrider_"+name, help, labels, nil)
	}
	return &collector{
		store: store, ready: ready,
		metrics: map[string]*prometheus.Desc{
			"unready":    desc("not_ready", "1 for the reason why the node is not ready, as /readyz gives it.", "reason"),
			"pending":    desc("deliveries_pending", "Deliveries that are pending."),
			"dead":       desc("dead_letters", "Dead letters kept."),
			"activities": desc("activities", "Activities kept, finished ones included."),
			"oldest":     desc("oldest_pending_seconds", "Age of the oldest pending delivery."),
			"due":        desc("oldest_due_seconds", "For how long the host has waited for a node that waits the longest, of those that are due and do not fail."),
			"hosts":      desc("hosts", "Hosts known, by state.", "state"),
			"delivered":  desc("deliveries_delivered_total", "Deliveries delivered since the store was made."),
			"died":       desc("dead_letters_made_total", "Deliveries that became dead letters since the store was made, by reason.", "reason"),
			"dropped":    desc("dead_letters_dropped_total", "Dead letters dropped since the store was made because there were too many."),
		},
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.metrics {
		ch <- d
	}
}

// scrapeTimeout keeps a scrape from hanging on a store that is unavailable.
const scrapeTimeout = 5 * time.Second

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.metrics[name], prometheus.GaugeValue, v, labels...)
	}
	why, unready := c.ready(ctx)
	for _, reason := range notReadyReasons {
		v := 0.0
		if unready != nil && reason == why {
			v = 1
		}
		gauge("unready", v, reason)
	}
	s, err := c.store.Stats(ctx)
	if err != nil {
		return
	}
	gauge("pending", float64(s.Pending))
	gauge("dead", float64(s.Dead))
	gauge("activities", float64(s.Activities))
	gauge("oldest", age(s.OldestPendingAt))
	gauge("due", age(s.OldestDueAt))
	for _, state := range queue.HostStates {
		gauge("hosts", float64(s.Hosts[state]), string(state))
	}
	count := func(name string, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.metrics[name], prometheus.CounterValue, float64(n), labels...)
	}
	count("delivered", s.Delivered)
	for _, reason := range queue.Reasons {
		count("died", s.Died[reason], string(reason))
	}
	count("dropped", s.Dropped)
}

// age returns how many seconds ago a time was; 0 if there is none, or if it is ahead of this node's clock.
func age(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, time.Since(at).Seconds())
}
