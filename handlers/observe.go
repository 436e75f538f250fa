package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
)

// visit is what is known of a request while it is served. Only its own goroutine uses it.
type visit struct {
	route   string // method and path as the table of routes has them, "" before one is reached
	token   string // the name of the bearer token
	scopes  scopes // what the token allows
	trusted bool   // it has a token, or none is needed
	err     error  // why the answer is a 5xx
}

type visitKey struct{}

// visitOf returns the request's visit: every request has one, from observe.
func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) }

const (
	stuckAfter = 10 * time.Second // a client that takes nothing of its answer for so long is cut off
	writeAtOne = 64 << 10         // bytes of an answer that a client has to take in that time
)

// recorder is the writer of every answer. It remembers the status that was sent, and bounds how long each write takes.
type recorder struct {
	http.ResponseWriter
	status int
}

// hurry lets the connection be written to for a time from now on. A writer without deadlines, as in tests, has none.
func (rec *recorder) hurry(most time.Duration) {
	_ = http.NewResponseController(rec.ResponseWriter).SetWriteDeadline(time.Now().Add(most))
}

// Write sends a part of the answer, piece by piece.
func (rec *recorder) Write(text []byte) (written int, err error) {
	rec.status = cmp.Or(rec.status, http.StatusOK)
	for {
		piece := text[written:min(len(text), written+writeAtOne)]
		rec.hurry(stuckAfter)
		n, err := rec.ResponseWriter.Write(piece)
		written += n
		if err != nil || written == len(text) {
			return written, err
		}
	}
}

// FlushError sends what is buffered, for http.ResponseController.
func (rec *recorder) FlushError() error {
	rec.hurry(stuckAfter)
	return http.NewResponseController(rec.ResponseWriter).Flush()
}

// WriteHeader notes the status.
func (rec *recorder) WriteHeader(status int) {
	rec.status = status
	rec.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what is beneath.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// observe is outermost: headers for every answer, one log line for every request, its metrics, and a 500 for a panic.
func (s *server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		v := &visit{}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		rec.hurry(bodyTimeout + stuckAfter) // the deadline of an earlier answer on the connection has passed
		setSecurityHeaders(w.Header())
		defer s.logVisit(r, rec, start)
		defer s.Metrics.request(v, rec, start)
		defer s.rescue(rec, r)
		next.ServeHTTP(rec, r)
	})
}

// setSecurityHeaders sets what every answer has: a page of another origin must not show it, and nothing keeps it.
func setSecurityHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// rescue answers a request whose endpoint panicked.
func (s *server) rescue(rec *recorder, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	s.logPanic(cause, debug.Stack())
	if rec.status == 0 {
		s.fail(rec, r, ownFault())
	}
}

func (s *server) logPanic(cause any, stack []byte) {
	s.Log.Error("http.panic", "cause", fmt.Sprint(cause), "stack", string(stack))
}

// logVisit writes the request's line. The route stands for the path, which may hold names of strangers. Of refusals one
// in a while is an error, the others are for debugging.
func (s *server) logVisit(r *http.Request, rec *recorder, start time.Time) {
	v, level := visitOf(r), slog.LevelDebug
	if v.err == nil && !s.Log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("route", chi.RouteContext(r.Context()).RoutePattern()),
		slog.Int("status", rec.status), slog.Duration("duration", time.Since(start)), slog.String("token", v.token),
	}
	if v.err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.Any("error", v.err))
		if problemOf(v.err).Status == http.StatusServiceUnavailable { // while the store is away every call fails so
			before, open := s.logSampler.Allow(r.Method + chi.RouteContext(r.Context()).RoutePattern())
			if !open {
				level = slog.LevelDebug
			}
			attrs = append(attrs, slog.Int("lines_suppressed", before))
		}
	}
	s.Log.LogAttrs(r.Context(), level, "http.request", attrs...)
}
