package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/internal/printable"
)

const (
	firstRetry = time.Second
	maxAnswer  = 4 << 10 // bytes of a collector's answer that are read
)

// exporter posts spans by OTLP/HTTP, as protobuf. It implements otlptrace.Client. The SDK's own client for this links gRPC
// too, which would take four times as much of the program and of its memory.
type exporter struct {
	exporterSettings
	client *http.Client
	life   context.Context
	end    context.CancelFunc // ends what is under way
}

// exportError is why spans were not exported: they are lost.
type exportError struct{ error }

func (e *exportError) Unwrap() error { return e.error }

func newExporter(s *exporterSettings) *exporter {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = s.tls
	e := &exporter{exporterSettings: *s, client: &http.Client{Transport: transport, Timeout: s.timeout}}
	e.life, e.end = context.WithCancel(context.Background())
	return e
}

// Start implements otlptrace.Client.
func (e *exporter) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (e *exporter) Stop(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. It tries until ctx ends or the collector refuses the spans.
func (e *exporter) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	// The message ExportTraceServiceRequest has the same one field, but its package links gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return &exportError{err}
	}
	if e.gzip {
		body = compressed(body)
	}
	for pause := firstRetry; ; pause *= 2 {
		again, wait, err := e.post(ctx, body)
		if err == nil {
			return nil
		}
		if !again || !sleep(ctx, max(pause, wait)) {
			return &exportError{err}
		}
	}
}

// sleep waits, and reports whether ctx did not end meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func compressed(body []byte) []byte {
	var small bytes.Buffer
	w := gzip.NewWriter(&small)
	_, _ = w.Write(body) // a buffer takes everything
	_ = w.Close()
	return small.Bytes()
}

// post makes one request. After an error, again reports whether another one may succeed, and wait is how long the collector
// asked to wait.
// SPEC: OTLP/HTTP, Failures: of the errors only 429, 502, 503 and 504 are retryable; without a connection "the client SHOULD
// retry".
func (e *exporter) post(ctx context.Context, body []byte) (again bool, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	for name, values := range e.headers {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	if e.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return true, 0, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what came of it will do
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	if resp.StatusCode <= 299 {
		return false, 0, nil
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0 if it is no number
	wait = time.Duration(seconds) * time.Second
	return again, wait, fmt.Errorf("%s answered %s: %s", e.shown(), resp.Status, printable.Line(string(text), maxText))
}
