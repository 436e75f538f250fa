package handlers

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/telemetry"
)

const (
	callerTrace = "0af7651916cd43dd8448eb211c80319c"
	callerSpan  = "b7ad6b7169203331"
	callerNames = "00-" + callerTrace + "-" + callerSpan + "-01"
)

// newTraced returns a rig that makes spans, and what records them.
func newTraced(t *testing.T) (*rig, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
	return newRig(t, func(o *Options) { o.Tracer = tracer }), spans
}

// attributes returns a span's attributes as text.
func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// TestCallSpan checks that a call has a span below the caller's, which is the place of its activity in the trace.
func TestCallSpan(t *testing.T) {
	g, spans := newTraced(t)
	wantStatus(t, g.do("POST", "/v1/activities", call(anActivity, aKey, anInbox), "traceparent", callerNames, "tracestate", "rojo=1", "User-Agent", "app"), 202)
	s := spans.Ended()[0]
	if s.Name() != "POST /v1/activities" || s.SpanKind() != trace.SpanKindServer || s.Parent().SpanID().String() != callerSpan || s.SpanContext().TraceID().String() != callerTrace {
		t.Errorf("%s span %s below %s in %s", s.SpanKind(), s.Name(), s.Parent().SpanID(), s.SpanContext().TraceID())
	}
	sub := g.queue.submissions[0]
	if got := telemetry.UnpackTrace(sub.Trace); got.SpanID() != s.SpanContext().SpanID() || got.TraceID() != s.SpanContext().TraceID() || !got.IsSampled() || got.TraceState().String() != "rojo=1" {
		t.Errorf("stored is %+v", got)
	}
	want := map[string]string{
		"http.request.method": "POST", "http.route": "/v1/activities", "url.path": "/v1/activities", "url.scheme": "http", "user_agent.original": "app",
		"http.response.status_code": "202", "postrider.activity.id": sub.ID, "postrider.activity.uri": sub.URI, "postrider.activity.type": sub.Type,
		"postrider.accepted": "1", "postrider.duplicates": "0", "postrider.rejected": "0",
	}
	if diff := gocmp.Diff(want, attributes(s)); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

// TestFailedCallSpans checks that a fault of ours is an error of the span, and one of the caller's is not.
func TestFailedCallSpans(t *testing.T) {
	g, spans := newTraced(t)
	wantStatus(t, g.do("POST", "/v1/activities", `{}`), 422)
	g.queue.err = errors.New("the store is away")
	wantStatus(t, g.do("POST", "/v1/activities", call(anActivity, aKey, anInbox)), 503)
	for i, want := range []string{"422 Unset ", "503 Error 503"} {
		s := spans.Ended()[i]
		all := attributes(s)
		if got := all["http.response.status_code"] + " " + s.Status().Code.String() + " " + all["error.type"]; got != want {
			t.Errorf("span %q, want %q", got, want)
		}
		if s.Parent().IsValid() {
			t.Errorf("a span is below %s", s.Parent().SpanID())
		}
	}
}

// TestOtherCallsHaveNoSpan checks that only the routes that take activities make spans.
func TestOtherCallsHaveNoSpan(t *testing.T) {
	g, spans := newTraced(t)
	for _, path := range []string{"/healthz", "/v1/activities", "/v1/hosts"} {
		g.do("GET", path, "")
	}
	if n := len(spans.Ended()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

// TestBatchSpans checks that each line of a batch has a span of its own below the batch's, which its activity is stored with.
func TestBatchSpans(t *testing.T) {
	g, spans := newTraced(t)
	g.answers(t, []string{post1("a", inbox1, "k"), "no JSON", post1("b", inbox2, "l")}, "traceparent", callerNames)
	ended := spans.Ended()
	batch := ended[len(ended)-1]
	if batch.Name() != "POST /v1/activities/batch" || batch.Parent().SpanID().String() != callerSpan {
		t.Errorf("the last span is %s below %s", batch.Name(), batch.Parent().SpanID())
	}
	stored := map[string]string{} // by span
	for _, sub := range g.queue.submissions {
		stored[telemetry.UnpackTrace(sub.Trace).SpanID().String()] = sub.URI
	}
	var got []string
	for _, s := range ended[:len(ended)-1] {
		if s.Name() != "create" || s.SpanKind() != trace.SpanKindProducer || s.Parent().SpanID() != batch.SpanContext().SpanID() {
			t.Errorf("%s span %s below %s", s.SpanKind(), s.Name(), s.Parent().SpanID())
		}
		uri := attributes(s)["postrider.activity.uri"]
		if uri != stored[s.SpanContext().SpanID().String()] {
			t.Errorf("the span of %q is stored with %q", uri, stored[s.SpanContext().SpanID().String()])
		}
		got = append(got, cmp.Or(uri, s.Status().Code.String()+" "+attributes(s)["error.type"]))
	}
	slices.Sort(got)
	if diff := gocmp.Diff([]string{"Error 400", "a", "b"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestTraceIsStoredWithoutSpans checks that a node that makes no spans keeps the caller's trace for those that do, and keeps
// nothing where the caller names none.
func TestTraceIsStoredWithoutSpans(t *testing.T) {
	g := newRig(t)
	calls := map[string]func(headers ...string){
		"call": func(headers ...string) {
			wantStatus(t, g.do("POST", "/v1/activities", call(anActivity, aKey, anInbox), headers...), 202)
		},
		"batch": func(headers ...string) { g.answers(t, []string{post1("a", inbox1, "k")}, headers...) },
	}
	for name, make := range calls {
		for _, c := range []struct{ header, want string }{{"", ""}, {"nonsense", ""}, {callerNames, callerTrace + callerSpan}} {
			make("traceparent", c.header)
			packed := g.queue.submissions[len(g.queue.submissions)-1].Trace
			got := ""
			if sc := telemetry.UnpackTrace(packed); sc.IsValid() {
				got = sc.TraceID().String() + sc.SpanID().String()
			}
			if got != c.want || c.want == "" && packed != nil {
				t.Errorf("%s with traceparent %q: stored %q", name, c.header, packed)
			}
		}
	}
}

const otherNames = "00-" + "4bf92f3577b34da6a3ce929d0e0e4736" + "-" + "00f067aa0ba902b7" + "-01"

// tracedCall is a call that names a place in a trace itself.
func tracedCall(names string) string {
	return strings.TrimSuffix(post1("a", inbox1, "k"), "}") + `,"tracestate":"rojo=1","traceparent":` + names + "}"
}

// TestCallNamesTrace checks that a place in a trace that a call names itself wins over that of the request, unless it is
// malformed: with a line of a batch too, and with and without spans.
func TestCallNamesTrace(t *testing.T) {
	spanless := newRig(t)
	spanned, spans := newTraced(t)
	for _, g := range []*rig{spanless, spanned} {
		for _, c := range []struct{ names, want string }{{`"` + callerNames + `"`, callerTrace}, {`"nonsense"`, otherNames[3:35]}, {"null", otherNames[3:35]}} {
			wantStatus(t, g.do("POST", "/v1/activities", tracedCall(c.names), "traceparent", otherNames), 202)
			g.answers(t, []string{tracedCall(c.names)}, "traceparent", otherNames)
			for i, sub := range g.queue.submissions[len(g.queue.submissions)-2:] {
				got := telemetry.UnpackTrace(sub.Trace)
				if state := got.TraceState().String(); got.TraceID().String() != c.want || (state == "rojo=1") != (c.want == callerTrace) {
					t.Errorf("call %d that names %s is stored with %v", i, c.names, got)
				}
			}
		}
		a := g.do("POST", "/v1/activities", tracedCall("1"))
		wantStatus(t, a, 422)
		if !strings.Contains(a.Body.String(), "body.traceparent") {
			t.Errorf("a number is refused with %s", a.Body)
		}
	}
	lines := 0
	for _, s := range spans.Ended() {
		if s.Name() == "create" && s.SpanContext().TraceID().String() == callerTrace {
			lines++
			if s.Parent().SpanID().String() != callerSpan || len(s.Links()) != 1 || s.Links()[0].SpanContext.TraceID().String() != otherNames[3:35] {
				t.Errorf("the span of a line is below %s, with links %v", s.Parent().SpanID(), s.Links())
			}
		}
	}
	if lines != 1 {
		t.Errorf("%d lines have a span in the trace that they name", lines)
	}
}
