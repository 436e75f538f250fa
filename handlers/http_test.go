package handlers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func withTokens(o *Options) {
	o.Tokens = []Token{{Name: "app", Secret: "0123456789abcdef"}, {Name: "ops", Secret: "fedcba9876543210"}}
	o.Scrape = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
}

func TestAuthentication(t *testing.T) {
	g := newRig(t, withTokens)
	for _, auth := range []string{
		"", "Bearer", "Bearer ", "Bearer x", "Basic 0123456789abcdef", "0123456789abcdef", "Bearer 0123456789abcde",
		"Bearer 0123456789abcdef0", "Bearer 0123456789ABCDEF", "Bearer app", "Bearer 0123456789abcdef fedcba9876543210",
	} {
		for _, path := range []string{"/v1/stats", "/v1/keys", "/metrics", "/v1/nothing", "/dashboard", "/dashboard/", "/healthz/", "//healthz", "/openapi.json/x"} {
			rec := g.do("GET", path, "", "Authorization", auth)
			wantProblem(t, rec, 401)
			if !strings.HasPrefix(rec.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%q: no challenge", auth)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
		wantStatus(t, g.do("GET", path, ""), 200)
	}
	for _, auth := range []string{"Bearer 0123456789abcdef", "bearer fedcba9876543210", "Bearer  0123456789abcdef"} {
		wantStatus(t, g.do("GET", "/v1/stats", "", "Authorization", auth), 200)
		wantStatus(t, g.do("GET", "/metrics", "", "Authorization", auth), 200)
	}
	if log := g.log.String(); !strings.Contains(log, "token=ops") || strings.Contains(log, "fedcba9876543210") {
		t.Errorf("the log must hold names of tokens and no secrets:\n%s", log)
	}
}

func TestUnknownRoutes(t *testing.T) {
	g := newRig(t)
	for _, path := range []string{"/v1", "/v1/", "/v1/keys/", "/v2/keys", "/v1/activities/" + anID + "/x", "/v1/hosts/a/b", "/metrics", "/..%2f"} {
		wantProblem(t, g.do("GET", path, ""), 404)
	}
	tests := map[string]string{
		"PATCH /v1/keys":              "GET, HEAD, PUT, DELETE",
		"PUT /v1/activities":          "GET, HEAD, POST",
		"DELETE /v1/feed":             "GET, HEAD",
		"POST /v1/activities/" + anID: "GET, HEAD, DELETE",
		"OPTIONS /v1/hosts/a%2Fb":     "GET, HEAD",
		"POST /healthz":               "GET, HEAD",
		"TRACE /openapi.json":         "GET, HEAD",
		"PROPFIND /v1/stats":          "GET, HEAD",
	}
	for target, allow := range tests {
		method, path, _ := strings.Cut(target, " ")
		rec := g.do(method, path, "")
		wantProblem(t, rec, 405)
		if got := strings.Join(rec.Header().Values("Allow"), ", "); got != allow {
			t.Errorf("%s: Allow %q, want %q", target, got, allow)
		}
	}
}

func TestHead(t *testing.T) {
	srv := httptest.NewServer(newRig(t, withTokens).handler)
	defer srv.Close()
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
		resp, err := http.Head(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	g := newRig(t)
	for _, path := range []string{"/healthz", "/v1/hosts", "/nothing"} {
		h := g.do("GET", path, "", "Origin", "https://evil.example").Header()
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	body := call(anActivity, aKey, anInbox)
	for _, good := range []string{
		"application/json", "application/json; charset=utf-8", "Application/JSON", "application/activity+json",
		`application/ld+json; profile="https://www.w3.org/ns/activitystreams"`,
	} {
		wantStatus(t, newRig(t).do("POST", "/v1/activities", body, "Content-Type", "", "Content-Type", good), 202)
	}
	for _, bad := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json", "application/json5", "text/plain, application/json"} {
		wantProblem(t, newRig(t).do("POST", "/v1/activities", body, "Content-Type", "", "Content-Type", bad), 415)
	}
	wantProblem(t, newRig(t).do("POST", "/v1/activities", body, "Content-Type", ""), 415)
	wantProblem(t, newRig(t).do("POST", "/v1/activities", body, "Content-Encoding", "gzip"), 415)
	wantProblem(t, newRig(t).do("POST", "/v1/activities", "", "Content-Type", "application/json"), 400)
}

func TestSizes(t *testing.T) {
	activity := func(n int) string {
		const frame = `{"id":"a","type":"Note","x":""}`
		return call(`"activity":{"id":"a","type":"Note","x":"`+strings.Repeat("x", n-len(frame))+`"}`, aKey, anInbox)
	}
	wantStatus(t, newRig(t).do("POST", "/v1/activities", activity(maxActivity)), 202)
	wantProblem(t, newRig(t).do("POST", "/v1/activities", activity(maxActivity+1)), 413)
	inboxes := make([]string, maxRecipients)
	for i := range inboxes {
		inboxes[i] = `"https://one.example/inbox"`
	}
	wantStatus(t, newRig(t).do("POST", "/v1/activities", call(anActivity, aKey, `"inboxes":[`+strings.Join(inboxes, ",")+`]`)), 202)
}

func TestPanic(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Scrape = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a secret of ours") })
	})
	p := wantProblem(t, g.do("GET", "/metrics", ""), 500)
	if strings.Contains(p.Detail, "secret") || !strings.Contains(g.log.String(), "a secret of ours") {
		t.Errorf("answer %+v, log %s", p, g.log)
	}
}

func TestAbort(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Scrape = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("got %v", err)
		}
	}()
	g.do("GET", "/metrics", "")
}

// TestReadyTellsTheReason checks that a stranger gets a word, and a caller with a token, or on a node without, the error.
func TestReadyTellsTheReason(t *testing.T) {
	away := func(o *Options) {
		o.Ready = func(context.Context) (string, error) { return "store", errors.New("dial tcp 10.0.0.7:6379: refused") }
	}
	const inside = "10.0.0.7"
	g := newRig(t, withTokens, away)
	for _, auth := range []string{"", "Bearer wrong", "Basic 0123456789abcdef"} {
		rec := g.do("GET", "/readyz", "", "Authorization", auth)
		p := wantProblem(t, rec, 503)
		if p.Detail != "store" || p.Reason != "store" || rec.Header().Get("Retry-After") == "" || strings.Contains(rec.Body.String(), inside) {
			t.Errorf("with %q: %s", auth, rec.Body)
		}
	}
	for _, rec := range []*httptest.ResponseRecorder{
		g.do("GET", "/readyz", "", "Authorization", "Bearer 0123456789abcdef"), newRig(t, away).do("GET", "/readyz", ""),
	} {
		if p := wantProblem(t, rec, 503); p.Reason != "store" || !strings.Contains(p.Detail, inside) {
			t.Errorf("a trusted caller gets %s", rec.Body)
		}
	}
}

func TestRequiredOptions(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New took options without a queue")
		}
	}()
	New(Options{})
}
