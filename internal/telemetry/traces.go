package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/printable"
)

const (
	scope      = "github.com/postrider/postrider"
	longestErr = 400 // characters of an error of the exporter in the log
)

// Traces exports the spans of a node by OTLP. A nil one makes none.
type Traces struct {
	provider *sdktrace.TracerProvider
	exporter *exporter
}

// OpenTraces returns the traces that the standard OTEL_* variables ask for, or nil if they ask for none. A bad value has a
// line in the log, and never stops the node. The SDK reads OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
// and the limits of spans from the environment of the process. Close the traces after use.
//
// Spans wait in a bounded queue. If the collector is away or slow, spans are dropped, and nothing waits for it.
func OpenTraces(variable func(name string) (string, bool), version string, log *slog.Logger) *Traces {
	v := &variables{lookup: variable, log: log}
	if !v.tracesWanted() {
		return nil
	}
	settings, err := v.exporterSettings()
	if err != nil {
		log.Warn("traces.off", "reason", err)
		return nil
	}
	otel.SetErrorHandler(newErrorLog(log))
	about, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("postrider"), semconv.ServiceVersion(version)), resource.WithFromEnv())
	if err != nil {
		log.Warn("traces.setting_ignored", "error", err)
	}
	e := newExporter(settings)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(about), sdktrace.WithBatcher(otlptrace.NewUnstarted(e), v.batching()...),
	)
	log.Info("traces.on", "endpoint", settings.shown())
	return &Traces{provider: provider, exporter: e}
}

// Tracer returns what makes spans, or nil without traces.
func (t *Traces) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer(scope)
}

// Close exports the spans that wait, until ctx ends.
func (t *Traces) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	defer t.exporter.end()
	return t.provider.Shutdown(ctx)
}

// newErrorLog returns a handler of what the SDK complains of: spans that could not be exported and bad values of variables.
func newErrorLog(log *slog.Logger) otel.ErrorHandlerFunc {
	var lines Sampler
	return func(err error) {
		kind := "setting"
		if _, ok := errors.AsType[*exportError](err); ok {
			kind = "export"
		}
		if skipped, ok := lines.Allow(kind); ok {
			log.Warn("traces.failed", "kind", kind, "error", printable.Line(err.Error(), longestErr), "lines_suppressed", skipped)
		}
	}
}

// batching returns how spans are queued and exported.
func (v *variables) batching() []sdktrace.BatchSpanProcessorOption {
	const most = 1 << 20
	queued := v.number("OTEL_BSP_MAX_QUEUE_SIZE", sdktrace.DefaultMaxQueueSize, most)
	atOnce := v.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", sdktrace.DefaultMaxExportBatchSize, most)
	return []sdktrace.BatchSpanProcessorOption{
		sdktrace.WithMaxQueueSize(queued), sdktrace.WithMaxExportBatchSize(min(atOnce, queued)),
		sdktrace.WithBatchTimeout(v.millis("OTEL_BSP_SCHEDULE_DELAY", sdktrace.DefaultScheduleDelay)),
		sdktrace.WithExportTimeout(v.millis("OTEL_BSP_EXPORT_TIMEOUT", sdktrace.DefaultExportTimeout)),
	}
}

func (v *variables) millis(name string, byDefault int) time.Duration {
	return time.Duration(v.number(name, byDefault, int(time.Hour.Milliseconds()))) * time.Millisecond
}
