package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	factor     = 1.1       // between two native buckets: a quantile is off by 5 % at most
	maxBuckets = 160       // native ones of a series; beyond that they become wider
	resetAfter = time.Hour // how long they stay so at least
)

// Histogram returns the options of a histogram with these upper bounds of its classic buckets and, for scrapers that ask for
// them, native ones. All histograms of the metrics are made so.
func Histogram(name, help string, bounds ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: bounds,
		NativeHistogramBucketFactor:     factor,
		NativeHistogramMaxBucketNumber:  maxBuckets,
		NativeHistogramMinResetDuration: resetAfter,
	}
}
