package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
)

const (
	profileType    = "application/octet-stream"
	profilesPrefix = "/debug/pprof/"
	cpuSeconds     = 30
	traceSeconds   = 1
	maxRecording   = 64 << 20 // bytes, after which a recording ends early
)

// profileBytes is an answer that go tool pprof or go tool trace reads. No profile holds contents of memory or arguments of the
// command line.
type profileBytes []byte

// MarshalJSON shows an example as a string.
func (b profileBytes) MarshalJSON() ([]byte, error) { return []byte(strconv.Quote(string(b))), nil }

// Schema describes it in the OpenAPI document.
func (profileBytes) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "binary"}
}

// getProfile is GET /debug/pprof/{profile}, by the names that go tool pprof uses.
func (s *server) getProfile(r *http.Request, _ []byte) (reply, error) {
	q := queryOf(r)
	debug := oneOf(q, "debug", []string{"1", "2"})
	if q.err != nil {
		return reply{}, q.err
	}
	if !ownRequest(r) {
		return reply{}, forbidden("a web page of another origin must not take profiles",
			flaw{codeCrossOrigin, "is another origin"}.at("header.Sec-Fetch-Site"))
	}
	out := newRecording()
	var err error
	switch name := chi.URLParam(r, "profile"); name {
	case "profile":
		err = out.record(r.Context(), q, cpuSeconds, pprof.StartCPUProfile, pprof.StopCPUProfile)
	case "trace":
		err = out.record(r.Context(), q, traceSeconds, trace.Start, trace.Stop)
	default:
		err = writeProfile(out, name, debug)
	}
	return reply{Status: http.StatusOK, Body: profileBytes(out.Bytes())}, err
}

// ownRequest reports whether no web page of another origin had a browser make a request. Other clients do not say.
func ownRequest(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}

// recording is what was recorded so far.
type recording struct {
	bytes.Buffer
	full chan struct{} // receives once it is large
}

func newRecording() *recording { return &recording{full: make(chan struct{}, 1)} }

// Write implements io.Writer.
func (rec *recording) Write(part []byte) (int, error) {
	if rec.Len()+len(part) > maxRecording {
		select {
		case rec.full <- struct{}{}:
		default:
		}
	}
	return rec.Buffer.Write(part)
}

// record records for as long as the query says, until it is large, or until ctx ends. Two of a kind cannot be recorded at one
// time.
func (rec *recording) record(ctx context.Context, q *query, seconds int, start func(io.Writer) error, stop func()) error {
	if seconds = q.number("seconds", seconds, maxLimit); q.err != nil {
		return q.err
	}
	if err := start(rec); err != nil {
		return &problem{Status: http.StatusConflict, Detail: "such a profile is being recorded just now"}
	}
	defer stop()
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
		return nil
	case <-rec.full:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeProfile writes one of the runtime's profiles: as text, if a level of debug is given.
func writeProfile(out io.Writer, name, debug string) error {
	profile := pprof.Lookup(name)
	if profile == nil {
		return &problem{Status: http.StatusNotFound, Detail: "there is no such profile"}
	}
	level := 0
	if debug != "" {
		level = int(debug[0] - '0')
	}
	if err := profile.WriteTo(out, level); err != nil {
		return errors.Join(ownFault(), fmt.Errorf("write the profile %s: %w", name, err))
	}
	return nil
}
