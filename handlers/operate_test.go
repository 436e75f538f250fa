package handlers

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

func TestHostActions(t *testing.T) {
	for _, action := range queue.HostActions {
		g := newRig(t)
		rec := g.do("POST", "/v1/hosts/ONE.example:443/"+string(action), "")
		wantStatus(t, rec, 200)
		if got := decode[hostView](t, rec); got.Host != "one.example" || got.State != "paused" {
			t.Errorf("%s: %+v", action, got)
		}
		if diff := cmp.Diff([]any{"one.example", action, queue.Order{}}, g.queue.asked); diff != "" {
			t.Error(diff)
		}
	}
	g := newRig(t)
	wantStatus(t, g.do("POST", "/v1/hosts/%5B::1%5D:8080/pause", "", "Content-Type", "text/plain"), 200)
	wantProblem(t, g.do("POST", "/v1/hosts/one.example/forget", ""), 404)
	wantProblem(t, g.do("POST", "/v1/hosts/one.example/", ""), 404)
	wantProblem(t, g.do("GET", "/v1/hosts/one.example/pause", ""), 405)
	if p := wantProblem(t, g.do("POST", "/v1/hosts/a%20b/pause", ""), 422); p.Errors[0].Location != "path.host" {
		t.Errorf("got %+v", p.Errors)
	}
	g.queue.err = errAway
	wantProblem(t, g.do("POST", "/v1/hosts/one.example/pause", ""), 503)
}

// TestDeadLetterChoice: both calls mean the same letters, wherever that is said; the body has the last word.
func TestDeadLetterChoice(t *testing.T) {
	one := queue.DeadLetterFilter{Host: "one.example", Reason: queue.ReasonGone, Since: noon.UTC()}
	tests := []struct {
		query, body string
		want        queue.DeadLetterChoice
	}{
		{"", "", queue.DeadLetterChoice{}},
		{"", "{}", queue.DeadLetterChoice{}},
		{"", `{"ids":null,"host":null,"reason":null,"since":null,"dry_run":null}`, queue.DeadLetterChoice{}},
		{"?host=ONE.example:443&reason=gone&since=2026-01-02T11:00:00Z", "", queue.DeadLetterChoice{Filter: one}},
		{"", `{"host":"ONE.example:443","reason":"gone","since":"2026-01-02T11:00:00Z"}`, queue.DeadLetterChoice{Filter: one}},
		{"?host=two.example&reason=gone", `{"host":"one.example","since":"2026-01-02T11:00:00Z"}`, queue.DeadLetterChoice{Filter: one}},
		{"?ids=a,b&ids=c&dry_run=true", "", queue.DeadLetterChoice{IDs: []string{"a", "b", "c"}, DryRun: true}},
		{"?ids=a&dry_run=true", `{"ids":["x","y"],"dry_run":false}`, queue.DeadLetterChoice{IDs: []string{"x", "y"}}},
		{"?reason=lane_full", `{"dry_run":true}`, queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Reason: queue.ReasonLaneFull}, DryRun: true}},
	}
	for _, tt := range tests {
		g := newRig(t)
		rec := g.do("POST", "/v1/dead-letters/retry"+tt.query, tt.body)
		wantStatus(t, rec, 200)
		if want := fmt.Sprintf(`{"matched":3,"retried":2,"superseded":1,"dry_run":%t}`+"\n", tt.want.DryRun); rec.Body.String() != want {
			t.Errorf("got %s, want %s", rec.Body, want)
		}
		rec = g.do("DELETE", "/v1/dead-letters"+tt.query, tt.body)
		wantStatus(t, rec, 200)
		if want := fmt.Sprintf(`{"matched":3,"deleted":3,"dry_run":%t}`+"\n", tt.want.DryRun); rec.Body.String() != want {
			t.Errorf("got %s, want %s", rec.Body, want)
		}
		if diff := cmp.Diff([]any{tt.want, 72 * time.Hour, tt.want}, g.queue.asked); diff != "" {
			t.Errorf("%s %s: %s", tt.query, tt.body, diff)
		}
	}
}

// TestResetHosts checks the call, and that no state is not taken for all of them.
func TestResetHosts(t *testing.T) {
	g := newRig(t)
	rec := g.do("POST", "/v1/hosts/reset?state=open", "")
	wantStatus(t, rec, 200)
	if diff := cmp.Diff([]any{queue.HostOpen}, g.queue.asked); diff != "" || rec.Body.String() != `{"reset":12}`+"\n" {
		t.Errorf("answered %s, asked for %v", rec.Body, g.queue.asked)
	}
	for _, query := range []string{"", "?state=", "?state=closed"} {
		g := newRig(t)
		rec := g.do("POST", "/v1/hosts/reset"+query, "")
		wantStatus(t, rec, 422)
		if !strings.Contains(rec.Body.String(), `"location":"query.state"`) || len(g.queue.asked) > 0 {
			t.Errorf("%q: answered %s, asked for %v", query, rec.Body, g.queue.asked)
		}
	}
}

// TestNoDeadLetters: who names an empty list means none, not all.
func TestNoDeadLetters(t *testing.T) {
	for _, call := range [][2]string{{"", `{"ids":[]}`}, {"?ids=", ""}, {"?ids=a", `{"ids":[]}`}} {
		g := newRig(t)
		if got := g.do("DELETE", "/v1/dead-letters"+call[0], call[1]).Body.String(); got != `{"matched":0,"deleted":0,"dry_run":false}`+"\n" {
			t.Errorf("%v: %s", call, got)
		}
		if got := g.do("POST", "/v1/dead-letters/retry"+call[0], call[1]).Body.String(); got != `{"matched":0,"retried":0,"superseded":0,"dry_run":false}`+"\n" {
			t.Errorf("%v: %s", call, got)
		}
		if len(g.queue.asked) > 0 {
			t.Errorf("%v: asked for %v", call, g.queue.asked)
		}
	}
}

// TestBadDeadLetterChoice: what is misspelt or empty is refused, since without it more letters would be meant.
func TestBadDeadLetterChoice(t *testing.T) {
	tests := []struct{ query, body, location string }{
		{"?host=", "", "query.host"},
		{"?host=a%20b", "", "query.host"},
		{"?host=one.example&host=two.example", "", "query.host"},
		{"?reason=", "", "query.reason"},
		{"?reason=lost", "", "query.reason"},
		{"?since=yesterday", "", "query.since"},
		{"?dry_run=", "", "query.dry_run"},
		{"?dry_run=maybe", "", "query.dry_run"},
		{"?ids=" + strings.Repeat("a,", maxIDs+1), "", "query.ids"},
		{"", `{"hots":"one.example"}`, "body.hots"},
		{"", `{"host":"one.example","host":"two.example"}`, "body.host"},
		{"", `{"host":""}`, "body.host"},
		{"", `{"host":["one.example"]}`, "body.host"},
		{"", `{"reason":"lost"}`, "body.reason"},
		{"", `{"since":1}`, "body.since"},
		{"", `{"ids":"a"}`, "body.ids"},
		{"", `{"ids":["a",1]}`, "body.ids[1]"},
		{"", `{"ids":["a"` + strings.Repeat(`,"a"`, maxIDs) + `]}`, "body.ids[10000]"},
		{"", `{"dry_run":"true"}`, "body.dry_run"},
		{"", `{"ids":["a"],"host":"one.example"}`, "body.ids"},
		{"?host=one.example", `{"ids":["a"]}`, "body.ids"},
	}
	for _, tt := range tests {
		g := newRig(t)
		for _, call := range [][2]string{{"DELETE", ""}, {"POST", "/retry"}} {
			p := wantProblem(t, g.do(call[0], "/v1/dead-letters"+call[1]+tt.query, tt.body), 422)
			if len(p.Errors) != 1 || p.Errors[0].Location != tt.location {
				t.Errorf("%.50s %.50s: %+v", tt.query, tt.body, p.Errors)
			}
		}
		if len(g.queue.asked) > 0 {
			t.Errorf("asked for %v", g.queue.asked)
		}
	}
	for _, body := range []string{"[]", "x", `"ids"`, "{", "{}{}"} {
		wantProblem(t, newRig(t).do("DELETE", "/v1/dead-letters", body), 400)
	}
	wantProblem(t, newRig(t).do("DELETE", "/v1/dead-letters", "{}", "Content-Type", "", "Content-Type", "text/plain"), 415)
	wantProblem(t, newRig(t).do("DELETE", "/v1/dead-letters", `{"ids":["`+strings.Repeat("a", maxLetterCall)+`"]}`), 413)
}

// TestMostDeadLetters: so many can be named at once.
func TestMostDeadLetters(t *testing.T) {
	id := anID + "-99999"
	ids := strings.TrimSuffix(strings.Repeat(`"`+id+`",`, maxIDs), ",")
	wantStatus(t, newRig(t).do("POST", "/v1/dead-letters/retry", `{"ids":[`+ids+`]}`), 200)
}

func FuzzChooseLetters(f *testing.F) {
	f.Add("host=one.example&dry_run=true", []byte(letterExample))
	f.Add("ids=a,b", []byte(`{"ids":[]}`))
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		c, err := chooseLetters(&query{Values: values}, body)
		if err == nil && (len(c.IDs) > 0 && !c.byID || c.byID && c.Filter != (queue.DeadLetterFilter{})) {
			t.Errorf("got %+v", c)
		}
	})
}
