package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// reader returns variables of these values, and the log of what is wrong with them.
func reader(values map[string]string) (*variables, *bytes.Buffer) {
	var log bytes.Buffer
	return &variables{
		lookup: func(name string) (string, bool) { v, ok := values[name]; return v, ok },
		log:    slog.New(slog.NewTextHandler(&log, nil)),
	}, &log
}

const (
	endpoint  = "OTEL_EXPORTER_OTLP_ENDPOINT"
	forTrace  = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	exporters = "OTEL_TRACES_EXPORTER"
	protocol  = "OTEL_EXPORTER_OTLP_PROTOCOL"
	disabled  = "OTEL_SDK_DISABLED"
)

// TestTracesWanted checks which variables switch traces on, and where they go.
func TestTracesWanted(t *testing.T) {
	for _, c := range []struct {
		values map[string]string
		want   string // the endpoint, "" if traces are off
		logged string
	}{
		{nil, "", ""},
		{map[string]string{endpoint: "", exporters: ""}, "", ""},
		{map[string]string{"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, "", ""},
		{map[string]string{endpoint: "http://collector:4318"}, "http://collector:4318/v1/traces", ""},
		{map[string]string{endpoint: "https://collector/base/"}, "https://collector/base/v1/traces", ""},
		{map[string]string{forTrace: "https://collector/my/traces"}, "https://collector/my/traces", ""},
		{map[string]string{forTrace: "https://collector"}, "https://collector/", ""},
		{map[string]string{forTrace: "http://one:4318/x", endpoint: "http://two:4318"}, "http://one:4318/x", ""},
		{map[string]string{exporters: "otlp"}, "http://localhost:4318/v1/traces", ""},
		{map[string]string{exporters: "none", endpoint: "http://collector:4318"}, "", ""},
		{map[string]string{disabled: "TRUE", endpoint: "http://collector:4318"}, "", ""},
		{map[string]string{disabled: "no", endpoint: "http://collector:4318"}, "http://collector:4318/v1/traces", ""},
		{map[string]string{exporters: "zipkin"}, "", "OTEL_TRACES_EXPORTER"},
		{map[string]string{endpoint: "http://collector:4318", protocol: "http/protobuf"}, "http://collector:4318/v1/traces", ""},
		{map[string]string{endpoint: "http://collector:4317", protocol: "grpc"}, "", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not supported: set http/protobuf"},
		{map[string]string{endpoint: "collector:4318"}, "", "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"},
		{map[string]string{endpoint: "http://u:secret@[", forTrace: ""}, "", "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"},
		{map[string]string{endpoint: "http://c", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/none"}, "", "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{map[string]string{endpoint: "http://c", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/none"}, "", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
		{map[string]string{endpoint: "http://c/", "OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "http://c/v1/traces", "OTEL_EXPORTER_OTLP_COMPRESSION"},
		{map[string]string{endpoint: "http://u:secret@c/"}, "http://c/v1/traces", ""},
	} {
		v, log := reader(c.values)
		traces := OpenTraces(v.lookup, "1", v.log)
		got := ""
		if traces != nil {
			got = traces.exporter.shown()
			_ = traces.Close(t.Context())
		}
		complaint := log.String()
		if traces != nil {
			complaint = strings.Join(slices.DeleteFunc(strings.Split(complaint, "\n"), func(l string) bool { return strings.Contains(l, "msg=traces.on") }), "\n")
		}
		if got != c.want || strings.Contains(log.String(), "secret") || (c.logged == "") != (strings.TrimSpace(complaint) == "") || !strings.Contains(complaint, c.logged) {
			t.Errorf("%v: endpoint %q, want %q; logged %q, want %q", c.values, got, c.want, complaint, c.logged)
		}
		if (traces.Tracer() != nil) != (c.want != "") {
			t.Errorf("%v: a tracer: %t", c.values, traces.Tracer() != nil)
		}
	}
}

// TestBadValues checks that no value of a variable stops the node, and that each bad one is named in the log.
func TestBadValues(t *testing.T) {
	bad := map[string]string{
		"OTEL_BSP_MAX_QUEUE_SIZE": "-1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "many", "OTEL_BSP_SCHEDULE_DELAY": "5s",
		"OTEL_BSP_EXPORT_TIMEOUT": "0", "OTEL_EXPORTER_OTLP_TIMEOUT": "99999999999999999999",
		"OTEL_EXPORTER_OTLP_HEADERS": "authorization", "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
	}
	v, log := reader(maps.Clone(bad))
	values := maps.Clone(bad)
	values[endpoint] = "http://127.0.0.1:1"
	// The SDK reads these from the process.
	t.Setenv("OTEL_TRACES_SAMPLER", "sometimes")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "no pair")
	v.lookup = func(name string) (string, bool) { text, ok := values[name]; return text, ok }
	traces := OpenTraces(v.lookup, "1", v.log)
	if traces == nil {
		t.Fatalf("traces are off: %s", log)
	}
	ended, end := context.WithCancel(t.Context())
	defer func() { _ = traces.Close(ended) }()
	defer end()
	_, span := traces.Tracer().Start(t.Context(), "span")
	span.End()
	for _, name := range append(slices.Collect(maps.Keys(bad)), "unsupported sampler: sometimes", "no pair") {
		if !strings.Contains(log.String(), name) {
			t.Errorf("the log does not name %s:\n%s", name, log)
		}
	}
}

// collector answers requests as told, and keeps them.
type collector struct {
	answers  []func() (*http.Response, error) // the last one again and again
	requests []*http.Request
	bodies   [][]byte
	at       []time.Time
}

// RoundTrip implements http.RoundTripper.
func (c *collector) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	c.requests = append(c.requests, r)
	c.bodies = append(c.bodies, body)
	c.at = append(c.at, time.Now())
	answer := c.answers[0]
	if len(c.answers) > 1 {
		c.answers = c.answers[1:]
	}
	return answer()
}

func status(code int, headers ...string) func() (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return func() (*http.Response, error) {
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: h, Body: io.NopCloser(strings.NewReader("why\x1b"))}, nil
	}
}

func away() (*http.Response, error) { return nil, errors.New("connection refused") }

var someSpans = []*tracepb.ResourceSpans{{ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{Name: "deliver"}}}}}}

// TestUpload checks what a collector gets, and when it gets it again.
func TestUpload(t *testing.T) {
	for name, c := range map[string]struct {
		answers []func() (*http.Response, error)
		want    []time.Duration // when requests are made
		failed  bool
	}{
		"taken":             {[]func() (*http.Response, error){status(200)}, []time.Duration{0}, false},
		"refused":           {[]func() (*http.Response, error){status(400)}, []time.Duration{0}, true},
		"busy":              {[]func() (*http.Response, error){status(503), status(429, "Retry-After", "4"), status(200)}, []time.Duration{0, time.Second, 5 * time.Second}, false},
		"away":              {[]func() (*http.Response, error){away}, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}, true},
		"asks for too much": {[]func() (*http.Response, error){status(429, "Retry-After", "99999999")}, []time.Duration{0}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, _ := reader(map[string]string{
					endpoint: "http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc, x-two=2",
					"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
				})
				settings, err := v.exporterSettings()
				if err != nil {
					t.Fatal(err)
				}
				e := newExporter(settings)
				defer e.end()
				far := &collector{answers: c.answers}
				e.client.Transport = far
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				began := time.Now()
				err = e.UploadTraces(ctx, someSpans)
				if (err != nil) != c.failed || err != nil && strings.Contains(err.Error(), "\x1b") {
					t.Errorf("error %q, want one: %t", err, c.failed)
				}
				var at []time.Duration
				for _, when := range far.at {
					at = append(at, when.Sub(began))
				}
				if diff := cmp.Diff(c.want, at); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
				far.check(t)
			})
		})
	}
}

// check checks each request.
func (c *collector) check(t *testing.T) {
	t.Helper()
	for i, r := range c.requests {
		if r.URL.String() != "http://collector:4318/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" ||
			r.Header.Get("Authorization") != "Bearer abc" || r.Header.Get("X-Two") != "2" {
			t.Errorf("posted to %s with %v", r.URL, r.Header)
		}
		plain, err := gzip.NewReader(bytes.NewReader(c.bodies[i]))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(plain)
		var got tracepb.TracesData
		if err := proto.Unmarshal(body, &got); err != nil || got.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0].GetName() != "deliver" {
			t.Errorf("posted %v, %v", &got, err)
		}
	}
}

// TestCloseEndsUploads checks that an exporter that is closed waits for no collector.
func TestCloseEndsUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := reader(nil)
		settings, err := v.exporterSettings()
		if err != nil {
			t.Fatal(err)
		}
		e := newExporter(settings)
		e.client.Transport = &collector{answers: []func() (*http.Response, error){away}}
		ended := make(chan error, 1)
		go func() { ended <- e.UploadTraces(context.Background(), someSpans) }()
		synctest.Wait()
		e.end()
		if err := <-ended; err == nil {
			t.Error("spans were exported")
		}
	})
}

// TestFailedExportsInLog checks that a collector that is away for long has a line in a while, and not one for each batch.
func TestFailedExportsInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		handle := newErrorLog(slog.New(slog.NewTextHandler(&log, nil)))
		for range 100 {
			handle(&exportError{errors.New("connection refused")})
		}
		handle(errors.New("unsupported sampler"))
		time.Sleep(Interval)
		handle(&exportError{errors.New("connection refused")})
		if n := strings.Count(log.String(), "\n"); n != 3 || !strings.Contains(log.String(), "lines_suppressed=99") {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
	})
}
