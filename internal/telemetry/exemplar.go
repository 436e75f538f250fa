package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Observe adds a value to a histogram. If its trace is sampled, the bucket names it as its exemplar.
func Observe(to prometheus.Observer, value float64, of trace.SpanContext) {
	exemplars, ok := to.(prometheus.ExemplarObserver)
	if !ok || !of.IsSampled() {
		to.Observe(value)
		return
	}
	exemplars.ObserveWithExemplar(value, prometheus.Labels{"trace_id": of.TraceID().String()})
}
