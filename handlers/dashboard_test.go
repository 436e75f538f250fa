package handlers

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDashboardNeedsNoToken: the page comes to everybody, what it shows does not.
func TestDashboardNeedsNoToken(t *testing.T) {
	g := newRig(t, withTokens)
	for path, contentType := range map[string]string{
		"/":                    "text/html; charset=utf-8",
		"/dashboard/app.js":    "text/javascript; charset=utf-8",
		"/dashboard/style.css": "text/css; charset=utf-8",
		"/dashboard/icon.svg":  "image/svg+xml",
	} {
		rec := g.do("GET", path, "")
		wantStatus(t, rec, 200)
		if got := rec.Header().Get("Content-Type"); got != contentType || rec.Body.Len() == 0 {
			t.Errorf("%s: %d bytes of %s", path, rec.Body.Len(), got)
		}
	}
	for _, path := range []string{"/v1/stats", "/v1/hosts", "/v1/dead-letters", "/dashboard/", "/dashboard/index.html", "/dashboard/../v1/stats", "//"} {
		wantProblem(t, g.do("GET", path, ""), 401)
	}
}

func TestDashboardHeaders(t *testing.T) {
	for path := range dashboard {
		h := newRig(t).do("GET", path, "").Header()
		policy := strings.Split(h.Get("Content-Security-Policy"), "; ")
		want := []string{
			"default-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
			"require-trusted-types-for 'script'", "trusted-types 'none'",
		}
		if diff := cmp.Diff(want, policy); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestDashboardMethods(t *testing.T) {
	g := newRig(t)
	srv := httptest.NewServer(g.handler)
	defer srv.Close()
	for path, a := range dashboard {
		resp, err := http.Head(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		size := strconv.Itoa(g.do("GET", path, "").Body.Len())
		if err := resp.Body.Close(); err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != a.contentType ||
			resp.Header.Get("Content-Length") != size {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
		rec := g.do("POST", path, "")
		wantProblem(t, rec, 405)
		if got := strings.Join(rec.Header().Values("Allow"), ", "); got != "GET, HEAD" {
			t.Errorf("%s: Allow %q", path, got)
		}
	}
}

// TestDashboardIsWhole: every file in the program is served, and the page asks for no other.
func TestDashboardIsWhole(t *testing.T) {
	served := map[string]bool{}
	for path, a := range dashboard {
		served["dashboard/"+a.file] = true
		if path != "/" && path != "/dashboard/"+a.file {
			t.Errorf("%s serves %s", path, a.file)
		}
	}
	err := fs.WalkDir(assets, "dashboard", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !served[path] {
			t.Errorf("%s is not served", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
