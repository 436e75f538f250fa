package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var (
	errAway = errors.New("store away: secret host")
	noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.FixedZone("", 3600))
	failed  = &queue.LastAttempt{At: noon, Status: 502, Outcome: "server_error", Error: "bad <gateway>", Duration: 1500 * time.Millisecond}
)

func TestActivity(t *testing.T) {
	g := newRig(t)
	g.queue.status = queue.ActivityStatus{
		ID: anID, URI: "https://app.example/a/1", Type: "Create", KeyID: alice, Actor: "https://app.example/users/alice", Metadata: []byte(`{"n":1}`), CreatedAt: noon, State: queue.ActivityPending,
		Counts: queue.Counts{Total: 10, Pending: 1, Delivered: 2, Dead: 3, Cancelled: 4},
	}
	want := `{"id":"` + anID + `","activity_id":"https://app.example/a/1","type":"Create","key_id":"` + alice + `","actor":"https://app.example/users/alice",` +
		`"created_at":"2026-01-02T11:00:00.000Z","state":"pending","counts":{"total":10,"pending":1,"delivered":2,"dead":3,"cancelled":4},"metadata":{"n":1}}` + "\n"
	for _, method := range []string{"GET", "DELETE"} {
		rec := g.do(method, "/v1/activities/"+anID, "")
		wantStatus(t, rec, 200)
		if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff([]any{"cancel " + anID}, g.queue.asked); diff != "" {
		t.Error(diff)
	}
}

// TestUnknownActivity: what can't be an ID of ours never reaches the store.
func TestUnknownActivity(t *testing.T) {
	g := newRig(t)
	g.queue.err = errAway
	for _, id := range []string{"x", strings.ToUpper(anID), "{" + anID + "}", "urn:uuid:" + anID, anID + "%00", "%2e%2e", strings.Repeat("a", 5000)} {
		wantProblem(t, g.do("GET", "/v1/activities/"+id, ""), 404)
		wantProblem(t, g.do("DELETE", "/v1/activities/"+id, ""), 404)
		wantProblem(t, g.do("GET", "/v1/activities/"+id+"/deliveries", ""), 404)
	}
	g.queue.err = nil
	wantProblem(t, g.do("GET", "/v1/activities/"+strings.Replace(anID, "1", "2", -1), ""), 404)
}

func TestDeliveries(t *testing.T) {
	g := newRig(t)
	g.queue.deliveries = queue.List[queue.DeliveryStatus]{Next: "more", Items: []queue.DeliveryStatus{
		{ID: "d1", Inbox: "https://one.example/inbox", Host: "one.example", IDs: []string{"https://one.example/users/bob"}, State: queue.StatePending, Attempts: 2, NextAttemptAt: noon, History: queue.History{*failed}},
		{ID: "d2", Inbox: "https://two.example/inbox", Host: "two.example", State: queue.StateDead, Reason: queue.ReasonGone},
	}}
	rec := g.do("GET", "/v1/activities/"+anID+"/deliveries?state=dead&limit=500&cursor=c", "")
	wantStatus(t, rec, 200)
	want := `{"items":[{"id":"d1","inbox":"https://one.example/inbox","ids":["https://one.example/users/bob"],"host":"one.example","state":"pending","attempts":2,` +
		`"next_attempt_at":"2026-01-02T11:00:00.000Z","last_attempt":{"at":"2026-01-02T11:00:00.000Z","status":502,` +
		`"outcome":"server_error","error":"bad <gateway>","duration_ms":1500},"history":[{"at":"2026-01-02T11:00:00.000Z","status":502,"outcome":"server_error","error":"bad <gateway>","duration_ms":1500}]},` +
		`{"id":"d2","inbox":"https://two.example/inbox","host":"two.example","state":"dead","reason":"gone","attempts":0,"history":[]}],"next_cursor":"more"}` + "\n"
	if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{anID, queue.StateDead, queue.Page{Limit: 500, Cursor: "c"}}, g.queue.asked); diff != "" {
		t.Error(diff)
	}
}

func TestHostDeliveries(t *testing.T) {
	g := newRig(t)
	g.queue.deliveries = queue.List[queue.DeliveryStatus]{Next: "more", Items: []queue.DeliveryStatus{{
		ID: "d1", Inbox: "https://one.example/inbox", Host: "one.example", State: queue.StatePending, Waits: queue.WaitsHost, Attempts: 2,
		NextAttemptAt: noon, ActivityID: anID, URI: "u", Type: "Create", Priority: queue.Low, CreatedAt: noon, Metadata: []byte(`{"n":1}`),
	}}}
	rec := g.do("GET", "/v1/hosts/ONE.example/deliveries?limit=500&cursor=c", "")
	wantStatus(t, rec, 200)
	want := `{"items":[{"id":"d1","inbox":"https://one.example/inbox","host":"one.example","state":"pending","waits_for":"host","attempts":2,` +
		`"next_attempt_at":"2026-01-02T11:00:00.000Z","history":[],"activity_id":"u","type":"Create","priority":"low","created_at":"2026-01-02T11:00:00.000Z",` +
		`"metadata":{"n":1},"url":"/v1/activities/` + anID + `"}],"next_cursor":"more"}` + "\n"
	if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{"one.example", queue.Page{Limit: 500, Cursor: "c"}}, g.queue.asked); diff != "" {
		t.Error(diff)
	}
	wantProblem(t, g.do("GET", "/v1/hosts/a_b%20c/deliveries", ""), 422)
	wantProblem(t, g.do("GET", "/v1/hosts/one.example/deliveries?state=dead", ""), 400)
}

// TestFeedNewestFirst: the feed is read in either order, and a cursor belongs to one of them.
func TestFeedNewestFirst(t *testing.T) {
	w := newStore(t)
	g := newRig(t, func(o *Options) { o.Queue = w.store })
	for _, host := range []string{"a.example", "b.example", "c.example"} {
		wantStatus(t, g.do("POST", "/v1/hosts/"+host+"/pause", ""), 200)
	}
	read := func(query string) (hosts []string, next string) {
		t.Helper()
		rec := g.do("GET", "/v1/feed?"+query, "")
		wantStatus(t, rec, 200)
		list := decode[page[entry]](t, rec)
		for _, e := range list.Items {
			hosts = append(hosts, e.Host)
		}
		return hosts, list.NextCursor
	}
	first, next := read("sort=newest&limit=2")
	second, end := read("sort=newest&limit=2&after=" + next)
	forth, always := read("sort=oldest")
	if diff := cmp.Diff([][]string{{"c.example", "b.example"}, {"a.example"}, {"a.example", "b.example", "c.example"}}, [][]string{first, second, forth}); diff != "" {
		t.Error(diff)
	}
	if next == "" || end != "" || always == "" {
		t.Errorf("cursors %q, %q and %q", next, end, always)
	}
	for _, query := range []string{"after=" + next, "sort=newest&after=" + always, "sort=name"} {
		wantProblem(t, g.do("GET", "/v1/feed?"+query, ""), 422)
	}
}

func TestHosts(t *testing.T) {
	g := newRig(t)
	g.queue.hosts = queue.List[queue.HostStatus]{Items: []queue.HostStatus{
		{
			Host: "one.example", State: queue.HostOpen, Pending: 3, InFlight: 1, OldestPendingAt: noon, RetryAt: noon, ChangedAt: noon,
			Record: queue.HostRecord{
				Scheme: "rfc9421", Refusals: 3, LastAnswer: noon.Add(-time.Minute), LastSuccess: noon.Add(-time.Hour), LastError: failed,
				Breaker: breaker.Record{State: breaker.HalfOpen, Failures: 12, Days: []int32{20484, 20486}, LastSuccess: noon},
			},
		},
		{Host: "new.example", State: queue.HostHealthy},
	}}
	rec := g.do("GET", "/v1/hosts?state=open&q=ONE&sort=oldest&changed_since=2026-01-02T12:00:00%2B01:00", "")
	wantStatus(t, rec, 200)
	want := `{"items":[{"host":"one.example","state":"open","pending":3,"in_flight":1,"oldest_pending_at":"2026-01-02T11:00:00.000Z","changed_at":"2026-01-02T11:00:00.000Z",` +
		`"breaker":{"state":"half_open","consecutive_failures":12,"retry_at":"2026-01-02T11:00:00.000Z"},"failure_days":2,` +
		`"failed_on":["2026-01-31","2026-02-02"],"refusals":3,"signature_scheme":"rfc9421",` +
		`"last_success_at":"2026-01-02T10:00:00.000Z","last_answer_at":"2026-01-02T10:59:00.000Z","last_error":{"at":"2026-01-02T11:00:00.000Z",` +
		`"status":502,"outcome":"server_error","error":"bad <gateway>","duration_ms":1500}},` +
		`{"host":"new.example","state":"healthy","pending":0,"in_flight":0,"breaker":{"state":"closed","consecutive_failures":0},` +
		`"failure_days":0,"failed_on":[],"refusals":0,"signature_scheme":"unknown"}]}` + "\n"
	if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{queue.HostFilter{State: queue.HostOpen, Query: "one", Sort: queue.ByOldest, ChangedSince: noon}, queue.Page{Limit: 50}}, g.queue.asked); diff != "" {
		t.Error(diff)
	}
}

func TestSearch(t *testing.T) {
	g := newRig(t)
	g.queue.activities = queue.List[queue.ActivityStatus]{Next: "more", Items: []queue.ActivityStatus{{ID: anID, URI: "u", State: queue.ActivityDone}}}
	rec := g.do("GET", "/v1/activities?activity_id=u&actor=a&key_id=k&type=Create&state=done&since=2026-01-02T12:00:00%2B01:00&limit=7&cursor=c", "")
	wantStatus(t, rec, 200)
	if list := decode[page[activityView]](t, rec); len(list.Items) != 1 || list.Items[0].ID != anID || list.NextCursor != "more" {
		t.Errorf("%+v", list)
	}
	filter := queue.ActivityFilter{URI: "u", Actor: "a", KeyID: "k", Type: "Create", State: queue.ActivityDone, Since: noon}
	if diff := cmp.Diff([]any{filter, queue.Page{Limit: 7, Cursor: "c"}}, g.queue.asked); diff != "" {
		t.Error(diff)
	}
	for query, location := range map[string]string{"?state=dead": "query.state", "?since=today": "query.since", "?limit=0": "query.limit"} {
		if p := wantProblem(t, g.do("GET", "/v1/activities"+query, ""), 422); p.Errors[0].Location != location {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	for query, location := range map[string]string{"?sort=state": "query.sort", "?changed_since=x": "query.changed_since"} {
		if p := wantProblem(t, g.do("GET", "/v1/hosts"+query, ""), 422); p.Errors[0].Location != location {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	if rec := g.do("GET", "/v1/hosts?sort=name", ""); rec.Code != 200 {
		t.Errorf("hosts by name: %d", rec.Code)
	}
}

func TestBody(t *testing.T) {
	g := newRig(t)
	rec := g.do("GET", "/v1/activities/"+anID+"/body", "")
	wantStatus(t, rec, 200)
	if rec.Body.String() != "{\"id\":\n\"x\"}" || rec.Header().Get("Content-Type") != "application/activity+json" {
		t.Errorf("%v %q", rec.Header(), rec.Body)
	}
	wantProblem(t, g.do("GET", "/v1/activities/x/body", ""), 404)
	wantProblem(t, g.do("GET", "/v1/activities/"+strings.Replace(anID, "1", "2", -1)+"/body", ""), 404)
}

func TestOneDelivery(t *testing.T) {
	g := newRig(t)
	g.queue.delivery = queue.DeliveryStatus{
		ID: "d1", Inbox: "https://one.example/inbox", Host: "one.example", IDs: []string{"b"}, ActivityID: anID, URI: "u", Metadata: []byte(`{"n":1}`),
		State: queue.StateDead, Reason: queue.ReasonGone, Attempts: 1, DiedAt: noon, History: queue.History{*failed, *failed},
	}
	rec := g.do("GET", "/v1/deliveries/d1", "")
	wantStatus(t, rec, 200)
	got := decode[oneDelivery](t, rec)
	if got.ID != "d1" || got.ActivityID != "u" || string(got.Metadata) != `{"n":1}` || got.URL != "/v1/activities/"+anID || got.DiedAt == "" ||
		len(got.History) != 2 || got.LastAttempt == nil || len(got.IDs) != 1 {
		t.Errorf("%s", rec.Body)
	}
	wantProblem(t, g.do("GET", "/v1/deliveries/d2", ""), 404)
}

func TestCancelMany(t *testing.T) {
	for body, want := range map[string]queue.CancelChoice{
		`{"key_id":"k"}`: {KeyID: "k"},
		`{"activity_ids":["a","b"],"dry_run":true}`:           {URIs: []string{"a", "b"}, DryRun: true},
		`{"key_id":"k","activity_ids":["a"],"dry_run":false}`: {KeyID: "k", URIs: []string{"a"}},
	} {
		g := newRig(t)
		rec := g.do("POST", "/v1/activities/cancel", body)
		wantStatus(t, rec, 200)
		if got := decode[cancelledMany](t, rec); got != (cancelledMany{2, 17, want.DryRun}) {
			t.Errorf("%s: %+v", body, got)
		}
		if diff := cmp.Diff([]any{want}, g.queue.asked); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	g := newRig(t)
	if got := decode[cancelledMany](t, g.do("POST", "/v1/activities/cancel", `{"activity_ids":[]}`)); got != (cancelledMany{}) || len(g.queue.asked) > 0 {
		t.Errorf("no ids cancel %+v", got)
	}
	for body, location := range map[string]string{
		`{}`: "body.key_id", `{"key":"k"}`: "body.key", `{"key_id":""}`: "body.key_id", `{"activity_ids":"a"}`: "body.activity_ids",
		`{"activity_ids":["` + strings.Repeat(`a","`, maxCancelled) + `a"]}`: "body.activity_ids[10000]",
	} {
		if p := wantProblem(t, g.do("POST", "/v1/activities/cancel", body), 422); p.Errors[0].Location != location {
			t.Errorf("%.40s: %+v", body, p.Errors)
		}
	}
	wantProblem(t, g.do("POST", "/v1/activities/cancel", ""), 415)
}

func TestHostInPath(t *testing.T) {
	for path, want := range map[string]string{
		"one.example":              "one.example",
		"ONE.Example:443":          "one.example",
		"one.example:8443":         "one.example:8443",
		"one.example%3A8443":       "one.example:8443",
		"[::1]:8080":               "[::1]:8080",
		"%5B2001:DB8::1%5D":        "[2001:db8::1]",
		"%5b2001%3adb8%3a%3a1%5d":  "[2001:db8::1]",
		"b%C3%BCcher.example":      "xn--bcher-kva.example",
		"127.0.0.1:8081":           "127.0.0.1:8081",
		"%6F%6E%65.example%3a8443": "one.example:8443",
	} {
		g := newRig(t)
		rec := g.do("GET", "/v1/hosts/"+path, "")
		wantStatus(t, rec, 200)
		if got := decode[hostView](t, rec).Host; got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"a%2Fb", "one%252Eexample", "a%20b", "a@b", "https:%2F%2Fa.example", "a:b", "a:0", "a:99999", "[::1", "%5B::1%25eth0%5D", "a%00b", "%FF"} {
		p := wantProblem(t, newRig(t).do("GET", "/v1/hosts/"+path, ""), 422)
		if p.Errors[0].Location != "path.host" {
			t.Errorf("%s: %+v", path, p.Errors)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	g := newRig(t)
	g.queue.dead = queue.List[queue.DeadLetter]{Items: []queue.DeadLetter{{
		ID: "d1", ActivityID: anID, URI: "https://app.example/a/1", Inbox: "https://one.example/inbox", Host: "one.example",
		Reason: queue.ReasonExhausted, Attempts: 17, History: queue.History{*failed}, DiedAt: noon, Metadata: []byte(`{"n":1}`),
	}}}
	rec := g.do("GET", "/v1/dead-letters?host=ONE.example:443&reason=exhausted&since=2026-01-02T12:00:00%2B01:00&inbox=https://one.example/inbox&activity_id=https://app.example/a/1", "")
	wantStatus(t, rec, 200)
	want := `{"items":[{"id":"d1","activity_id":"https://app.example/a/1","inbox":"https://one.example/inbox","host":"one.example",` +
		`"reason":"exhausted","attempts":17,"last_attempt":{"at":"2026-01-02T11:00:00.000Z","status":502,"outcome":"server_error",` +
		`"error":"bad <gateway>","duration_ms":1500},"died_at":"2026-01-02T11:00:00.000Z","url":"/v1/activities/` + anID + `","history":[{"at":"2026-01-02T11:00:00.000Z","status":502,"outcome":"server_error","error":"bad <gateway>","duration_ms":1500}],"metadata":{"n":1}}]}` + "\n"
	if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
		t.Error(diff)
	}
	filter := queue.DeadLetterFilter{
		Host: "one.example", Reason: queue.ReasonExhausted, Since: noon, Inbox: "https://one.example/inbox", URI: "https://app.example/a/1",
	}
	if diff := cmp.Diff([]any{filter, queue.Page{Limit: 50}}, g.queue.asked); diff != "" {
		t.Error(diff)
	}
}

func TestStats(t *testing.T) {
	g := newRig(t)
	g.queue.totals = queue.Stats{
		Activities: 1, Pending: 2, Dead: 3, Delivered: 4, Hosts: map[queue.HostState]int{queue.HostOpen: 5},
		Died: map[queue.Reason]int64{queue.ReasonGone: 6, queue.ReasonLaneFull: 7}, Dropped: 8,
		PerSecond: queue.Rates{Accepted: 1.5, Delivered: 2.5, Dead: 3.5}, Answers: [queue.AnswerKinds]int{queue.AnsweredUnauthorized: 5},
	}
	want := `{"fleet":{"activities":1,"pending":2,"dead":3,"delivered":4,"died":{"damaged":0,"exhausted":0,"expired":0,"gone":6,"host_blocked":0,` +
		`"host_unavailable":0,"key_missing":0,"lane_full":7,"private_address":0,"rejected":0},"dropped":8,` +
		`"per_second":{"accepted":1.5,"delivered":2.5,"dead":3.5},` +
		`"hosts":{"blocked":0,"failing":0,"healthy":0,"open":5,"paused":0,"refusing":0,"throttled":0,"unavailable":0}}`
	warnings := `,"warnings":[{"code":"most_hosts_unauthorized","message":"most hosts answer 401 and none accepts: ` +
		`check that receivers can fetch your public key"}]}` + "\n"
	if diff := cmp.Diff(want+warnings, g.do("GET", "/v1/stats", "").Body.String()); diff != "" {
		t.Error(diff)
	}
	synctest.Test(t, func(t *testing.T) {
		g.server.Node = func() NodeStats {
			return NodeStats{
				StartedAt: time.Now().Add(-90 * time.Minute), Signing: "go", InFlight: 3, Attempts: map[string]int64{"delivered": 4, "gone": 0}, PerSecond: .5,
				Concurrency: 512, WebhookLag: 1500 * time.Millisecond,
			}
		}
		want += `,"node":{"version":"1.2.3","signing":"go","started_at":"1999-12-31T22:30:00.000Z","uptime_seconds":5400,"in_flight":3,` +
			`"attempts":{"delivered":4,"gone":0},"per_second":{"attempts":0.5},"concurrency":512,"webhook_lag_seconds":1.5}` + warnings
		if diff := cmp.Diff(want, g.do("GET", "/v1/stats", "").Body.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestLists(t *testing.T) {
	paths := []string{"/v1/activities", "/v1/keys", "/v1/hosts", "/v1/dead-letters", "/v1/activities/" + anID + "/deliveries"}
	for _, path := range paths {
		g := newRig(t)
		g.queue.keys = nil
		if got := g.do("GET", path, "").Body.String(); got != `{"items":[]}`+"\n" {
			t.Errorf("%s: empty list is %s", path, got)
		}
		for _, limit := range []string{"0", "-1", "501", "x", "", "1.5", "99999999999999999999"} {
			p := wantProblem(t, g.do("GET", path+"?limit="+limit, ""), 422)
			if p.Errors[0].Location != "query.limit" {
				t.Errorf("%s: %+v", path, p.Errors)
			}
		}
		g.queue.err = queue.ErrBadCursor
		if p := wantProblem(t, g.do("GET", path+"?cursor=x", ""), 422); p.Errors[0].Location != "query.cursor" {
			t.Errorf("%s: %+v", path, p.Errors)
		}
	}
}

func TestBadFilters(t *testing.T) {
	for target, location := range map[string]string{
		"/v1/hosts?state=dead": "query.state",
		"/v1/activities/" + anID + "/deliveries?state=delivered": "query.state",
		"/v1/dead-letters?reason=bad_url":                        "query.reason",
		"/v1/dead-letters?since=yesterday":                       "query.since",
		"/v1/dead-letters?host=" + url.QueryEscape("a b"):        "query.host",
	} {
		if p := wantProblem(t, newRig(t).do("GET", target, ""), 422); p.Errors[0].Location != location {
			t.Errorf("%s: %+v", target, p.Errors)
		}
	}
}

func TestHealth(t *testing.T) {
	g := newRig(t)
	wantStatus(t, g.do("GET", "/readyz", ""), 200)
	g.queue.err = errAway
	if rec := g.do("GET", "/healthz", ""); rec.Code != http.StatusOK || rec.Body.String() != `{"status":"ok"}`+"\n" {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if p := wantProblem(t, g.do("GET", "/readyz", ""), 503); p.Detail != "the store is away" {
		t.Errorf("got %+v", p)
	}
}
