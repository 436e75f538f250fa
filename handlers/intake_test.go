package handlers

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
)

// post makes an intake call that must be accepted, and returns its answer and what the store got.
func (g *rig) post(t testing.TB, body string) (accepted, *queue.Submission) {
	t.Helper()
	rec := g.do("POST", "/v1/activities", body)
	wantStatus(t, rec, 202)
	return decode[accepted](t, rec), g.queue.submissions[len(g.queue.submissions)-1]
}

func TestIntake(t *testing.T) {
	g := newRig(t)
	// Spaces, escapes, order, big numbers and repeated names below the top: all must survive.
	activity := "{ \"type\":\"Create\" ,\n\t\"id\":\"https:\\/\\/app.example/a/\\u0031\", \"n\":1.0E+2, \"big\":12345678901234567890, \"x\":{\"a\":1,\"a\":2}, \"e\":\"\u00e9\\u00e9<&\" }"
	got, sub := g.post(t, ` { "key_id":"`+alice+`" , "activity" :  `+activity+` ,"inboxes":["HTTPS://One.Example:443/inbox"],"priority":"low","expires_in":"90m"} `)
	if string(sub.Body) != activity {
		t.Errorf("activity changed:\n got %q\nwant %q", sub.Body, activity)
	}
	if id, err := uuid.Parse(got.ID); err != nil || id.Version() != 7 {
		t.Errorf("ID %q is not a UUID of version 7", got.ID)
	}
	want := accepted{ID: sub.ID, ActivityID: "https://app.example/a/1", Accepted: 1, Rejected: []rejection{}, URL: "/v1/activities/" + sub.ID}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	sub.Body = nil
	sub.ID = ""
	sub.Idempotency = queue.Idempotency{}
	wantSub := &queue.Submission{
		Activity: queue.Activity{
			URI: "https://app.example/a/1", Type: "Create", KeyID: alice, OrderingKey: "https://app.example/a/1", Priority: queue.Low,
		},
		Recipients: []queue.Recipient{{Inbox: "https://one.example/inbox", Host: "one.example"}},
		TTL:        90 * time.Minute,
	}
	if diff := cmp.Diff(wantSub, sub); diff != "" {
		t.Error(diff)
	}
}

func TestAnswerHasTheMembersPromised(t *testing.T) {
	rec := newRig(t).do("POST", "/v1/activities", call(anActivity, aKey, `"inboxes":["https://one.example/inbox","https://10.0.0.1/"]`))
	got := decode[map[string]any](t, rec)
	for _, name := range []string{"id", "activity_id", "accepted", "duplicates", "rejected", "url"} {
		if _, ok := got[name]; !ok {
			t.Errorf("no %s in %s", name, rec.Body)
		}
	}
	one := got["rejected"].([]any)[0].(map[string]any)
	if one["inbox"] != "https://10.0.0.1/" || one["reason"] != "private_address" || one["detail"] == "" {
		t.Errorf("rejected %v", one)
	}
	if rec := newRig(t).do("POST", "/v1/activities", with(`"priority":null`)); !strings.Contains(rec.Body.String(), `"rejected":[]`) {
		t.Errorf("no empty list in %s", rec.Body)
	}
}

func TestDefaults(t *testing.T) {
	g := newRig(t)
	if _, sub := g.post(t, call(anActivity, aKey, anInbox)); sub.Priority != queue.Normal || sub.TTL != 72*time.Hour {
		t.Errorf("priority %d, TTL %s", sub.Priority, sub.TTL)
	}
	g = newRig(t, func(o *Options) { o.DeliveryTTL = time.Hour })
	if _, sub := g.post(t, with(`"expires_in":null,"ordering_key":null,"recipients":null`)); sub.TTL != time.Hour {
		t.Errorf("TTL %s", sub.TTL)
	}
	if _, sub := g.post(t, with(`"expires_in":"720h","priority":"high"`)); sub.TTL != 720*time.Hour || sub.Priority != queue.High {
		t.Errorf("priority %d, TTL %s", sub.Priority, sub.TTL)
	}
}

func TestMetadata(t *testing.T) {
	g := newRig(t)
	if _, sub := g.post(t, with("\"metadata\":{ \"status_id\": 42,\n \"x\":[\"\\u00e9\"] }")); string(sub.Metadata) != `{"status_id":42,"x":["é"]}` && string(sub.Metadata) != `{"status_id":42,"x":["\u00e9"]}` {
		t.Errorf("metadata %s", sub.Metadata)
	}
	if _, sub := g.post(t, with(`"metadata":null`)); sub.Metadata != nil || sub.Actor != "https://app.example/users/alice" {
		t.Errorf("metadata %q, actor %s", sub.Metadata, sub.Actor)
	}
	for members, want := range map[string]code{
		`"metadata":[]`: codeWrongType, `"metadata":"x"`: codeWrongType, `"metadata":{"x":"` + strings.Repeat("a", maxMetadata-7) + `"}`: codeTooLong,
	} {
		if p := wantProblem(t, newRig(t).do("POST", "/v1/activities", with(members)), 422); p.Errors[0].Code != want || p.Errors[0].Location != "body.metadata" {
			t.Errorf("%.30s: %+v", members, p.Errors)
		}
	}
	if rec := newRig(t).do("POST", "/v1/activities", with(`"metadata":{"x":"`+strings.Repeat("a", maxMetadata-8)+`"}`)); rec.Code != 202 {
		t.Errorf("metadata of 4 KiB: %d %s", rec.Code, rec.Body)
	}
}

// TestAcceptedAlthoughOdd: what is no business of ours passes.
func TestAcceptedAlthoughOdd(t *testing.T) {
	for name, body := range map[string]string{
		"repeated names inside":   activityWith(goodID + `,"object":{"a":1,"a":2}`),
		"deep":                    activityWith(goodID + `,"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000)),
		"deep objects":            activityWith(goodID + `,"object":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000)),
		"recipient full of nulls": recipientWith(`"id":null,"shared_inbox":null,"headers":null`),
		"the inbox only shared":   call(anActivity, aKey, `"recipients":[{"shared_inbox":"https://one.example/inbox"}]`),
		"16 headers":              manyHeaders(16, 1),
		"id that is no URL":       activityWith(`"id":"tag:app.example,2026:1"`),
	} {
		if rec := newRig(t).do("POST", "/v1/activities", body); rec.Code != 202 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
}

func TestAudience(t *testing.T) {
	const shared = `"shared_inbox":"https://three.example/inbox"`
	to := func(inbox string, hs ...queue.Header) queue.Recipient {
		return queue.Recipient{Inbox: inbox, Host: strings.Split(inbox, "/")[2], Headers: hs}
	}
	knowing := func(inbox string, ids ...string) queue.Recipient {
		r := to(inbox)
		r.IDs = ids
		return r
	}
	const bob, carol = "https://app.example/users/bob", "https://app.example/users/carol"
	x, y := queue.Header{Name: "X-A", Value: "1"}, queue.Header{Name: "X-B", Value: "2"}
	tests := []struct {
		name, members string
		want          []queue.Recipient
	}{
		{"shared inbox wins and merges", `"recipients":[{"inbox":"https://three.example/a",` + shared + `},{"inbox":"https://three.example/b",` + shared + `}]`,
			[]queue.Recipient{to("https://three.example/inbox")}},
		{"headers merge", `"recipients":[{` + shared + `,"headers":{"x-a":"1"}},{` + shared + `,"headers":{"X-A":" 1 ","X-B":"2"}},{` + shared + `}]`,
			[]queue.Recipient{to("https://three.example/inbox", x, y)}},
		{"twice in one list", `"inboxes":["https://one.example/inbox","https://ONE.example:443/inbox","https://one.example/inbox"]`,
			[]queue.Recipient{to("https://one.example/inbox")}},
		{"in both lists", `"inboxes":["https://one.example/inbox"],"recipients":[{"inbox":"https://one.example/inbox","headers":{"x-a":"1"}}]`,
			[]queue.Recipient{to("https://one.example/inbox", x)}},
		{"the actor's own", `"recipients":[{"id":"https://app.example/users/alice","inbox":"https://app.example/alice"},{"id":"https://app.example/users/bob","inbox":"https://app.example/bob"}]`,
			[]queue.Recipient{knowing("https://app.example/bob", bob)}},
		{"the actor's own among inboxes", `"inboxes":["https://app.example/alice","https://one.example/inbox"],"recipients":[{"id":"https://app.example/users/alice","inbox":"https://APP.example/alice"}]`,
			[]queue.Recipient{to("https://one.example/inbox")}},
		{"the actor's own by ids", `"inboxes":["https://app.example/alice"],"recipients":[{"ids":["https://app.example/users/alice"],"inbox":"https://app.example/alice"},{"ids":["https://app.example/users/bob","https://app.example/users/carol"],"inbox":"https://app.example/bob"}]`,
			[]queue.Recipient{knowing("https://app.example/bob", bob, carol)}},
		{"actors merge", `"recipients":[{"ids":["` + bob + `","` + carol + `","` + bob + `"],` + shared + `},{` + shared + `},{"id":"` + carol + `","ids":["","https://app.example/users/dan"],` + shared + `}]`,
			[]queue.Recipient{knowing("https://three.example/inbox", bob, carol, "https://app.example/users/dan")}},
		{"the actor's own, shared with another", `"recipients":[{"id":"https://app.example/users/alice","inbox":"https://app.example/all"},{"id":"https://app.example/users/bob","inbox":"https://app.example/all"}]`,
			[]queue.Recipient{knowing("https://app.example/all", bob)}},
		{"the actor does not speak for its shared inbox", `"recipients":[{"id":"https://app.example/users/alice","inbox":"https://app.example/alice","shared_inbox":"https://app.example/inbox"},{"inbox":"https://app.example/inbox"}]`,
			[]queue.Recipient{to("https://app.example/inbox")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, activity := range []string{anActivity, strings.Replace(anActivity, `"https://app.example/users/alice"`, `{"name":"Alice","id":"https://app.example/users/alice"}`, 1)} {
				got, sub := newRig(t).post(t, call(tt.members, activity, aKey))
				if diff := cmp.Diff(tt.want, sub.Recipients); diff != "" || got.Accepted != len(tt.want) || len(got.Rejected) > 0 {
					t.Errorf("%+v\n%s", got, diff)
				}
			}
		})
	}
}

// TestActivityIsCopied: the store may keep an activity for longer than the call, of up to 64 MiB, lasts. It keeps
// little else with it.
func TestActivityIsCopied(t *testing.T) {
	for name, inboxes := range map[string]int{"small call": 1, "large call": 1000} {
		body := []byte(largeCall(inboxes, false))
		c, err := parseCall(body)
		if err != nil {
			t.Fatal(err)
		}
		if got := `"activity":` + string(c.Activity); got != anActivity {
			t.Errorf("%s: got %q", name, got)
		}
		size := len(c.Activity)
		clear(body)
		if shared := c.Activity[0] == 0; shared && len(body) > 2*size {
			t.Errorf("%s: an activity of %d bytes keeps a call of %d", name, size, len(body))
		}
	}
}

// TestHeadersAreCountedWhileRead: it must not be left to the merging, whose cost grows with the square of them.
func TestHeadersAreCountedWhileRead(t *testing.T) {
	if _, err := parseCall([]byte(manyHeaders(maxHeaders+1, 0))); err == nil {
		t.Error("17 headers were read")
	}
}

func TestMergedHeadersAreBounded(t *testing.T) {
	var list []string
	for i := range maxHeaders + 1 {
		list = append(list, fmt.Sprintf(`{"inbox":"https://one.example/inbox","headers":{"X-%d":"v"}}`, i))
	}
	p := wantProblem(t, newRig(t).do("POST", "/v1/activities", call(anActivity, aKey, `"recipients":[`+strings.Join(list, ",")+`]`)), 422)
	if p.Errors[0].Location != "body.recipients[16].headers.X-16" {
		t.Errorf("got %+v", p.Errors)
	}
}

func TestRejected(t *testing.T) {
	g := newRig(t)
	g.queue.refuse = map[string]queue.Reason{
		"https://blocked.example/inbox": queue.ReasonHostBlocked, "https://dead.example/inbox": queue.ReasonHostUnavailable,
	}
	g.queue.duplicate = map[string]bool{"https://two.example/inbox": true}
	got, _ := g.post(t, call(anActivity, aKey, `"inboxes":["https://one.example/inbox","https://two.example/inbox",
		"https://blocked.example/inbox","ftp://x.example/","https://dead.example/inbox","http://plain.example/","https://localhost/inbox","ftp://x.example/"]`))
	var reasons []string
	for _, r := range got.Rejected {
		reasons = append(reasons, r.Inbox+" "+r.Reason)
		if r.Detail == "" {
			t.Errorf("no detail for %s", r.Inbox)
		}
	}
	want := []string{
		"ftp://x.example/ bad_url", "http://plain.example/ http_not_allowed", "https://localhost/inbox private_address",
		"https://blocked.example/inbox host_blocked", "https://dead.example/inbox host_unavailable",
	}
	if diff := cmp.Diff(want, reasons); diff != "" || got.Accepted != 1 || got.Duplicates != 1 {
		t.Errorf("%+v\n%s", got, diff)
	}
}

// Callers find what was rejected by the URL that they sent, so it comes back whole if it may be one at all.
func TestRejectedComesBackWhole(t *testing.T) {
	start := "https://localhost/"
	for _, length := range []int{netguard.MaxURL, netguard.MaxURL + 1} {
		inbox := start + strings.Repeat("x", length-len(start))
		got, _ := newRig(t).post(t, call(anActivity, aKey, `"inboxes":["https://one.example/inbox",`+strconv.Quote(inbox)+`]`))
		if len(got.Rejected) != 1 || (got.Rejected[0].Inbox == inbox) != (length <= netguard.MaxURL) || len(got.Rejected[0].Inbox) > length+2 {
			t.Errorf("%d bytes: rejected %+v", length, got.Rejected)
		}
	}
}

func TestAllowed(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.AllowHTTP, o.Policy = true, netguard.NewPolicy([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	})
	if got, sub := g.post(t, call(anActivity, aKey, `"inboxes":["http://127.0.0.1:8081/inbox"]`)); got.Accepted != 1 || sub.Recipients[0].Host != "127.0.0.1:8081" {
		t.Errorf("got %+v, %+v", got, sub.Recipients)
	}
}

func TestNothingAcceptable(t *testing.T) {
	g := newRig(t)
	g.queue.refuse = map[string]queue.Reason{"https://blocked.example/inbox": queue.ReasonHostBlocked}
	p := wantProblem(t, g.do("POST", "/v1/activities", call(anActivity, aKey,
		`"inboxes":["https://10.0.0.1/"],"recipients":[{"inbox":"https://x.example/","shared_inbox":"https://Blocked.example/inbox"}]`)), 422)
	want := []string{"body.inboxes[0] https://10.0.0.1/ private_address", "body.recipients[0].shared_inbox https://blocked.example/inbox host_blocked"}
	var got []string
	for _, f := range p.Errors {
		got = append(got, f.Location+" "+f.Inbox+" "+string(f.Code))
		if f.Detail == "" || f.Reason != string(f.Code) {
			t.Errorf("bare fault %+v", f)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || p.Type != "/problems/no-inbox-accepted" {
		t.Errorf("type %s: %s", p.Type, diff)
	}
}

// TestProblemPages: the type of a problem is the address of a page about it, which needs no token.
func TestProblemPages(t *testing.T) {
	g := newRig(t, withTokens)
	for address, page := range problemPages {
		rec := g.do("GET", address, "")
		wantStatus(t, rec, 200)
		if rec.Body.String() != page || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %v %s", address, rec.Header(), rec.Body)
		}
	}
	for _, reason := range append(texts(rejectionReasons), string(codeOwnActor)) {
		if !strings.Contains(problemPages[noInboxAcceptedType], "\n  "+reason+" ") {
			t.Errorf("the page does not explain %s", reason)
		}
	}
	wantProblem(t, g.do("GET", "/problems/none", "", "Authorization", "Bearer 0123456789abcdef"), 404)
}

// TestStoreErrors: the answer says whether to come back, and nothing about the store.
func TestStoreErrors(t *testing.T) {
	secret := errors.New("dial tcp 10.1.2.3:6379: password hunter2")
	tests := []struct {
		err    error
		status int
		retry  string
	}{
		{secret, 503, "5"},
		{fmt.Errorf("full: %w: %w", queue.ErrFull, secret), 503, "60"},
		{fmt.Errorf("busy: %w: %w", queue.ErrBusy, secret), 429, "1"},
		{fmt.Errorf("enqueue: %w", queue.ErrUnderWay), 429, "5"},
		{fmt.Errorf("closed: %w: %w", queue.ErrClosed, secret), 503, "5"},
	}
	for _, tt := range tests {
		g := newRig(t)
		g.queue.err = tt.err
		for _, target := range []string{
			"POST /v1/activities", "GET /v1/activities/" + anID, "DELETE /v1/activities/" + anID, "GET /v1/stats", "GET /v1/keys",
			"GET /v1/activities/" + anID + "/deliveries", "GET /v1/hosts", "GET /v1/hosts/a.example", "GET /v1/dead-letters",
			"DELETE /v1/keys?key_id=x", "PUT /v1/keys", "GET /readyz",
		} {
			method, path, _ := strings.Cut(target, " ")
			body := map[string]string{"POST": call(anActivity, aKey, anInbox), "PUT": keyExample}[method]
			rec := g.do(method, path, body)
			wantProblem(t, rec, tt.status)
			if rec.Header().Get("Retry-After") != tt.retry || strings.Contains(rec.Body.String(), "hunter2") {
				t.Errorf("%s: Retry-After %q in %s", target, rec.Header().Get("Retry-After"), rec.Body)
			}
		}
		if logged := strings.Count(g.log.String(), "hunter2"); tt.status == 503 && logged != 12 {
			t.Errorf("%v was logged %d times for 12 calls", tt.err, logged)
		}
	}
}
