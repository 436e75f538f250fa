package handlers

import (
	"net/http"
	"strings"
	"testing"
)

// TestScopes checks for each route which scope lets a token call it, and that no other one does.
func TestScopes(t *testing.T) {
	all := []Scope{ScopeSend, ScopeRead, ScopeOperate, ScopeMetrics}
	g := newRig(t, func(o *Options) {
		o.Scrape = http.NotFoundHandler()
		for _, scope := range all {
			o.Tokens = append(o.Tokens, Token{Name: string(scope), Secret: "secret-of-" + string(scope), Scopes: []Scope{scope}})
		}
		o.Tokens = append(o.Tokens, Token{Name: "all", Secret: "secret-of-everything"},
			Token{Name: "both", Secret: "secret-of-two-scopes", Scopes: []Scope{ScopeRead, ScopeMetrics}})
	})
	refused := func(rt route, secret string) bool {
		path := strings.NewReplacer("{id}", anID, "{host}", "one.example").Replace(rt.path)
		rec := g.do(rt.method, path+"?unknown=1", "", "Authorization", "Bearer "+secret)
		return rec.Code == http.StatusForbidden && strings.Contains(rec.Body.String(), `"missing_scope"`)
	}
	want := map[string]Scope{
		"PUT /v1/keys": ScopeSend, "POST /v1/activities": ScopeSend, "POST /v1/activities/batch": ScopeSend,
		"DELETE /v1/activities/{id}": ScopeSend, "POST /v1/activities/cancel": ScopeSend, "GET /v1/activities/{id}": ScopeRead,
		"GET /v1/keys": ScopeRead, "GET /v1/feed": ScopeRead, "GET /v1/events": ScopeRead, "GET /v1/stats": ScopeRead, "GET /v1/nodes": ScopeRead,
		"POST /v1/hosts/{host}/block": ScopeOperate, "POST /v1/hosts/reset": ScopeOperate, "POST /v1/dead-letters/retry": ScopeOperate,
		"DELETE /v1/dead-letters": ScopeOperate, "GET /debug/pprof/{profile}": ScopeOperate, "GET /metrics": ScopeMetrics, "GET /healthz": "", "GET /openapi.json": "",
	}
	for _, rt := range g.routes() {
		needed := rt.scope()
		if scope, listed := want[rt.method+" "+rt.path]; listed && scope != needed {
			t.Errorf("%s %s needs the scope %q, want %q", rt.method, rt.path, needed, scope)
		}
		if rt.path == problemRoute {
			continue
		}
		for _, scope := range all {
			if got := refused(rt, "secret-of-"+string(scope)); got != (needed != "" && scope != needed) {
				t.Errorf("%s %s by a token for %s: refused %t", rt.method, rt.path, scope, got)
			}
		}
		if refused(rt, "secret-of-everything") {
			t.Errorf("%s %s is refused for a token without scopes", rt.method, rt.path)
		}
		if got := refused(rt, "secret-of-two-scopes"); got != (needed == ScopeSend || needed == ScopeOperate) {
			t.Errorf("%s %s by a token for reading and metrics: refused %t", rt.method, rt.path, got)
		}
	}
	rec := g.do("HEAD", "/v1/stats", "", "Authorization", "Bearer secret-of-send")
	if rec.Code != http.StatusForbidden {
		t.Errorf("HEAD by a token for sending: %d", rec.Code)
	}
}
