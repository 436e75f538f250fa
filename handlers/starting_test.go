package handlers

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestStarting checks what a node says before it can work, to strangers and to callers with a token.
func TestStarting(t *testing.T) {
	why := func() error { return errors.New("the store at 10.0.0.7 is away") }
	ask := func(list []Token, path string, headers ...string) (*httptest.ResponseRecorder, problem) {
		rec, r := httptest.NewRecorder(), newRequest(http.MethodGet, path, nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		Starting(list, why).ServeHTTP(rec, r)
		if rec.Code == http.StatusOK {
			return rec, problem{}
		}
		return rec, decode[problem](t, rec)
	}
	for path, want := range map[string]struct {
		status int
		detail string
	}{
		"/healthz":       {http.StatusOK, ""},
		"/readyz":        {http.StatusServiceUnavailable, why().Error()},
		"/v1/activities": {http.StatusServiceUnavailable, "the node is starting"},
		"/":              {http.StatusServiceUnavailable, "the node is starting"},
	} {
		rec, got := ask(nil, path)
		if rec.Code != want.status || got.Detail != want.detail {
			t.Errorf("%s answers %d %s", path, rec.Code, rec.Body)
		}
		if refused := rec.Code != http.StatusOK; refused != (rec.Header().Get("Retry-After") != "") || refused != (got.Type == "about:blank") {
			t.Errorf("%s answers %v %s", path, rec.Header(), rec.Body)
		}
	}
	list := []Token{{Name: "app", Secret: "0123456789abcdef"}}
	if rec, got := ask(list, "/readyz"); got.Detail != "starting" || got.Reason != "starting" {
		t.Errorf("a stranger gets %s", rec.Body)
	}
	if rec, got := ask(list, "/readyz", "Authorization", "Bearer 0123456789abcdef"); got.Detail != why().Error() {
		t.Errorf("a caller with a token gets %s", rec.Body)
	}
	if rec, _ := ask(list, "/healthz", "Sec-Fetch-Site", "cross-site"); rec.Code != http.StatusOK {
		t.Errorf("a link to /healthz gets %s", rec.Body)
	}
}

// TestSetTokens checks that tokens are taken in place of others while the API serves.
func TestSetTokens(t *testing.T) {
	g := newRig(t, withTokens)
	status := func(secret string) int {
		return g.do(http.MethodGet, "/v1/stats", "", "Authorization", "Bearer "+secret).Code
	}
	const old, renewed = "0123456789abcdef", "a-new-secret-0123"
	g.server.setTokens([]Token{{Name: "app", Secret: renewed}})
	if before, after := status(old), status(renewed); before != http.StatusUnauthorized || after != http.StatusOK {
		t.Errorf("the old token gets %d, the new one %d", before, after)
	}
	g.server.setTokens(nil)
	if got := status(""); got != http.StatusOK {
		t.Errorf("without tokens a caller gets %d", got)
	}
}
