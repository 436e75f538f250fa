package handlers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// TestOrders checks what a pause and a block are asked for with. Times become durations, which the store's clock counts.
func TestOrders(t *testing.T) {
	tomorrow := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
	for body, want := range map[string]queue.Order{
		"":   {},
		"{}": {},
		`{"reason":null,"until":null,"subdomains":null}`:               {},
		`{"reason":"spam","subdomains":true}`:                          {Reason: "spam", Subdomains: true},
		`{"reason":" two\n lines \u001b[1m\u202e","subdomains":false}`: {Reason: "two lines [1m"},
		`{"until":"` + tomorrow + `"}`:                                 {For: 24 * time.Hour},
		fmt.Sprintf(`{"reason":%q}`, strings.Repeat("ö", 500)):         {Reason: strings.Repeat("ö", 500)},
	} {
		for _, action := range []queue.HostAction{queue.Pause, queue.Block} {
			g := newRig(t)
			wantStatus(t, g.do("POST", "/v1/hosts/one.example.com/"+string(action), body), 200)
			near := cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < time.Minute })
			if diff := cmp.Diff([]any{"one.example.com", action, want}, g.queue.asked, near); diff != "" {
				t.Errorf("%s %s: %s", action, body, diff)
			}
		}
	}
}

// TestOrdersRefused checks that what no order can mean is refused, with the member at fault.
func TestOrdersRefused(t *testing.T) {
	for _, tt := range []struct{ host, body, location, code string }{
		{"one.example", `{"reason":"` + strings.Repeat("x", 501) + `"}`, "body.reason", "too_long"},
		{"one.example", `{"reason":1}`, "body.reason", "wrong_type"},
		{"one.example", `{"until":"tomorrow"}`, "body.until", "invalid_value"},
		{"one.example", `{"until":"2026-01-01T00:00:00Z"}`, "body.until", "invalid_value"},
		{"one.example", `{"until":"9999-01-01T00:00:00Z"}`, "body.until", "invalid_value"},
		{"one.example", `{"untill":"9999-01-01T00:00:00Z"}`, "body.untill", "unknown_member"},
		{"one.example:8443", `{"subdomains":true}`, "body.subdomains", "conflict"},
		{"192.0.2.1", `{"subdomains":true}`, "body.subdomains", "conflict"},
		{"[2001:db8::1]", `{"subdomains":true}`, "body.subdomains", "conflict"},
		{"com", `{"subdomains":true}`, "body.subdomains", "conflict"},
		{"co.uk", `{"subdomains":true}`, "body.subdomains", "conflict"},
	} {
		g := newRig(t)
		p := wantProblem(t, g.do("POST", "/v1/hosts/"+tt.host+"/block", tt.body), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != tt.location || string(p.Errors[0].Code) != tt.code || g.queue.asked != nil {
			t.Errorf("%s %s: %+v, asked %v", tt.host, tt.body, p.Errors, g.queue.asked)
		}
	}
	for _, host := range []string{"example.co.uk", "tunnel.github.io", "github.io"} { // what is lent out can be covered
		wantStatus(t, newRig(t).do("POST", "/v1/hosts/"+host+"/block", `{"subdomains":true}`), 200)
	}
	wantProblem(t, newRig(t).do("POST", "/v1/hosts/one.example/resume", `{"reason":"x"}`), 422) // it has none
}

// TestCovered checks that the answer for a host that another one's order covers names that one.
func TestCovered(t *testing.T) {
	p := wantProblem(t, newRig(t).do("POST", "/v1/hosts/covered.example/unblock", ""), 409)
	want := []fault{{
		Location: "path.host", Code: codeCovered, Host: "example.com",
		Message: "has no such order of its own; the one for example.com and its subdomains holds",
	}}
	if diff := cmp.Diff(want, p.Errors); diff != "" || p.Detail != "unblock example.com instead" {
		t.Errorf("%s: %s", p.Detail, diff)
	}
}

// TestShowsOrders checks how orders are shown with a host and in the feed.
func TestShowsOrders(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	orders := []queue.HostOrder{
		{Action: queue.Pause, Host: "x.one.example", Since: at},
		{Action: queue.Block, Host: "one.example", Reason: "spam", By: "mods", Since: at, Until: at.Add(time.Hour), Subdomains: true},
	}
	view := hostViewOf(&queue.HostStatus{Host: "x.one.example", State: queue.HostBlocked, Orders: orders})
	want := []*orderView{
		{Action: "pause", Host: "x.one.example", Since: "2026-01-02T15:04:05.000Z"},
		{
			Action: "block", Host: "one.example", Reason: "spam", By: "mods", Since: "2026-01-02T15:04:05.000Z",
			Until: "2026-01-02T16:04:05.000Z", Subdomains: true,
		},
	}
	if diff := cmp.Diff(want, view.Orders); diff != "" {
		t.Error(diff)
	}
	e := entryOf(&queue.Event{Kind: queue.EventHostState, Host: "x.one.example", State: queue.HostBlocked, Order: &orders[1], By: "mods"})
	if diff := cmp.Diff(want[1], e.Order); diff != "" || e.By != "mods" || e.Reason != "" {
		t.Errorf("entry %+v: %s", e, diff)
	}
}
