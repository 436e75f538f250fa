package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testpostgres"
)

// The span of the app that makes the calls, and how it names that.
const (
	appTrace = "0af7651916cd43dd8448eb211c80319c"
	appSpan  = "b7ad6b7169203331"
	appNames = "00-" + appTrace + "-" + appSpan + "-01"
)

// collector is a collector of spans, by OTLP/HTTP.
type collector struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	spans    []*tracepb.Span     // guarded by mu
	services map[string]struct{} // that sent any; guarded by mu
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t, services: map[string]struct{}{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// environ returns the variables that make a process export to the collector.
func (c *collector) environ(service string) []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_SERVICE_NAME=" + service, "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20secret",
		"OTEL_BSP_SCHEDULE_DELAY=3600000", // so that all of it is exported when the node stops
	}
}

// ServeHTTP implements http.Handler.
func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent tracepb.TracesData // it has the same form as an ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Authorization") != "Bearer secret" || proto.Unmarshal(body, &sent) != nil {
		c.t.Errorf("%s %s with %v, %v", r.Method, r.URL, r.Header, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range sent.GetResourceSpans() {
		c.services[texts(of.GetResource().GetAttributes())["service.name"]] = struct{}{}
		for _, s := range of.GetScopeSpans() {
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
}

// texts returns attributes as text.
func texts(attributes []*commonpb.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_IntValue:
			all[a.GetKey()] = fmt.Sprint(v.IntValue)
		case *commonpb.AnyValue_StringValue:
			all[a.GetKey()] = v.StringValue
		}
	}
	return all
}

// tree returns a line for each span of the app's trace: its parent's name, its own, and what came of it.
func (c *collector) tree() (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := map[string]string{appSpan: "app"}
	for _, s := range c.spans {
		names[fmt.Sprintf("%x", s.GetSpanId())] = s.GetName()
	}
	for _, s := range c.spans {
		if got := fmt.Sprintf("%x", s.GetTraceId()); got != appTrace {
			c.t.Errorf("span %s is in the trace %s", s.GetName(), got)
		}
		about := texts(s.GetAttributes())
		var events []string
		for _, e := range s.GetEvents() {
			events = append(events, e.GetName())
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s > %s %s %s %s %s",
			names[fmt.Sprintf("%x", s.GetParentSpanId())], s.GetName(), about["server.address"], about["postrider.attempt"],
			about["http.response.status_code"], strings.Join(append([]string{about["postrider.outcome"]}, events...), " "))))
	}
	slices.Sort(lines)
	return lines
}

// TestTraces checks that one trace shows an activity from the app's span to the answer of each inbox: the call at one node,
// and the attempts at another, after the first has stopped.
func TestTraces(t *testing.T) {
	onBothStores(t, func(t *testing.T, s store) {
		far := startCollector(t)
		var tries sync.Map
		h := startHosts(t, 3, func(i int) testinbox.Options {
			return scripted(func(testinbox.Request) testinbox.Reply {
				_, again := tries.LoadOrStore(i, true)
				switch {
				case i == 1 && !again:
					return testinbox.Reply{Status: http.StatusServiceUnavailable}
				case i == 2:
					return testinbox.Reply{Status: http.StatusGone}
				}
				return testinbox.Reply{}
			})
		})
		taker := newTestNode(t, true, append(s[:len(s):len(s)], "--deliver=false"))
		taker.Environ = far.environ("taker")
		taker.begin()
		call := submission{activity: like("traced"), inboxes: h.urls()}
		accepted := read[acceptedView](taker, http.StatusAccepted, taker.Call(http.MethodPost, "/v1/activities", call.String(), "traceparent", appNames))
		taker.Stop()

		worker := newTestNode(t, true, append(s[:len(s):len(s)], "--log-level", "debug"))
		worker.Dir = taker.Dir
		worker.Environ = far.environ("worker")
		worker.begin()
		if got := worker.settled(accepted); got != (countsView{Total: 3, Delivered: 2, Dead: 1}) {
			t.Errorf("counts %+v", got)
		}
		metrics := worker.Call(http.MethodGet, "/metrics", "", "Accept", "application/openmetrics-text").Body
		if !strings.Contains(metrics, `# {trace_id="`+appTrace+`"}`) {
			t.Errorf("no exemplar names the trace")
		}
		worker.Stop()

		const steps = "connect.start connect.done connection request.written first_byte"
		var want []string
		for _, line := range []struct{ host, rest string }{
			{h.Host(0), "1 202 delivered"}, {h.Host(1), "1 503 server_error"}, {h.Host(1), "2 202 delivered"}, {h.Host(2), "1 410 gone"},
		} {
			address, _, _ := strings.Cut(line.host, ":")
			want = append(want, fmt.Sprintf("POST /v1/activities > deliver %s %s %s", address, line.rest, steps))
		}
		want[2] = strings.Replace(want[2], "connect.start connect.done ", "", 1) // the connection was kept
		want = append(want, "app > POST /v1/activities   202")
		slices.Sort(want)
		if diff := cmp.Diff(want, far.tree()); diff != "" {
			t.Errorf("spans (-want +got):\n%s", diff)
		}
		far.mu.Lock()
		defer far.mu.Unlock()
		if got := slices.Sorted(maps.Keys(far.services)); !slices.Equal(got, []string{"taker", "worker"}) {
			t.Errorf("services %v", got)
		}
		if n := strings.Count(worker.Out.String(), `"trace_id":"`+appTrace+`"`); n != 4 {
			t.Errorf("%d lines of the log name the trace, want 4", n)
		}
		for _, in := range h.inboxes {
			for _, r := range in.Received() {
				for name := range r.Header {
					if lower := strings.ToLower(name); strings.Contains(lower, "trace") || lower == "baggage" {
						t.Errorf("an inbox got the header %s", name)
					}
				}
			}
		}
	})
}

// TestTraceOfOutbox checks that a row of an outbox names the span of the app that inserted it, and that the trace leads from
// there to the answer of the inbox. A batch is the call of a relay, so it has a trace of its own.
func TestTraceOfOutbox(t *testing.T) {
	t.Parallel()
	far := startCollector(t)
	h := startHosts(t, 1, fine)
	database := testpostgres.Start(t).Database()
	if code, out, said := harness.RunOnce(t, nil, "relay", "--install=apply", "--database-url", database); code != 0 {
		t.Fatalf("install: %d, %s%s", code, out, said)
	}
	node := newTestNode(t, true, nil)
	node.Environ = append(far.environ("node"), "OTEL_TRACES_SAMPLER=parentbased_always_off") // which drops the batches' own
	node.begin()
	startRelay(t, database, node)
	call := strings.TrimSuffix(submission{activity: like("traced"), inboxes: h.urls()}.String(), "}") + `,"traceparent":"` + appNames + `"}`
	if _, err := testpostgres.Connect(t, database).Exec(t.Context(), "INSERT INTO postrider_outbox (call) VALUES ($1)", call); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the row arrives", func() bool { return h.count() == 1 })
	node.Stop()
	address, _, _ := strings.Cut(h.Host(0), ":")
	want := []string{
		"app > create", "create > deliver " + address + " 1 202 delivered connect.start connect.done connection request.written first_byte",
	}
	if diff := cmp.Diff(want, far.tree()); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// TestNoTraces checks that nothing is exported unless the variables ask for it, and that a trace is kept all the same.
func TestNoTraces(t *testing.T) {
	t.Parallel()
	far := startCollector(t)
	h := startHosts(t, 1, fine)
	for _, environ := range [][]string{
		{"OTEL_SERVICE_NAME=x", "OTEL_TRACES_SAMPLER=always_on"},
		append(far.environ("x"), "OTEL_SDK_DISABLED=true"),
		append(far.environ("x"), "OTEL_TRACES_EXPORTER=none"),
		append(far.environ("x"), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
	} {
		n := newTestNode(t, true, []string{"--log-level", "debug"})
		n.Environ = environ
		n.begin()
		call := submission{activity: like("untraced"), inboxes: h.urls()}
		n.settled(read[acceptedView](n, http.StatusAccepted, n.Call(http.MethodPost, "/v1/activities", call.String(), "traceparent", appNames)))
		n.Stop()
		if !strings.Contains(n.Out.String(), `"trace_id":"`+appTrace+`"`) {
			t.Errorf("with %v the log does not name the caller's trace", environ)
		}
		if off := strings.Contains(n.Out.String(), "traces.off"); off != strings.Contains(environ[len(environ)-1], "grpc") {
			t.Errorf("with %v the log has a line that traces are off: %t", environ, off)
		}
	}
	if got := far.tree(); len(got) > 0 {
		t.Errorf("exported: %s", got)
	}
}

// TestCollectorAway checks that a collector that is away or does not answer costs no delivery anything, nor the end of the node.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	asked := make(chan struct{}, 1000)
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(released) })
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	h := startHosts(t, 1, fine)
	const activities = 100
	for name, url := range map[string]string{"hangs": hanging.URL, "away": away.URL} {
		n := newTestNode(t, true, nil)
		n.Environ = []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + url, "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_QUEUE_SIZE=8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=4",
			"OTEL_BSP_EXPORT_TIMEOUT=2000",
		}
		n.begin()
		for i := range activities {
			n.settled(n.deliver(like(fmt.Sprint(name, i)), h.Inbox(0, "/inbox")))
		}
		if name == "hangs" {
			<-asked
		}
		harness.Eventually(t, "a line that spans are lost", func() bool { return strings.Contains(n.Out.String(), `"traces.failed","kind":"export"`) })
		n.Stop()
	}
	if got := h.count(); got != 2*activities {
		t.Errorf("%d requests came, want %d", got, 2*activities)
	}
}
