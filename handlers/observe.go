package handlers

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

// visit is what is known of a request while it is served. Only its own goroutine uses it.
type visit struct {
	token string // the name of the bearer token
	err   error  // why the answer is a 5xx
}

type visitKey struct{}

// visitOf returns the request's visit: every request has one, from observe.
func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) }

// recorder remembers the status that was sent.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status.
func (rec *recorder) WriteHeader(status int) {
	rec.status = status
	rec.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what is beneath.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// observe is outermost: headers for every answer, one log line for every request, and a 500 for a panic.
func (s *server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, rec, v := time.Now(), &recorder{ResponseWriter: w}, &visit{}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		defer s.logVisit(r, rec, start)
		defer s.rescue(rec, r)
		next.ServeHTTP(rec, r)
	})
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
	s.Log.Error("http.panic", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	if rec.status == 0 {
		s.fail(rec, r, &problem{Status: http.StatusInternalServerError, Detail: "a fault of our own; it was logged"})
	}
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
		if rec.status == http.StatusServiceUnavailable { // while the store is away every call is
			before, open := s.seldom.Open(r.Method + chi.RouteContext(r.Context()).RoutePattern())
			if !open {
				level = slog.LevelDebug
			}
			attrs = append(attrs, slog.Int("lines_left_out", before))
		}
	}
	s.Log.LogAttrs(r.Context(), level, "http.request", attrs...)
}

// tokens are the bearer tokens accepted, as digests, so that all are of one length.
type tokens []struct {
	name   string
	digest [sha256.Size]byte
}

func digests(list []Token) tokens {
	ts := make(tokens, len(list))
	for i, t := range list {
		ts[i].name, ts[i].digest = t.Name, sha256.Sum256([]byte(t.Secret))
	}
	return ts
}

// find returns the name of the token with a secret. It compares with all of them, and takes as long for each.
func (ts tokens) find(secret string) (name string, ok bool) {
	digest := sha256.Sum256([]byte(secret))
	for i := range ts {
		if subtle.ConstantTimeCompare(digest[:], ts[i].digest[:]) == 1 {
			name, ok = ts[i].name, true
		}
	}
	return name, ok
}

// open are the routes that need no token, besides the dashboard's.
var open = map[string]bool{"/healthz": true, "/readyz": true, "/openapi.json": true}

// needsToken tells whether a path is for callers with a token only.
func needsToken(path string) bool {
	_, page := dashboard[path]
	return !page && !open[path]
}

// authenticate lets those pass who bring a token, where tokens are set. It comes before routing, so that a stranger
// can't tell which routes there are.
func (s *server) authenticate(next http.Handler) http.Handler {
	if len(s.tokens) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		name, ok := s.tokens.find(strings.TrimSpace(secret))
		switch {
		case ok && strings.EqualFold(scheme, "Bearer"):
			visitOf(r).token = name
		case needsToken(r.URL.Path):
			// SPEC: RFC 6750, section 3: the resource server MUST include the HTTP "WWW-Authenticate" response header field.
			w.Header().Set("WWW-Authenticate", `Bearer realm="postrider"`)
			s.fail(w, r, &problem{Status: http.StatusUnauthorized, Detail: "a bearer token is needed"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
