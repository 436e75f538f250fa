package handlers

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
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

		"/dashboard/pages/hosts.js": "text/javascript; charset=utf-8",
	} {
		rec := g.do("GET", path, "")
		wantStatus(t, rec, 200)
		if got := rec.Header().Get("Content-Type"); got != contentType || rec.Body.Len() == 0 {
			t.Errorf("%s: %d bytes of %s", path, rec.Body.Len(), got)
		}
	}
	for _, path := range []string{"/v1/stats", "/v1/hosts", "/v1/dead-letters", "/dashboard/", "/dashboard/index.html", "/dashboard/pages/", "/dashboard/../v1/stats", "//"} {
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

// TestDashboardIsWhole: the modules import only files that are served, and each file has a content type.
func TestDashboardIsWhole(t *testing.T) {
	imports := regexp.MustCompile(`(?m)^import .* from '([^']+)';$`)
	for at, a := range dashboard {
		if a.contentType == "" {
			t.Errorf("%s has no content type", at)
		}
		text, err := assets.ReadFile(a.file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range imports.FindAllStringSubmatch(string(text), -1) {
			if wanted := path.Join(path.Dir(at), found[1]); dashboard[wanted].file == "" {
				t.Errorf("%s imports %s, which is not served", at, wanted)
			}
		}
	}
}

// mostBytes is how large the dashboard may be in all.
const mostBytes = 200_000

// TestDashboardIsSmall: everything that the dashboard loads is small, and of its own.
func TestDashboardIsSmall(t *testing.T) {
	g, size := newRig(t), 0
	for at := range dashboard {
		size += g.do("GET", at, "").Body.Len()
	}
	if size > mostBytes {
		t.Errorf("the dashboard has %d bytes, more than %d", size, mostBytes)
	}
}
