package handlers

import (
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/queue"
)

func TestIdempotency(t *testing.T) {
	g := newRig(t)
	body := call(anActivity, aKey, `"inboxes":["https://one.example/inbox","ftp://x.example/"]`)
	post := func(body string, headers ...string) *httptest.ResponseRecorder {
		return g.do("POST", "/v1/activities", body, headers...)
	}
	same := func(a, b *httptest.ResponseRecorder) {
		t.Helper()
		if a.Code != 202 || b.Code != 202 || a.Body.String() != b.Body.String() {
			t.Errorf("answers differ: %d %s, %d %s", a.Code, a.Body, b.Code, b.Body)
		}
		if a.Header().Get("Idempotent-Replayed") != "" || b.Header().Get("Idempotent-Replayed") != "true" {
			t.Error("only the second answer is replayed")
		}
	}
	same(post(body, "Idempotency-Key", "k1"), post(body, "Idempotency-Key", "k1"))
	if p := wantProblem(t, post(body+" ", "Idempotency-Key", "k1"), 422); p.Errors[0].Location != "header.Idempotency-Key" {
		t.Errorf("got %+v", p.Errors)
	}
	if sub := g.queue.submissions[0]; sub.Idempotency.Fingerprint != sha256.Sum256([]byte(body)) {
		t.Error("the fingerprint is not that of the body")
	}
}

// TestCallsWithoutAKeyStandForThemselves: only an Idempotency-Key makes two calls one, not that they have the same bytes.
func TestCallsWithoutAKeyStandForThemselves(t *testing.T) {
	g := newRig(t)
	body := call(anActivity, aKey, anInbox)
	first, _ := g.post(t, body)
	second, sub := g.post(t, body)
	if len(g.queue.submissions) != 2 || first.ID == second.ID || sub.Idempotency != (queue.Idempotency{}) {
		t.Errorf("%d submissions, IDs %s and %s, idempotency %v", len(g.queue.submissions), first.ID, second.ID, sub.Idempotency)
	}
	if rec := g.do("POST", "/v1/activities", body, "Idempotency-Key", "k1"); rec.Code != 202 || rec.Header().Get("Idempotent-Replayed") != "" {
		t.Errorf("a first call with a key: %d %v", rec.Code, rec.Header())
	}
}

func TestBadIdempotencyKeys(t *testing.T) {
	body := call(anActivity, aKey, anInbox)
	for _, key := range []string{" ", "a b", "a\x7f", "é", strings.Repeat("k", 256)} {
		p := wantProblem(t, newRig(t).do("POST", "/v1/activities", body, "Idempotency-Key", key), 422)
		if p.Errors[0].Location != "header.Idempotency-Key" {
			t.Errorf("%q: %+v", key, p.Errors)
		}
	}
	wantProblem(t, newRig(t).do("POST", "/v1/activities", body, "Idempotency-Key", "a", "Idempotency-Key", "b"), 422)
	wantStatus(t, newRig(t).do("POST", "/v1/activities", body, "Idempotency-Key", strings.Repeat("k", 255)), 202)
}

// TestIdempotencyIsScoped: two callers never get each other's answers.
func TestIdempotencyIsScoped(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Tokens = []Token{{Name: "a", Secret: "secret-of-a"}, {Name: "b", Secret: "secret-of-b"}}
	})
	body := call(anActivity, aKey, anInbox)
	for _, secret := range []string{"secret-of-a", "secret-of-b"} {
		rec := g.do("POST", "/v1/activities", body, "Authorization", "Bearer "+secret, "Idempotency-Key", "k")
		if rec.Code != 202 || rec.Header().Get("Idempotent-Replayed") != "" {
			t.Errorf("%s: %d %v", secret, rec.Code, rec.Header())
		}
	}
	if scoped("ab", 'k', "c") == scoped("a", 'b', "kc") || scoped("a", 'k', "bk") == scoped("akb", 'k', "") {
		t.Error("scopes run into each other")
	}
}

// TestIdempotencyKeyInTheCall: a call may carry its key, so that each line of a batch has one that holds in any batch, and in
// a single call with the same bytes.
func TestIdempotencyKeyInTheCall(t *testing.T) {
	g := newRig(t)
	keyed := func(id, key string) string {
		return call(fmt.Sprintf(`"activity":{"id":%q,"type":"Like"}`, id), aKey, anInbox, fmt.Sprintf(`"idempotency_key":%q`, key))
	}
	first := g.answers(t, []string{keyed("a", "row-1"), keyed("b", "row-2")}, "Idempotency-Key", "batch-1")
	second := g.answers(t, []string{keyed("c", "row-3"), keyed("b", "row-2"), keyed("other", "row-1"), keyed("d", "a b")})
	if second[0]["replayed"] != nil || second[1]["replayed"] != true || second[1]["id"] != first[1]["id"] {
		t.Errorf("got %v, first %v", second, first)
	}
	for i, code := range map[int]string{2: "idempotency_mismatch", 3: "invalid_value"} {
		fault := second[i]["errors"].([]any)[0].(map[string]any)
		if fault["location"] != "body.idempotency_key" || fault["code"] != code {
			t.Errorf("line %d: got %v", i, fault)
		}
	}
	single := g.do("POST", "/v1/activities", keyed("a", "row-1"), "Idempotency-Key", "another")
	if single.Code != 202 || single.Header().Get("Idempotent-Replayed") != "true" || len(g.queue.submissions) != 3 {
		t.Errorf("a single call: %d %s; %d submissions", single.Code, single.Body, len(g.queue.submissions))
	}
}
