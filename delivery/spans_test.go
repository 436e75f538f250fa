package delivery

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
)

// testCall is the call's span, and testTrace the same as it is stored.
var (
	testCall = trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled, Remote: true,
	})
	testTrace = telemetry.PackTrace(testCall)
)

// TestAttemptSpans checks that each attempt has a span that is a child of the call's and says what came of it, and that the
// log, the metrics and no request name the trace.
func TestAttemptSpans(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	registry := prometheus.NewRegistry()
	var log bytes.Buffer
	answers := []int{503, 202}
	headers := http.Header{}
	answer := func(r *http.Request) Answer {
		for name := range r.Header {
			headers.Add(name, "")
		}
		status := answers[0]
		answers = answers[1:]
		return Answer{Status: status, Excerpt: "maintenance"}
	}
	change := func(o *Options) {
		o.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
		o.Metrics = NewMetrics(registry, "go")
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	pooled(t, answer, change, func(r *rig) {
		r.submitTraced("https://app.example/1", "a.example")
		time.Sleep(time.Hour)
	})
	var got []map[string]string
	for _, s := range spans.Ended() {
		if s.Parent().SpanID() != testCall.SpanID() || s.SpanContext().TraceID() != testCall.TraceID() {
			t.Errorf("a span is a child of %s in %s", s.Parent().SpanID(), s.SpanContext().TraceID())
		}
		about := map[string]string{"name": s.Name(), "kind": s.SpanKind().String(), "status": s.Status().Code.String(), "error": s.Status().Description}
		for _, a := range s.Attributes() {
			about[string(a.Key)] = a.Value.String()
		}
		for _, id := range []string{"postrider.activity.id", "postrider.delivery.id"} {
			if about[id] == "" {
				t.Errorf("a span without %s", id)
			}
			delete(about, id)
		}
		got = append(got, about)
	}
	base := func(attempt, status int, outcome string) map[string]string {
		return map[string]string{
			"name": "deliver", "kind": "client", "status": codes.Unset.String(), "error": "", "http.request.method": "POST",
			"url.full": "https://a.example/inbox", "server.address": "a.example", "server.port": "443",
			"postrider.activity.uri": "https://app.example/1", "postrider.attempt": fmt.Sprint(attempt), "postrider.outcome": outcome,
			"http.response.status_code": fmt.Sprint(status),
		}
	}
	failed, delivered := base(1, 503, "server_error"), base(2, 202, "delivered")
	failed["status"] = codes.Error.String()
	failed["error"], failed["error.type"] = "maintenance", "server_error"
	delivered["postrider.signature_scheme"] = "cavage"
	if diff := cmp.Diff([]map[string]string{failed, delivered}, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if n := strings.Count(log.String(), "trace_id="+testCall.TraceID().String()); n != 2 {
		t.Errorf("%d lines of the log name the trace, want 2:\n%s", n, log.String())
	}
	if got := exemplars(t, registry, "postrider_delivery_latency_seconds"); !slices.Equal(got, []string{testCall.TraceID().String()}) {
		t.Errorf("exemplars %q", got)
	}
	for name := range headers {
		if strings.Contains(strings.ToLower(name), "trace") || strings.EqualFold(name, "Baggage") {
			t.Errorf("the inbox got the header %s", name)
		}
	}
}

// TestTraceInLog checks that the log names the trace of the call where the node makes no spans, and none where there is none.
func TestTraceInLog(t *testing.T) {
	var log bytes.Buffer
	change := func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	pooled(t, func(*http.Request) Answer { return Answer{Status: http.StatusAccepted} }, change, func(r *rig) {
		r.submitTraced("https://app.example/1", "a.example")
		r.submit("https://app.example/2", "2", queue.Normal, time.Hour, "b.example")
		time.Sleep(time.Minute)
	})
	lines := 0
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "msg=delivery.attempt") {
			continue
		}
		lines++
		if !strings.Contains(line, "activity_uri=https://app.example/") {
			t.Errorf("a line without the activity's URI: %s", line)
		}
		want := strings.Contains(line, "a.example")
		if got := strings.Contains(line, "trace_id="+testCall.TraceID().String()); got != want || strings.Contains(line, "trace_id") != want {
			t.Errorf("a trace is named: %t, want %t: %s", got, want, line)
		}
	}
	if lines != 2 {
		t.Errorf("%d lines, want 2:\n%s", lines, log.String())
	}
}

// TestEvents checks which events a request on a new connection and one on a kept one add to their spans, and that none of
// these is of a connection to a name server.
func TestEvents(t *testing.T) {
	inbox := httptest.NewTLSServer(accept) // its certificate is for example.com
	defer inbox.Close()
	roots := x509.NewCertPool()
	roots.AddCert(inbox.Certificate())
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: roots, Resolver: newResolver(t, []string{"127.0.0.1"})})
	spans := tracetest.NewSpanRecorder()
	p := &Pool{Options: Options{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")}}
	for range 2 {
		d := queue.Delivery{Inbox: "https://example.com:" + portOf(inbox.Listener.Addr()), Activity: &queue.Activity{}}
		ctx, span := p.startSpan(t.Context(), &d)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Inbox, strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Post(req); got.Status != http.StatusAccepted {
			t.Fatalf("%+v", got)
		}
		span.End()
	}
	for i, want := range []string{
		"dns.start dns.done connect.start connect.done tls.start tls.done connection request.written first_byte",
		"connection request.written first_byte",
	} {
		var names []string
		for _, e := range spans.Ended()[i].Events() {
			names = append(names, e.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("request %d: events %s, want %s", i, got, want)
		}
	}
}

// submitTraced submits an activity of testCall.
func (r *rig) submitTraced(uri, host string) {
	r.t.Helper()
	s := &queue.Submission{
		Activity: queue.Activity{
			ID: uuid.Must(uuid.NewV7()).String(), URI: uri, Type: "Create", KeyID: testKey, OrderingKey: uri, Priority: queue.Normal, Body: []byte(uri), Trace: testTrace,
		},
		TTL: 72 * time.Hour, Recipients: []queue.Recipient{{Inbox: "https://" + host + "/inbox", Host: host}},
	}
	if _, err := r.store.Enqueue(r.t.Context(), s); err != nil {
		r.t.Fatal(err)
	}
}

// exemplars returns the traces that a metric names.
func exemplars(t *testing.T, registry *prometheus.Registry, name string) (ids []string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, b := range m.GetHistogram().GetBucket() {
				for _, label := range b.GetExemplar().GetLabel() {
					if f.GetName() == name && label.GetName() == "trace_id" {
						ids = append(ids, label.GetValue())
					}
				}
			}
		}
	}
	return ids
}
