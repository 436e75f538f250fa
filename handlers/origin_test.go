package handlers

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// everyRoute returns a method and a path for each route and for each file of the dashboard.
func (g *rig) everyRoute() (targets []string) {
	for _, rt := range g.routes() {
		path := strings.NewReplacer("{id}", anID, "{host}", "one.example", "{problem}", "no-inbox-accepted").Replace(rt.path)
		targets = append(targets, rt.method+" "+path)
	}
	for path := range dashboard {
		targets = append(targets, "GET "+path)
	}
	return append(targets, "GET /no-such-route", "DELETE /v1/keys?key_id=a")
}

// TestForeignHost checks that a node without tokens answers on no route under a name that anybody can make point to it.
func TestForeignHost(t *testing.T) {
	g := newRig(t, func(o *Options) { o.Scrape = http.NotFoundHandler() })
	for _, host := range []string{
		"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[2001:db8::1]:8080",
		"0.0.0.0:8080", "2130706433", "127.1", "localhost.", "[::1%lo]:8080", "",
	} {
		for _, target := range g.everyRoute() {
			method, path, _ := strings.Cut(target, " ")
			p := wantProblem(t, g.do(method, path, "", "Host", host), http.StatusForbidden)
			if len(p.Errors) != 1 || p.Errors[0].Code != codeForeignHost {
				t.Fatalf("%s with Host %q: %+v", target, host, p)
			}
		}
	}
	for _, host := range []string{
		"localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "127.9.8.7:8080", "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]:80",
	} {
		for _, path := range []string{"/", "/healthz", "/readyz", "/v1/stats", "/openapi.json"} {
			wantStatus(t, g.do("GET", path, "", "Host", host), http.StatusOK)
		}
	}
	if got := newRig(t, withTokens).do("GET", "/", "", "Host", "postrider.example"); got.Code != http.StatusOK {
		t.Errorf("with tokens, a name of the operator's own gets %d", got.Code)
	}
}

// TestCrossOrigin checks that a page of another origin changes nothing through the browser of an operator, with a token
// or without, and that the dashboard, apps and links are not in the way.
func TestCrossOrigin(t *testing.T) {
	const secret = "Bearer 0123456789abcdef"
	for name, g := range map[string]*rig{"without tokens": newRig(t), "with tokens": newRig(t, withTokens)} {
		t.Run(name, func(t *testing.T) {
			for _, from := range [][]string{
				{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
				{"Origin", "http://localhost:8081"},
			} {
				for _, target := range g.everyRoute() {
					method, path, _ := strings.Cut(target, " ")
					safe := method == http.MethodGet
					if safe {
						method = http.MethodHead // which ends, unlike a stream of events
					}
					rec := g.do(method, path, "", append(slices.Clone(from), "Authorization", secret, "Host", "localhost:8080")...)
					// A profile changes nothing, but costs: a page elsewhere must not have it taken.
					refused := !safe || strings.HasPrefix(path, profilesPrefix) && from[0] == "Sec-Fetch-Site"
					if refused != (rec.Code == http.StatusForbidden) {
						t.Errorf("%s from %v: %d", target, from, rec.Code)
					}
				}
			}
			if asked := g.queue.asked; slices.Contains(asked, any("cancel "+anID)) {
				t.Error("a page elsewhere cancelled an activity")
			}
			for _, from := range [][]string{
				nil, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}, {"Origin", "http://localhost:8080"},
			} {
				rec := g.do("POST", "/v1/hosts/one.example/pause", "", append(slices.Clone(from), "Authorization", secret, "Host", "localhost:8080")...)
				wantStatus(t, rec, http.StatusOK)
			}
			rec := g.do("POST", "/v1/hosts/one.example/block", "", "Origin", "https://evil.example", "Authorization", secret)
			if p := wantProblem(t, rec, http.StatusForbidden); p.Errors[0].Code != codeCrossOrigin {
				t.Errorf("got %+v", p)
			}
		})
	}
}
