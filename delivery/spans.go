package delivery

import (
	"context"
	"net/http/httptrace"
	"net/url"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
)

// startSpan begins the span of an attempt if the pool makes spans, and returns a context whose requests add events to it.
//
// The span is a child of the call's, not linked to it, however much later it begins. OpenTelemetry's conventions for
// messaging allow that for a message that is processed by itself, and so one trace shows what became of an activity. The
// trace is not sent: its ID would let strangers recognise what an app does at the same time.
func (p *Pool) startSpan(ctx context.Context, d *queue.Delivery) (context.Context, trace.Span) {
	if p.Tracer == nil {
		return ctx, nil
	}
	parent := trace.ContextWithRemoteSpanContext(ctx, telemetry.UnpackTrace(d.Activity.Trace))
	_, span := p.Tracer.Start(parent, "deliver", trace.WithSpanKind(trace.SpanKindClient))
	if !span.IsRecording() {
		return ctx, span
	}
	span.SetAttributes(
		semconv.HTTPRequestMethodPost, semconv.URLFull(d.Inbox),
		attribute.String("postrider.activity.id", d.Activity.ID), attribute.String("postrider.activity.uri", d.Activity.URI),
		attribute.String("postrider.delivery.id", d.ID), attribute.Int("postrider.attempt", d.Attempts+1),
	)
	span.SetAttributes(server(d.Inbox)...)
	return httptrace.WithClientTrace(trace.ContextWithSpan(ctx, span), events(span)), span
}

// server returns the name and the port of the server of a URL.
func server(inbox string) []attribute.KeyValue {
	u, err := url.Parse(inbox)
	if err != nil {
		return nil
	}
	port := 443
	if u.Scheme == "http" {
		port = 80
	}
	if n, err := strconv.Atoi(u.Port()); err == nil {
		port = n
	}
	return []attribute.KeyValue{semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port)}
}

// endSpan ends the attempt's span, if it has one.
func (a *attempt) endSpan() {
	if a.span == nil {
		return
	}
	if a.span.IsRecording() {
		a.describe(a.span)
	}
	a.span.End()
}

// describe sets what came of the attempt. All outcomes but delivered are errors, except where the node cut the attempt off.
func (a *attempt) describe(span trace.Span) {
	span.SetAttributes(attribute.String("postrider.outcome", string(a.outcome)))
	if a.answer.Status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(a.answer.Status))
	}
	if a.scheme != "" {
		span.SetAttributes(attribute.String("postrider.signature_scheme", string(a.scheme)))
	}
	if a.outcome != OutcomeDelivered && a.outcome != OutcomeAborted {
		span.SetAttributes(semconv.ErrorTypeKey.String(string(a.outcome)))
		span.SetStatus(codes.Error, a.record().Error)
	}
}

// spanContext returns the place of the attempt's span in its trace, invalid if it has none.
func (a *attempt) spanContext() trace.SpanContext {
	if a.span == nil {
		return trace.SpanContext{}
	}
	return a.span.SpanContext()
}

// traceID returns the ID of the trace that the attempt belongs to, also if this node makes no spans, or "".
func (a *attempt) traceID() string {
	if sc := a.spanContext(); sc.IsValid() {
		return sc.TraceID().String()
	}
	return telemetry.TraceID(a.delivery.Activity.Trace)
}

// events returns hooks that add an event to a span for each step of a request on its connection. They do not call the
// transport's hooks of look-up and connection: the client has its own, see step.
func events(span trace.Span) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			span.AddEvent("connection", trace.WithAttributes(attribute.Bool("reused", info.Reused)))
		},
		WroteRequest:         func(info httptrace.WroteRequestInfo) { addEvent(span, "request.written", "", "", info.Err) },
		GotFirstResponseByte: func() { span.AddEvent("first_byte") },
	}
}

// step adds an event to the span of ctx, if it has one, for the begin of a step, and returns a function that adds the one for
// its end. Both name what the step is about.
func step(ctx context.Context, name, kind, about string) (done func(error)) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return func(error) {}
	}
	addEvent(span, name+".start", kind, about, nil)
	return func(err error) { addEvent(span, name+".done", kind, about, err) }
}

func addEvent(span trace.Span, name, kind, about string, err error) {
	var attrs []attribute.KeyValue
	if kind != "" {
		attrs = append(attrs, attribute.String(kind, about))
	}
	if err != nil {
		attrs = append(attrs, attribute.String("error", shownError(err)))
	}
	span.AddEvent(name, trace.WithAttributes(attrs...))
}
