package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// script answers requests one after the other, in a bubble, and keeps them.
type script struct {
	answers []func(*http.Request) (*http.Response, error)
	asked   []asked
}

type asked struct {
	request, key, media, token, body string
	at                               time.Duration // since the first
}

// RoundTrip implements http.RoundTripper.
func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of every bubble
	s.asked = append(s.asked, asked{
		r.Method + " " + r.URL.RequestURI(), r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"),
		r.Header.Get("Authorization"), string(body), time.Since(began),
	})
	if len(s.answers) == 0 {
		return nil, errors.New("the node is away")
	}
	next := s.answers[0]
	s.answers = s.answers[1:]
	return next(r)
}

// client returns a client of a node that gives these answers, and then none.
func (s *script) client(answers ...func(*http.Request) (*http.Response, error)) *Client {
	s.answers = answers
	return New(Options{URL: "http://node.example/", Token: "secret", HTTP: &http.Client{Transport: s}})
}

// says answers a status and a body; headers are names and values alternately.
func says(status int, body string, headers ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
		if status >= 400 {
			resp.Header.Set("Content-Type", "application/problem+json")
		}
		for i := 0; i < len(headers); i += 2 {
			resp.Header.Set(headers[i], headers[i+1])
		}
		return resp, nil
	}
}

// breaksOff answers the beginning of a body.
func breaksOff(r *http.Request) (*http.Response, error) {
	resp, err := says(202, "")(r)
	resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"id":`), errReader{}))
	return resp, err
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func dies(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

var aCall = Call{Activity: Text(`{ "id" : "https://app.example/a/1", "content": "<é\u2028>" }`), KeyID: "k", Inboxes: []string{"https://one.example/inbox"}}

const (
	aCallText = `{"activity":"{ \"id\" : \"https://app.example/a/1\", \"content\": \"<é\\u2028>\" }","key_id":"k","inboxes":["https://one.example/inbox"]}`
	anAnswer  = `{"id":"x","activity_id":"https://app.example/a/1","accepted":1,"rejected":[{"inbox":"i","reason":"host_blocked"}],"url":"/v1/activities/x"}`
)

func TestDeliverRepeatsUntilItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		c := s.client(dies, breaksOff, says(503, `{"detail":"the store is away"}`, "Retry-After", "7"), says(502, "<html>", "Content-Type", "text/html"),
			says(202, anAnswer, "Idempotent-Replayed", "true"))
		got, err := c.Deliver(t.Context(), aCall)
		want := Accepted{
			ID: "x", ActivityID: "https://app.example/a/1", Accepted: 1, Rejected: []Rejection{{Inbox: "i", Reason: "host_blocked"}},
			URL: "/v1/activities/x", Replayed: true,
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("error %v, got (+)\n%s", err, diff)
		}
		if len(s.asked) != 5 {
			t.Fatalf("asked %d times", len(s.asked))
		}
		for _, a := range s.asked {
			if a.request != "POST /v1/activities" || a.body != aCallText || len(a.key) < 20 || a.key != s.asked[0].key ||
				a.token != "Bearer secret" || a.media != "application/json" {
				t.Errorf("asked %+v", a)
			}
		}
		pause := func(i int) time.Duration { return s.asked[i].at - s.asked[i-1].at }
		if pause(1) < firstPause || pause(1) > 2*firstPause || pause(2) < 2*firstPause || pause(3) != 7*time.Second || pause(4) < 8*firstPause {
			t.Errorf("pauses %v, %v, %v, %v", pause(1), pause(2), pause(3), pause(4))
		}
	})
}

func TestDeliverMakesAKeyForEachCall(t *testing.T) {
	s := &script{}
	c := s.client(says(202, anAnswer), says(202, anAnswer), says(202, anAnswer))
	own := aCall
	own.IdempotencyKey = "mine"
	for _, call := range []Call{aCall, aCall, own} {
		if got, err := c.Deliver(t.Context(), call); err != nil || got.Replayed {
			t.Errorf("%+v, error %v", got, err)
		}
	}
	if s.asked[0].key == s.asked[1].key || s.asked[2].key != "mine" || !strings.Contains(s.asked[2].body, `"idempotency_key":"mine"`) {
		t.Errorf("asked %+v", s.asked)
	}
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		if _, err := s.client().Deliver(t.Context(), aCall); err == nil || err.Error() != "no answer from http://node.example: the node is away" {
			t.Errorf("error %v", err)
		}
		if last := s.asked[len(s.asked)-1].at; last < 45*time.Second || last > time.Minute {
			t.Errorf("asked last after %s", last)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		c := New(Options{URL: "http://node.example", HTTP: &http.Client{Transport: s}, Patience: -1})
		if _, err := c.Deliver(t.Context(), aCall); err == nil || len(s.asked) != 1 {
			t.Errorf("asked %d times, error %v", len(s.asked), err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := &script{}
		if _, err := s.client().Deliver(ctx, aCall); err == nil || time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) != time.Second {
			t.Errorf("asked %d times, error %v", len(s.asked), err)
		}
	})
}

func TestWhatRepeatingCannotChange(t *testing.T) {
	rejected := `{"type":"/problems/no-inbox-accepted","status":422,"detail":"no inbox was accepted","errors":[{"location":"body.inboxes[0]","message":"it is blocked","code":"host_blocked","inbox":"i"}]}`
	for name, tt := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		call   Call
		says   string
		nobody bool
	}{
		"nobody left":  {says(422, rejected), aCall, "422 Unprocessable Entity: no inbox was accepted; body.inboxes[0]: it is blocked", true},
		"a redirect":   {says(307, "", "Location", "http://evil.example/"), aCall, "307 Temporary Redirect", false},
		"another web":  {says(200, "<html>"), aCall, ErrNotPostrider.Error(), false},
		"a proxy":      {says(403, `{"detail":"x"}`, "Content-Type", "text/html"), aCall, "403 Forbidden", false},
		"not UTF-8":    {says(202, anAnswer), Call{Activity: Text("\"\xff\"")}, "encode the call: json: error calling MarshalText for type client.Text: the activity is not UTF-8", false},
		"a bad method": {says(202, anAnswer), aCall, "", false},
	} {
		s := &script{}
		c := s.client(tt.answer)
		_, err := c.Deliver(t.Context(), tt.call)
		if name == "a bad method" {
			if _, err = c.Do(t.Context(), "A B", "/", nil, nil); !errors.Is(err, errRequest) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || err.Error() != tt.says || len(s.asked) > 1 {
			t.Errorf("%s: asked %d times, error %v", name, len(s.asked), err)
		}
		if refused, ok := errors.AsType[*Error](err); (ok && refused.NoInboxAccepted()) != tt.nobody {
			t.Errorf("%s: nobody is left: %t", name, !tt.nobody)
		}
	}
}

func TestBatch(t *testing.T) {
	const bad = `{"status":422,"detail":"the call is not valid","errors":[{"location":"body.activity","message":"is missing","code":"missing"}]}`
	const full = `{"status":503,"detail":"the store is away","retry_after":3}`
	accepted := `{"status":202,` + anAnswer[1:]
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		c := s.client(
			says(200, accepted+"\n"),                      // broke off
			says(200, accepted+"\n"+bad+"\n"+full+"\n"),   // one may be accepted later
			says(200, accepted+"\n"+bad+"\n"+accepted+""), // the last line needs no end
		)
		results, err := c.Batch(t.Context(), []Call{aCall, {}, aCall})
		if err != nil || len(results) != 3 || results[0].Err != nil || results[2].Err != nil || results[2].ID != "x" {
			t.Fatalf("%+v, error %v", results, err)
		}
		if refused := results[1].Err; refused == nil || refused.Status != 422 || refused.Errors[0].Code != "missing" || refused.Temporary() {
			t.Errorf("refused %+v", refused)
		}
		for _, a := range s.asked {
			if a.request != "POST /v1/activities/batch" || a.media != "application/x-ndjson" || a.key == "" || a.key != s.asked[0].key ||
				a.body != aCallText+"\n"+`{"activity":""}`+"\n"+aCallText+"\n" {
				t.Errorf("asked %+v", a)
			}
		}
		if pause := s.asked[2].at - s.asked[1].at; pause != 3*time.Second {
			t.Errorf("came again after %s", pause)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		c := New(Options{URL: "http://node.example", HTTP: &http.Client{Transport: s}, Patience: -1})
		s.answers = append(s.answers, says(200, accepted+"\n"+full+"\n"))
		results, err := c.Batch(t.Context(), []Call{aCall, aCall})
		if err != nil || results[0].Err != nil || results[1].Err == nil || results[1].Err.RetryAfter != 3*time.Second {
			t.Errorf("%+v, error %v", results, err)
		}
		if results, err = c.Batch(t.Context(), []Call{aCall}); err == nil {
			t.Errorf("%+v from a node that is away", results)
		}
	})
}

func TestKeysAndHosts(t *testing.T) {
	s := &script{}
	c := s.client(
		says(201, `{"key_id":"a#1","algorithm":"rsa"}`), says(200, `{"items":[{"key_id":"a#1"}],"next_cursor":"c+&"}`), says(200, `{"items":[{"key_id":"b","pending":2}]}`),
		says(204, ""), says(202, ""), says(200, `{"items":[{"host":"one.example","state":"open"}]}`), says(200, `{"host":"one.example","last_error":{"status":503}}`),
		says(200, `{"host":"[::1]:80","state":"paused"}`),
		says(200, `{"items":[{"id":"d1","waits_for":"host","priority":"low"}]}`),
		says(200, `{"host":"one.example","orders":[{"action":"pause","host":"one.example","by":"app","since":"2026-01-02T03:04:05Z"}]}`),
		says(200, "{}"), says(200, `{"state":"blocked"}`), says(409, `{"detail":"unblock example instead"}`), says(401, `{"detail":"no token"}`),
	)
	ctx := t.Context()
	info, err := c.PutKey(ctx, Key{ID: "a#1", JWK: json.RawMessage(`{"kty":"OKP"}`)})
	if err != nil || info.Algorithm != "rsa" {
		t.Errorf("%+v, error %v", info, err)
	}
	var ids []string
	for k, err := range c.Keys(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.ID)
	}
	if err := errors.Join(c.DeleteKey(ctx, "a#1"), c.DeleteKeyWhenIdle(ctx, "b")); err != nil || strings.Join(ids, " ") != "a#1 b" {
		t.Errorf("keys %v, error %v", ids, err)
	}
	for h, err := range c.Hosts(ctx, "open") {
		if err != nil || h.State != "open" {
			t.Errorf("%+v, error %v", h, err)
		}
	}
	if h, err := c.Host(ctx, "one.example"); err != nil || h.LastError.Status != 503 {
		t.Errorf("%+v, error %v", h, err)
	}
	if h, err := c.ActOnHost(ctx, "[::1]:80", "pause"); err != nil || h.State != "paused" {
		t.Errorf("%+v, error %v", h, err)
	}
	for d, err := range c.HostDeliveries(ctx, "[::1]:80") {
		if err != nil || d.ID != "d1" || d.WaitsFor != "host" || d.Priority != "low" {
			t.Errorf("%+v, error %v", d, err)
		}
	}
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	h, err := c.PauseHost(ctx, "one.example", Order{Reason: "they move", Until: until, By: "not sent"})
	if err != nil || len(h.Orders) != 1 || h.Orders[0].By != "app" || h.Orders[0].Since.IsZero() {
		t.Errorf("%+v, error %v", h, err)
	}
	if _, err := c.ResumeHost(ctx, "one.example"); err != nil {
		t.Error(err)
	}
	if h, err := c.BlockHost(ctx, "one.example", Order{Subdomains: true}); err != nil || h.State != "blocked" {
		t.Errorf("%+v, error %v", h, err)
	}
	_, err = c.UnblockHost(ctx, "x.one.example")
	if covered, ok := errors.AsType[*Error](err); !ok || covered.Status != 409 {
		t.Errorf("error %v", err)
	}
	for _, err := range c.Hosts(ctx, "") {
		if refused, ok := errors.AsType[*Error](err); !ok || refused.Status != 401 {
			t.Errorf("error %v", err)
		}
	}
	var got []string
	for _, a := range s.asked {
		got = append(got, strings.TrimSpace(a.request+" "+a.body))
	}
	want := []string{
		`PUT /v1/keys {"key_id":"a#1","private_key_jwk":{"kty":"OKP"}}`, "GET /v1/keys?limit=500", "GET /v1/keys?cursor=c%2B%26&limit=500",
		"DELETE /v1/keys?key_id=a%231", "DELETE /v1/keys?key_id=b&when=idle", "GET /v1/hosts?limit=500&state=open", "GET /v1/hosts/one.example",
		"POST /v1/hosts/%5B::1%5D:80/pause", "GET /v1/hosts/%5B::1%5D:80/deliveries?limit=500",
		`POST /v1/hosts/one.example/pause {"reason":"they move","until":"2030-01-02T03:04:05Z"}`,
		"POST /v1/hosts/one.example/resume", `POST /v1/hosts/one.example/block {"subdomains":true}`, "POST /v1/hosts/x.one.example/unblock", "GET /v1/hosts?limit=500",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFeedSurvivesTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		first := `{"type":"dead","at":"2026-11-29T02:11:51.222Z","cursor":"7","id":"x.1","host":"one.example","reason":"gone","ids":["i"],"new":1}`
		c := s.client(
			says(200, `{"items":[`+first+`,{"cursor":"8","type":"host_state","at":"2026-11-29T02:11:52Z"}],"next_cursor":"8"}`),
			dies, says(503, `{}`), dies, dies, dies, dies, dies, dies, dies, dies, dies, dies, dies, dies, dies, dies, // two minutes
			says(200, `{"items":[],"next_cursor":"9"}`), // the entry 9 was of no wanted type
			says(200, `{"items":[{"cursor":"10","type":"dead","at":"2026-11-29T02:11:53Z"}],"next_cursor":"10"}`),
			says(200, `{"items":[],"next_cursor":"10"}`),
			says(422, `{"detail":"the call is not valid"}`),
		)
		var got []string
		var end error
		for e, err := range c.Feed(t.Context(), FeedOptions{After: "6", Types: []string{"dead", "host_state"}, Hosts: []string{"one.example"}}) {
			if end = err; err != nil {
				break
			}
			got = append(got, e.Cursor+" "+e.Type)
			if e.Cursor == "7" && (string(e.Data) != first || e.ID != "x.1" || e.IDs[0] != "i" || !e.At.Equal(time.Date(2026, 11, 29, 2, 11, 51, 222e6, time.UTC))) {
				t.Errorf("%+v with %s", e, e.Data)
			}
		}
		if diff := cmp.Diff([]string{"7 dead", "8 host_state", "10 dead"}, got); diff != "" {
			t.Error(diff)
		}
		if refused, ok := errors.AsType[*Error](end); !ok || refused.Status != 422 {
			t.Errorf("ended with %v", end)
		}
		const path = "GET /v1/feed?after=8&host=one.example&limit=500&type=dead&type=host_state"
		if s.asked[0].request != strings.Replace(path, "=8", "=6", 1) || s.asked[1].request != path || s.asked[17].request != path ||
			s.asked[18].request != strings.Replace(path, "=8", "=9", 1) || s.asked[18].at != s.asked[17].at ||
			s.asked[20].request != strings.Replace(path, "=8", "=10", 1) || s.asked[20].at-s.asked[19].at != defaultPoll {
			t.Errorf("asked %+v", s.asked)
		}
		if s.asked[17].at < 2*time.Minute {
			t.Errorf("the node was away for %s only", s.asked[17].at)
		}
	})
}

func TestFeedEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &script{}
		c := s.client(says(200, `{"items":[],"next_cursor":"1"}`), says(200, `{"items":[],"next_cursor":"1"}`), says(200, `{"items":[],"next_cursor":"1"}`), says(200, `{"items":[],"next_cursor":"1"}`))
		for e, err := range c.Feed(ctx, FeedOptions{After: "now"}) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%+v, error %v", e, err)
			}
		}
		if len(s.asked) != 4 || s.asked[0].request != "GET /v1/feed?after=now&limit=500" || s.asked[2].request != "GET /v1/feed?after=1&limit=500" {
			t.Errorf("asked %+v", s.asked)
		}
	})
}
