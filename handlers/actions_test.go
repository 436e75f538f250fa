package handlers

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// withOps has the token ops needed.
func withOps(o *Options) { o.Tokens = []Token{{Name: "ops", Secret: "secret"}} }

// doAsOps makes a call with the token ops.
func (g *rig) doAsOps(method, target, body string) int {
	return g.do(method, target, body, "Authorization", "Bearer secret").Code
}

// TestActionsOfMany checks the entry and the log line of calls that change many, which say the same.
func TestActionsOfMany(t *testing.T) {
	long := strings.Repeat("x", 600)
	short := long[:maxFilterText]
	for _, tt := range []struct {
		call [3]string
		want string // the entry, but for its type, time and token
		line string // what the line says more, and what the entry has in other words
	}{
		{
			[3]string{"POST", "/v1/hosts/reset?state=open", ""},
			`{"action":"hosts.reset","filter":{"state":"open"},"count":12}`,
			"only_state=open count=12",
		},
		{
			[3]string{"POST", "/v1/dead-letters/retry?host=one.example&reason=gone", ""},
			`{"action":"dead_letters.retry","filter":{"host":"one.example","reason":"gone"},"count":2}`,
			"only_host=one.example only_reason=gone count=2 matched=3 superseded=1",
		},
		{[3]string{"DELETE", "/v1/dead-letters", ""}, `{"action":"dead_letters.delete","count":3}`, "count=3 matched=3 superseded=0"},
		{
			[3]string{"DELETE", "/v1/dead-letters", `{"activity_id":"` + long + `","inbox":"a\u0007b","since":"2026-01-02T11:00:00Z"}`},
			`{"action":"dead_letters.delete","filter":{"since":"2026-01-02T11:00:00.000Z","inbox":"ab","activity_id":"` + short + `"},"count":3}`,
			"only_since=2026-01-02T11:00:00.000Z only_inbox=ab only_activity_uri=" + short + " count=3 matched=3 superseded=0",
		},
		{
			[3]string{"DELETE", "/v1/dead-letters", `{"ids":["` + long + `","2","3","4","5","6","7","8","9","10","11"]}`},
			`{"action":"dead_letters.delete","filter":{"ids":["` + short + `","2","3","4","5","6","7","8","9","10"]},"count":3}`,
			"only_ids=" + short + ",2,3,4,5,6,7,8,9,10 count=3 matched=3 superseded=0",
		},
		{
			[3]string{"POST", "/v1/activities/cancel", `{"key_id":"` + alice + `"}`},
			`{"action":"activities.cancel","filter":{"key_id":"` + alice + `"},"count":17}`,
			`only_key_id=` + alice + ` count=17 activities=2`,
		},
	} {
		g := newRig(t, withOps)
		if code := g.doAsOps(tt.call[0], tt.call[1], tt.call[2]); code != 200 {
			t.Fatalf("%v: %d", tt.call, code)
		}
		var got []string
		for i := range g.queue.feed {
			v := entryOf(&g.queue.feed[i])
			if v.Type != "action" || v.By != "ops" {
				t.Errorf("%v: entry %+v", tt.call, v)
			}
			v.Type, v.By = "", ""
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Replace(string(text), `"type":"","at":"",`, "", 1))
		}
		if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
			t.Errorf("%v: %s", tt.call, diff)
		}
		if line := "msg=action action=" + g.action() + " token=ops " + tt.line; !strings.Contains(strings.ReplaceAll(g.log.String(), `"`, ""), line) {
			t.Errorf("%v: no line %s in %s", tt.call, line, g.log)
		}
	}
}

// action returns what the newest entry says was done.
func (g *rig) action() string { return string(g.queue.feed[len(g.queue.feed)-1].Action) }

// TestActionsThatBreakOff: a call that failed half-way has an entry of what it did, and one that did nothing has none.
func TestActionsThatBreakOff(t *testing.T) {
	for _, call := range [][2]string{
		{"POST", "/v1/hosts/reset?state=open"}, {"POST", "/v1/dead-letters/retry"}, {"DELETE", "/v1/dead-letters"},
	} {
		g := newRig(t)
		g.queue.err = errAway
		wantProblem(t, g.do(call[0], call[1], ""), 503)
		if len(g.queue.feed) != 1 || g.queue.feed[0].Count == 0 {
			t.Errorf("%v: entries %+v", call, g.queue.feed)
		}
	}
	g := newRig(t)
	for _, call := range [][3]string{
		{"POST", "/v1/dead-letters/retry?dry_run=true", ""}, {"DELETE", "/v1/dead-letters", `{"ids":[]}`},
		{"POST", "/v1/activities/cancel", `{"activity_ids":["a"],"dry_run":true}`}, {"POST", "/v1/keys/reseal", ""},
	} {
		wantStatus(t, g.do(call[0], call[1], call[2]), 200)
	}
	g.queue.err = errAway
	g.actedOnMany(t.Context(), queue.Event{Action: queue.ActionResetHosts})
	if len(g.queue.feed) > 0 {
		t.Errorf("entries %+v", g.queue.feed)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	g.actedOnMany(gone, queue.Event{Action: queue.ActionResetHosts, Count: 7})
	if len(g.queue.feed) != 1 {
		t.Errorf("entries of a call whose caller has gone: %+v", g.queue.feed)
	}
}

// TestActionLines checks the lines of calls whose entries the store makes: who did what, and no private key.
func TestActionLines(t *testing.T) {
	g := newRig(t, withOps)
	for _, tt := range []struct {
		call [3]string
		code int
		line string
	}{
		{[3]string{"POST", "/v1/hosts/one.example/block", `{"reason":"spam","until":"2030-01-02T03:04:05Z","subdomains":true}`}, 200,
			"action=host.block token=ops host=one.example reason=spam until=2030-01-02T03:04:05.000Z subdomains=true\n"},
		{[3]string{"POST", "/v1/hosts/one.example/seen", ""}, 200, "level=DEBUG msg=action action=host.seen token=ops host=one.example\n"},
		{[3]string{"DELETE", "/v1/activities/" + anID, ""}, 200, "level=INFO msg=action action=activity.cancel token=ops activity=" + anID},
		{[3]string{"PUT", "/v1/keys", keyExample}, 200, "action=key.put token=ops key_id=" + alice + " fingerprint="},
		{[3]string{"DELETE", "/v1/keys?when=idle&key_id=" + "https://app.example/users/alice%23main-key", ""}, 202, "action=key.retire token=ops key_id=" + alice + "\n"},
		{[3]string{"DELETE", "/v1/keys?key_id=" + "https://app.example/users/alice%23main-key", ""}, 204, "action=key.delete token=ops key_id=" + alice + "\n"},
	} {
		g.log.Reset()
		if code := g.doAsOps(tt.call[0], tt.call[1], tt.call[2]); code != tt.code {
			t.Fatalf("%v: %d", tt.call, code)
		}
		if got := strings.ReplaceAll(g.log.String(), `"`, ""); !strings.Contains(got, tt.line) || strings.Contains(got, "PRIVATE") {
			t.Errorf("%v: logged %s", tt.call, got)
		}
	}
}

// TestCallers: the store learns the token of every call that may change something.
func TestCallers(t *testing.T) {
	g := newRig(t, withOps)
	calls := &callers{fakeQueue: g.queue}
	g.Queue = calls
	g.doAsOps("PUT", "/v1/keys", keyExample)
	body := call(anActivity, `"key":`+keyExample, anInbox)
	g.doAsOps("POST", "/v1/activities", body)
	g.do("POST", "/v1/activities/batch", strings.ReplaceAll(body, "\n", ""), "Authorization", "Bearer secret", "Content-Type", "", "Content-Type", lineTypes[0])
	if want := []string{"ops", "ops", "ops"}; !slices.Equal(want, calls.names) {
		t.Errorf("keys were put by %q, want %q", calls.names, want)
	}
}

// callers notes whose calls put keys, each of which is new.
type callers struct {
	*fakeQueue
	names []string
}

func (c *callers) PutKey(ctx context.Context, _ queue.Key) (bool, error) {
	c.names = append(c.names, queue.Caller(ctx))
	return true, nil
}

// someActions are entries of every type.
var someActions = []queue.Event{
	{Kind: queue.EventHostState, Host: "one.example", State: queue.HostPaused},
	{Kind: queue.EventAction, Host: "one.example", Action: "host.pause", By: "ops"},
	{Kind: queue.EventDead, Host: "one.example"},
	{Kind: queue.EventActivityDone, Counts: &queue.Counts{}},
	{Kind: queue.EventDelivered, Host: "one.example"},
	{Kind: queue.EventAction, Action: queue.ActionRetryDead, Count: 1},
}

// TestActionsAsked: only callers who ask for actions get them, in the feed and in the stream of events.
func TestActionsAsked(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{"", "host_state dead activity_done delivered"},
		{"?host=one.example", "host_state dead delivered"},
		{"?type=dead,host_state", "host_state dead"},
		{"?type=action", "action action"},
		{"?type=action&host=one.example", "action"},
		{"?type=dead,action", "action dead action"},
	} {
		g := newRig(t)
		g.queue.feed = someActions
		var types []string
		for _, e := range decode[page[entry]](t, g.do("GET", "/v1/feed"+tt.query, "")).Items {
			types = append(types, e.Type)
		}
		if got := strings.Join(types, " "); got != tt.want {
			t.Errorf("%s: the feed has %s, want %s", tt.query, got, tt.want)
		}
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, func(o *Options) { o.FeedDelivered = true })
			g.queue.events = make(chan queue.Event, 8)
			l := g.subscribe(tt.query)
			g.queue.happen(false, someActions...)
			var types []string
			for line := range strings.Lines(l.received()) {
				if name, isType := strings.CutPrefix(line, "event: "); isType && name != "stats\n" {
					types = append(types, strings.TrimSpace(name))
				}
			}
			if got := strings.Join(types, " "); got != tt.want {
				t.Errorf("%s: the stream has %s, want %s", tt.query, got, tt.want)
			}
			l.leaves(t)
		})
	}
}
