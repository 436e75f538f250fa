package app

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/internal/webhook"
)

// newRegistry returns a registry with what is known of the process before the node works.
func newRegistry(cfg *config.Config) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(registry)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postrider_build_info", Help: "Always 1, with the version of the program.",
	}, []string{"version", "revision", "goversion"}).WithLabelValues(config.BuildVersion(), revision(), runtime.Version()).Set(1)
	limit := func(name, setting string, value float64) { // 0 is no limit
		f.NewGauge(prometheus.GaugeOpts{Name: "postrider_limit_" + name, Help: "The setting " + setting + "."}).Set(value)
	}
	limit("concurrency", "concurrency", float64(cfg.Concurrency))
	limit("host_concurrency", "host-concurrency", float64(cfg.HostConcurrency))
	limit("attempt_timeout_seconds", "attempt-timeout", cfg.AttemptTimeout.Seconds())
	limit("delivery_ttl_seconds", "delivery-ttl", cfg.DeliveryTTL.Seconds())
	limit("dead_letters", "dead-letter-cap", float64(cfg.DeadLetterCap))
	limit("lane_deliveries", "lane-cap", float64(cfg.LaneCap))
	limit("feed_entries", "feed-cap", float64(cfg.FeedCap))
	limit("feed_retention_seconds", "feed-retention", cfg.FeedRetention.Seconds())
	if !cfg.Store.IsRedis() {
		registerRoom(f, cfg.Store.Dir)
	}
	return registry
}

// registerRoom registers how much room the file system of the embedded store has left, where that is known.
func registerRoom(f promauto.Factory, dir string) {
	if _, known := room(dir); !known {
		return
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postrider_store_free_bytes", Help: "Room left on the file system of the embedded store.",
	}, func() float64 {
		free, _ := room(dir)
		return float64(free)
	})
}

// lookupMetrics returns a function that counts look-ups of host names, for resolver.Options.
func lookupMetrics(r prometheus.Registerer) func(resolver.Result, time.Duration) {
	lookups := promauto.With(r).NewHistogramVec(telemetry.Histogram(
		"postrider_name_lookup_duration_seconds", "Time that look-ups of host names took, by result.",
		.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
	), []string{"result"})
	for _, result := range resolver.Results {
		lookups.WithLabelValues(string(result))
	}
	return func(result resolver.Result, took time.Duration) {
		lookups.WithLabelValues(string(result)).Observe(took.Seconds())
	}
}

// webhookMetrics returns the metrics of what this node sends to the webhook.
func webhookMetrics(hook *webhook.Sender) []prometheus.Collector {
	requests := func(result string, read func(webhook.Stats) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "postrider_webhook_requests_total", Help: "Requests to the webhook, by whether the app accepted them.",
			ConstLabels: prometheus.Labels{"result": result},
		}, func() float64 { return float64(read(hook.Stats())) })
	}
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "postrider_webhook_lag_seconds",
			Help: "Age of the oldest entry of the feed that this node tries to send to the webhook, 0 if there is none.",
		}, func() float64 { return hook.Stats().Lag.Seconds() }),
		requests("accepted", func(s webhook.Stats) int64 { return s.Accepted }),
		requests("failed", func(s webhook.Stats) int64 { return s.Failed }),
	}
}
