package telemetry_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/telemetry"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func headers(parent, state string) http.Header {
	h := http.Header{}
	h.Set("traceparent", parent)
	if state != "" {
		h.Set("tracestate", state)
	}
	return h
}

// TestPackTrace checks that what is stored of a trace is all that the caller sent, and small.
func TestPackTrace(t *testing.T) {
	for state, size := range map[string]int{
		"": 25, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE": 64, "not a state": 25, "k=" + strings.Repeat("x", 256) + ",l=" + strings.Repeat("x", 256): 25,
	} {
		want := telemetry.RemoteTrace(headers(parent, state))
		packed := telemetry.PackTrace(want)
		if got := telemetry.UnpackTrace(packed); !got.Equal(want) || !got.IsRemote() || !got.IsSampled() {
			t.Errorf("tracestate %.20q: %+v is unpacked as %+v", state, want, got)
		}
		if len(packed) != size {
			t.Errorf("tracestate %.20q: packed into %d bytes, want %d", state, len(packed), size)
		}
		if got := telemetry.TraceID(packed); got != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("trace ID %s", got)
		}
	}
}

// TestNoTrace checks that nothing is stored where there is no trace, and that no bytes are unpacked as a wrong one.
func TestNoTrace(t *testing.T) {
	for _, bad := range []string{"", "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01", parent + "-more", "ff" + parent[2:]} {
		if got := telemetry.PackTrace(telemetry.RemoteTrace(headers(bad, ""))); got != nil {
			t.Errorf("traceparent %q is packed as %q", bad, got)
		}
	}
	if got := telemetry.PackTrace(telemetry.RemoteTrace(http.Header{})); got != nil {
		t.Errorf("no traceparent is packed as %q", got)
	}
	for _, bad := range [][]byte{nil, []byte("short"), make([]byte, 25)} {
		if telemetry.UnpackTrace(bad).IsValid() {
			t.Errorf("%q is unpacked as a trace", bad)
		}
	}
	if got := telemetry.TraceID([]byte("short")); got != "" {
		t.Errorf("trace ID %q", got)
	}
}

// TestObserve checks that a value of a sampled trace has an exemplar, and no other.
func TestObserve(t *testing.T) {
	sampled := telemetry.RemoteTrace(headers(parent, ""))
	for _, of := range []trace.SpanContext{{}, sampled.WithTraceFlags(0), sampled} {
		h := prometheus.NewHistogram(telemetry.Histogram("seconds", "Time.", 1, 60))
		telemetry.Observe(h, .5, of)
		var read dto.Metric
		if err := h.Write(&read); err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(read.GetHistogram().GetBucket(), func(b *dto.Bucket) bool { return b.GetExemplar() != nil })
		if got != of.IsSampled() || read.GetHistogram().GetSampleCount() != 1 {
			t.Errorf("%+v: exemplar %t, %d values", of, got, read.GetHistogram().GetSampleCount())
		}
	}
}
