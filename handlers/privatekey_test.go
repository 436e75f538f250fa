package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// The Ed25519 key of RFC 8037, appendix A.1.
const exampleJWK = `{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

// keyedCall is a call with a key in it.
func keyedCall(key string) string {
	return `{"activity":{"id":"https://app.example/a/1","type":"Like"},"inboxes":["https://one.example/inbox"],"key":` + key + `}`
}

func fingerprint(t *testing.T, parse func([]byte) (*signer.PrivateKey, error), text string) string {
	t.Helper()
	k, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k.Fingerprint()
}

// A private JSON Web Key is as good as PEM, in both calls.
func TestJWK(t *testing.T) {
	g := newRig(t)
	want := fingerprint(t, signer.ParseJWK, exampleJWK)
	rec := g.do("PUT", "/v1/keys", `{"key_id":"j","private_key_jwk":`+exampleJWK+`}`)
	wantStatus(t, rec, 201)
	got := decode[keyView](t, rec)
	if got.Fingerprint != want || got.Algorithm != "ed25519" || got.Multibase != "z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw" {
		t.Errorf("got %+v", got)
	}
	g.post(t, keyedCall(`{"key_id":"k","private_key_jwk":`+exampleJWK+`}`))
	if g.queue.keys["k"].Fingerprint != want {
		t.Errorf("stored %+v", g.queue.keys["k"])
	}
	for body, location := range map[string]string{
		`{"key_id":"x","private_key_jwk":"text"}`:                                            "body.private_key_jwk",
		`{"key_id":"x","private_key_jwk":{}}`:                                                "body.private_key_jwk",
		`{"key_id":"x","private_key_jwk":` + exampleJWK + `,"private_key_pem":"-----BEGIN"}`: "body.private_key_jwk",
	} {
		p := wantProblem(t, g.do("PUT", "/v1/keys", body), 422)
		if len(p.Errors) == 0 || p.Errors[0].Location != location {
			t.Errorf("%s: got %+v", body, p.Errors)
		}
	}
}

// A key that comes with an activity is stored if it is new or another, and once only.
func TestKeyWithActivity(t *testing.T) {
	g := newRig(t)
	pem, jwk := fingerprint(t, signer.ParsePrivateKey, examplePEM(t)), fingerprint(t, signer.ParseJWK, exampleJWK)
	first := keyBody(t, "k", examplePEM(t))
	second := `{"key_id":"k","private_key_jwk":` + exampleJWK + `,"pin":false}`
	for i, step := range []struct {
		key, want string
		puts      int
	}{{first, pem, 1}, {first, pem, 1}, {second, jwk, 2}, {second, jwk, 2}} {
		_, sub := g.post(t, keyedCall(step.key))
		if sub.KeyID != "k" || sub.Pin != "" {
			t.Errorf("step %d: signed by %q, pin %q", i, sub.KeyID, sub.Pin)
		}
		if k := g.queue.keys["k"]; k.Fingerprint != step.want || g.queue.puts != step.puts {
			t.Errorf("step %d: stored %s after %d puts, want %s after %d", i, k.Fingerprint, g.queue.puts, step.want, step.puts)
		}
	}
	wantStatus(t, g.do("DELETE", "/v1/keys?key_id=k&when=idle", ""), 202)
	g.post(t, keyedCall(second))
	if k := g.queue.keys["k"]; k.WhenIdle {
		t.Error("a key that is used again still is removed when idle")
	}
}

// A pinned key is kept beside the one that is current under its ID.
func TestPinnedKey(t *testing.T) {
	g := newRig(t)
	_, sub := g.post(t, keyedCall(`{"key_id":"k","private_key_jwk":`+exampleJWK+`,"pin":true}`))
	jwk := fingerprint(t, signer.ParseJWK, exampleJWK)
	if sub.KeyID != "k" || sub.Pin != jwk {
		t.Errorf("signed by %q, pin %q", sub.KeyID, sub.Pin)
	}
	wantStatus(t, g.do("PUT", "/v1/keys", keyBody(t, "k", examplePEM(t))), 200)
	pinned, err := g.queue.Key(t.Context(), "k", jwk)
	if err != nil || pinned.Fingerprint != jwk || pinned.Pin != jwk {
		t.Errorf("pinned is %+v, %v", pinned, err)
	}
	if key, err := g.Sealer.Open("k", pinned.Sealed); err != nil || key.Fingerprint() != jwk {
		t.Errorf("what is pinned opens to %v, %v", key, err)
	}
	list := decode[page[keyView]](t, g.do("GET", "/v1/keys?key_id=k", ""))
	if len(list.Items) != 1 || list.Items[0].Fingerprint == jwk {
		t.Errorf("listed: %+v", list.Items)
	}
}

// A repeated call gets its first answer and stores no key: another may have been put since.
func TestRepeatedCallStoresNoKey(t *testing.T) {
	g := newRig(t)
	call := keyedCall(`{"key_id":"k","private_key_jwk":` + exampleJWK + `}`)
	send := func(body string) *httptest.ResponseRecorder {
		return g.do("POST", "/v1/activities", body, "Idempotency-Key", "once")
	}
	wantStatus(t, send(call), 202)
	wantStatus(t, g.do("PUT", "/v1/keys", keyBody(t, "k", examplePEM(t))), 200)
	rotated := g.queue.keys["k"].Fingerprint
	rec := send(call)
	wantStatus(t, rec, 202)
	if rec.Header().Get("Idempotent-Replayed") != "true" || g.queue.keys["k"].Fingerprint != rotated || len(g.queue.submissions) != 1 {
		t.Errorf("headers %v, key %s, %d submissions", rec.Header(), g.queue.keys["k"].Fingerprint, len(g.queue.submissions))
	}
	wantProblem(t, send(strings.Replace(call, "a/1", "a/2", 1)), 422)
	if g.queue.keys["k"].Fingerprint != rotated {
		t.Error("a refused call stored its key")
	}
}

// A call that is refused stores no key, and no answer or log line holds any of it.
func TestBadKeyWithActivity(t *testing.T) {
	good := `{"key_id":"k","private_key_jwk":` + exampleJWK + `}`
	for name, tt := range map[string]struct{ body, location string }{
		"no ID":          {keyedCall(`{"private_key_jwk":` + exampleJWK + `}`), "body.key.key_id"},
		"no key":         {keyedCall(`{"key_id":"k"}`), "body.key.private_key_pem"},
		"bad PEM":        {keyedCall(keyBody(t, "k", "x")), "body.key.private_key_pem"},
		"bad JWK":        {keyedCall(`{"key_id":"k","private_key_jwk":{"kty":"oct","k":"c2VjcmV0"}}`), "body.key.private_key_jwk"},
		"pin no bool":    {keyedCall(strings.Replace(good, `{"key_id"`, `{"pin":1,"key_id"`, 1)), "body.key.pin"},
		"unknown member": {keyedCall(strings.Replace(good, `{"key_id"`, `{"pinned":true,"key_id"`, 1)), "body.key.pinned"},
		"key_id as well": {strings.Replace(keyedCall(good), `{"activity"`, `{"key_id":"`+alice+`","activity"`, 1), "body.key"},
		"no inbox left":  {strings.Replace(keyedCall(good), "https://one.example", "https://127.0.0.1", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			rec := g.do("POST", "/v1/activities", tt.body)
			p := wantProblem(t, rec, 422)
			if tt.location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != tt.location) {
				t.Errorf("got %+v, want a fault at %s", p.Errors, tt.location)
			}
			if g.queue.puts > 0 {
				t.Error("the key was stored")
			}
			if all := rec.Body.String() + g.log.String(); strings.Contains(all, "nWGxne") || strings.Contains(all, "c2VjcmV0") {
				t.Errorf("the key shows in %s", all)
			}
		})
	}
}

// The bytes of a private key are wiped once they were read; the activity beside it stays.
func TestKeyWithActivityIsWiped(t *testing.T) {
	for _, key := range []string{`{"key_id":"k","private_key_jwk":` + exampleJWK + `}`, keyBody(t, "k", "not a key"), `{"key_id":"k","private_key_jwk":` + exampleJWK + `} x`} {
		g := newRig(t)
		body := []byte(keyedCall(key))
		d, err := g.draft(body, "", queue.Idempotency{})
		if bytes.Contains(body, []byte("nWGxne")) || bytes.Contains(body, []byte("not a key")) {
			t.Errorf("%v: there stays %q", err, body)
		}
		if err == nil && !json.Valid(d.submission.Body) {
			t.Errorf("the activity is %q", d.submission.Body)
		}
	}
}

// Keys are listed with what waits for them, and can be asked for by their ID.
func TestKeyFields(t *testing.T) {
	g := newRig(t)
	for i := range 3 {
		wantStatus(t, g.do("PUT", "/v1/keys", keyBody(t, fmt.Sprint("k", i), examplePEM(t))), 201)
	}
	k := g.queue.keys["k1"]
	k.Pending = 7
	g.queue.keys["k1"] = k
	wantStatus(t, g.do("DELETE", "/v1/keys?key_id=k1&when=idle", ""), 202)
	list := decode[page[keyView]](t, g.do("GET", "/v1/keys?key_id=k1", ""))
	if len(list.Items) != 1 || list.Items[0].KeyID != "k1" || list.Items[0].Pending != 7 || !list.Items[0].WhenIdle {
		t.Errorf("got %+v", list)
	}
	if list := decode[page[keyView]](t, g.do("GET", "/v1/keys?key_id=absent", "")); len(list.Items) != 0 {
		t.Errorf("got %+v", list)
	}
	wantProblem(t, g.do("DELETE", "/v1/keys?key_id=absent&when=idle", ""), 404)
	wantProblem(t, g.do("DELETE", "/v1/keys?key_id=k1&when=now", ""), 422)
}

// In a batch a line that names a key comes after the line that brings it, and before one that brings another.
func TestKeysInABatch(t *testing.T) {
	g := newRig(t)
	draft := func(key string) *line {
		d, err := g.draft([]byte(strings.Replace(keyedCall("1"), `"key":1`, key, 1)), "", queue.Idempotency{})
		if err != nil {
			t.Fatal(err)
		}
		d.submission.OrderingKey = key // only the key may order them
		return &line{draft: d}
	}
	brings := draft(`"key":{"key_id":"k","private_key_jwk":` + exampleJWK + `}`)
	names := draft(`"key_id":"k"`)
	other := draft(`"key_id":"k2"`)
	for i, tt := range []struct {
		earlier, later *line
		want           int
	}{{brings, names, 1}, {names, brings, 1}, {brings, other, 0}, {other, brings, 0}} {
		if before := tt.later.among([]*line{tt.earlier}); len(before) != tt.want {
			t.Errorf("case %d: waits for %d lines, want %d", i, len(before), tt.want)
		}
	}
}
