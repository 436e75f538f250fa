package handlers

import (
	"cmp"
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
)

// traced makes a span for each request to a route that takes activities, if the server makes spans. Its parent is the span
// that the request names.
func (s *server) traced(rt route, next http.Handler) http.Handler {
	if s.Tracer == nil || !rt.traced {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := trace.ContextWithRemoteSpanContext(r.Context(), telemetry.RemoteTrace(r.Header))
		ctx, span := s.Tracer.Start(ctx, rt.method+" "+rt.path, trace.WithSpanKind(trace.SpanKindServer))
		defer endCall(span, w, visitOf(r))
		if span.IsRecording() {
			span.SetAttributes(
				semconv.HTTPRequestMethodKey.String(r.Method), semconv.HTTPRoute(rt.path), semconv.URLPath(r.URL.Path),
				semconv.URLScheme(schemeOf(r)), semconv.UserAgentOriginal(r.UserAgent()),
			)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// endCall ends the span of a request. Without an answer the endpoint panicked.
// SPEC: OpenTelemetry, HTTP spans: "For HTTP status codes in the 4xx range span status MUST be left unset in case of
// SpanKind.SERVER".
func endCall(span trace.Span, w http.ResponseWriter, v *visit) {
	defer span.End()
	rec, ok := w.(*recorder)
	if !ok || !span.IsRecording() {
		return
	}
	status := cmp.Or(rec.status, http.StatusInternalServerError)
	span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	if status < http.StatusInternalServerError {
		return
	}
	span.SetAttributes(semconv.ErrorTypeKey.Int(status))
	text := ""
	if v.err != nil {
		text = v.err.Error()
	}
	span.SetStatus(otelcodes.Error, text)
}

// traceOf returns the place in a trace of what a request sends: the span of the call or, where this node makes none, the one
// that the request names, as other nodes may make spans.
func traceOf(r *http.Request) trace.SpanContext {
	if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
		return sc
	}
	return telemetry.RemoteTrace(r.Header)
}

// trace returns the place in a trace that the call itself names, as a header of its own would, invalid if it names none.
func (c *activityCall) trace() trace.SpanContext {
	if c.TraceParent == "" {
		return trace.SpanContext{}
	}
	return telemetry.RemoteTrace(http.Header{"Traceparent": {c.TraceParent}, "Tracestate": {c.TraceState}})
}

// traceLine stores a line's place in a trace with its activity: a span of its own, of which its attempts are children, or
// its parent if the server makes no spans. The parent is what the line names, and the span is linked to the batch in ctx; a
// line that names none has the batch as its parent. The function that is returned ends the span.
// SPEC: OpenTelemetry, messaging spans: where messages are published in batches, each has a span "Create", of kind PRODUCER.
func (s *server) traceLine(ctx context.Context, l *line) (end func()) {
	named := l.named()
	if s.Tracer == nil {
		if !named.IsValid() {
			l.setTrace(trace.SpanContextFromContext(ctx))
		}
		return func() {}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer)}
	if named.IsValid() {
		options = append(options, trace.WithLinks(trace.LinkFromContext(ctx)))
		ctx = trace.ContextWithRemoteSpanContext(ctx, named)
	}
	_, span := s.Tracer.Start(ctx, "create", options...)
	l.setTrace(span.SpanContext())
	return func() {
		if l.err != nil {
			span.SetAttributes(semconv.ErrorTypeKey.Int(problemOf(l.err).Status))
			span.SetStatus(otelcodes.Error, "")
		} else {
			describe(span, &l.draft.submission.Activity, l.answer.AcceptedView)
		}
		span.End()
	}
}

// named returns the place in a trace that the line names.
func (l *line) named() trace.SpanContext {
	if l.draft == nil {
		return trace.SpanContext{}
	}
	return telemetry.UnpackTrace(l.draft.submission.Trace)
}

func (l *line) setTrace(sc trace.SpanContext) {
	if l.draft != nil {
		l.draft.submission.Trace = telemetry.PackTrace(sc)
	}
}

// describe sets what a call accepted.
func describe(span trace.Span, a *queue.Activity, answer accepted) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("postrider.activity.id", answer.ID), attribute.String("postrider.activity.uri", answer.ActivityID),
		attribute.String("postrider.activity.type", a.Type), attribute.Int("postrider.accepted", answer.Accepted),
		attribute.Int("postrider.duplicates", answer.Duplicates), attribute.Int("postrider.rejected", len(answer.Rejected)+answer.More),
	)
}
