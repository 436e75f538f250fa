package handlers

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// fill puts values into the path of a route.
func fill(path string) string {
	return strings.NewReplacer("{id}", anID, "{host}", "one.example", "{problem}", "no-inbox-accepted").Replace(path)
}

// TestUnknownParameters: no route ignores a query parameter that it does not know, or a query that can't be read.
func TestUnknownParameters(t *testing.T) {
	g := newRig(t, func(o *Options) { o.Scrape = http.NotFoundHandler() })
	for _, rt := range g.routes() {
		methods := []string{rt.method}
		if rt.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		for _, method := range methods {
			for query, want := range map[string]fault{
				"hots=one.example&limitt=5": {Location: "query.hots", Code: codeUnknownParameter},
				"Limit=5":                   {Location: "query.Limit", Code: codeUnknownParameter},
				"=x":                        {Location: "query.", Code: codeUnknownParameter},
				"host%00=x":                 {Location: "query.?", Code: codeUnknownParameter},
				"host=a;reason=gone":        {Location: "query", Code: codeMalformed},
				"host=%zz":                  {Location: "query", Code: codeMalformed},
			} {
				p := wantProblem(t, g.do(method, fill(rt.path)+"?"+query, rt.example), 400)
				if len(p.Errors) == 0 || p.Errors[0].Location != want.Location || p.Errors[0].Code != want.Code {
					t.Errorf("%s %s?%s: %+v", method, rt.path, query, p.Errors)
				}
				if strings.Contains(query, "hots") && !strings.Contains(p.Detail, "hots, limitt") {
					t.Errorf("%s %s: %s names no parameter", method, rt.path, p.Detail)
				}
			}
		}
	}
	if len(g.queue.asked)+len(g.queue.submissions) > 0 {
		t.Errorf("the store was asked for %v", g.queue.asked)
	}
}

// TestRepeatedParameters: of two values for one parameter none is left out in silence.
func TestRepeatedParameters(t *testing.T) {
	g := newRig(t)
	repeated := 0
	for _, rt := range g.routes() {
		for _, p := range rt.params {
			if p.in != "query" || p.list {
				continue
			}
			repeated++
			query := url.Values{p.name: {"1", "2"}}.Encode()
			if p := wantProblem(t, g.do(rt.method, fill(rt.path)+"?"+query, rt.example), 422); p.Errors[0].Code != codeRepeated {
				t.Errorf("%s %s?%s: %+v", rt.method, rt.path, query, p.Errors)
			}
		}
	}
	if repeated < 10 {
		t.Errorf("%d parameters tried", repeated)
	}
}

// TestUnknownMembers: no call ignores a member of its body that it does not know, also where it has no body at all.
func TestUnknownMembers(t *testing.T) {
	g := newRig(t)
	calls := 0
	for _, rt := range g.routes() {
		if rt.method == http.MethodGet || rt.media != "" {
			continue
		}
		calls++
		path := fill(rt.path)
		if path == "/v1/keys" && rt.method == "DELETE" {
			path += "?key_id=x"
		}
		p := wantProblem(t, g.do(rt.method, path, `{"dryrun":true}`), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != "body.dryrun" || p.Errors[0].Code != codeUnknownMember {
			t.Errorf("%s %s: %+v", rt.method, path, p.Errors)
		}
		wantProblem(t, g.do(rt.method, path, `[]`), 400)
	}
	if len(g.queue.asked) > 0 || calls < 10 {
		t.Errorf("%d calls; the store was asked for %v", calls, g.queue.asked)
	}
	wantStatus(t, g.do("POST", "/v1/hosts/one.example/pause", `{}`), 200)
	wantProblem(t, g.do("POST", "/v1/hosts/one.example/pause", `{}`, "Content-Type", "", "Content-Type", "text/plain"), 415)
	wantProblem(t, g.do("POST", "/v1/hosts/one.example/resume", strings.Repeat(" ", maxNoBody+1)), 413)
}
