package handlers

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProfiles checks that each kind of profile is what its tool reads.
func TestProfiles(t *testing.T) {
	g := newRig(t)
	for target, holds := range map[string]string{ // after unpacking
		"profile?seconds=1": "samples", "trace?seconds=1": "trace\x00", "heap": "inuse_space", "goroutine": "goroutine",
		"goroutine?debug=2": "handlers.TestProfiles",
	} {
		rec := g.do("GET", "/debug/pprof/"+target, "")
		wantStatus(t, rec, 200)
		if got := unpacked(t, rec); !strings.Contains(got, holds) {
			t.Errorf("%s holds no %q, but begins with %.40q", target, holds, got)
		}
		if got := rec.Header().Get("Content-Type"); got != profileType {
			t.Errorf("%s is %s", target, got)
		}
	}
}

// unpacked returns the body of an answer, which profiles pack.
func unpacked(t *testing.T, rec *httptest.ResponseRecorder) string {
	t.Helper()
	packed, err := gzip.NewReader(bytes.NewReader(rec.Body.Bytes()))
	if err != nil {
		return rec.Body.String()
	}
	text, err := io.ReadAll(packed)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestProfileFaults(t *testing.T) {
	g := newRig(t)
	for target, want := range map[string]int{
		"cmdline": 404, "symbol": 404, "nothing": 404, "profile?seconds=0": 422, "trace?seconds=501": 422, "profile?seconds=x": 422,
		"heap?debug=3": 422, "heap?gc=1": 400,
	} {
		wantProblem(t, g.do("GET", "/debug/pprof/"+target, ""), want)
	}
	wantProblem(t, g.do("GET", "/debug/pprof/heap", "", "Sec-Fetch-Site", "cross-site"), 403)
	wantStatus(t, g.do("GET", "/debug/pprof/heap", "", "Sec-Fetch-Site", "same-origin"), 200)
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	wantProblem(t, g.do("GET", "/debug/pprof/profile", ""), 409)
}

// TestRecordingIsBounded checks that a recording ends when it is large, long before its time.
func TestRecordingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		out := newRecording()
		fill := func(w io.Writer) error {
			for range 2 {
				if _, err := w.Write(make([]byte, maxRecording/2+1)); err != nil {
					t.Error(err)
				}
			}
			return nil
		}
		stopped := false
		err := out.record(t.Context(), &query{}, 500, fill, func() { stopped = true })
		if took := time.Since(began); err != nil || !stopped || took > 0 {
			t.Errorf("it ended after %s, stopped: %t, %v", took, stopped, err)
		}
	})
}
