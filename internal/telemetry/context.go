package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	traceIDLength = 16
	parentLength  = traceIDLength + 8 + 1 // the trace's ID, the span's and the flags
	maxTraceState = 512
)

// RemoteTrace returns the place in a trace that a request names by traceparent and tracestate, invalid if it names none.
// SPEC: W3C Trace Context, 3.3.1.5: "Vendors SHOULD propagate at least 512 characters of a combined header." A longer
// tracestate is dropped.
func RemoteTrace(h http.Header) trace.SpanContext {
	if h["Traceparent"] == nil {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(h))
	sc := trace.SpanContextFromContext(ctx)
	if len(sc.TraceState().String()) > maxTraceState {
		sc = sc.WithTraceState(trace.TraceState{})
	}
	return sc
}

// PackTrace returns a place in a trace in the form that is stored with an activity, or nil if it is invalid: 25 bytes, and
// the tracestate.
func PackTrace(sc trace.SpanContext) []byte {
	if !sc.IsValid() {
		return nil
	}
	traceID, spanID := sc.TraceID(), sc.SpanID()
	state := sc.TraceState().String()
	packed := make([]byte, 0, parentLength+len(state))
	packed = append(append(packed, traceID[:]...), spanID[:]...)
	packed = append(packed, byte(sc.TraceFlags()))
	return append(packed, state...)
}

// UnpackTrace returns what PackTrace packed, as the place of a remote parent. It is invalid for any other bytes.
func UnpackTrace(packed []byte) trace.SpanContext {
	if len(packed) < parentLength {
		return trace.SpanContext{}
	}
	state, _ := trace.ParseTraceState(string(packed[parentLength:])) // it is empty after an error
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    trace.TraceID(packed[:traceIDLength]),
		SpanID:     trace.SpanID(packed[traceIDLength : parentLength-1]),
		TraceFlags: trace.TraceFlags(packed[parentLength-1]),
		TraceState: state,
		Remote:     true,
	})
}

// TraceID returns the ID of the trace that packed bytes are of, as logs and tools write it, or "" if there is none.
func TraceID(packed []byte) string {
	if len(packed) < parentLength {
		return ""
	}
	return trace.TraceID(packed[:traceIDLength]).String()
}
