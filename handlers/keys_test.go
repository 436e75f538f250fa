package handlers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

func keyBody(t testing.TB, id, private string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"key_id": id, "private_key_pem": private})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func examplePEM(t testing.TB) string {
	t.Helper()
	var c struct {
		PEM string `json:"private_key_pem"`
	}
	if err := json.Unmarshal([]byte(keyExample), &c); err != nil {
		t.Fatal(err)
	}
	return c.PEM
}

func TestPutKey(t *testing.T) {
	g := newRig(t)
	const id = "https://app.example/users/bob#main-key"
	rec := g.do("PUT", "/v1/keys", keyBody(t, id, examplePEM(t)))
	wantStatus(t, rec, 201)
	got := decode[keyView](t, rec)
	if got.KeyID != id || got.Algorithm != "ed25519" || !strings.HasPrefix(got.PublicKey, "-----BEGIN PUBLIC KEY-----") ||
		!strings.HasPrefix(got.Fingerprint, "SHA256:") || got.CreatedAt != "2026-01-02T03:04:05.678Z" {
		t.Errorf("got %+v", got)
	}
	wantStatus(t, g.do("PUT", "/v1/keys", keyBody(t, id, examplePEM(t))), 200)
	sealer, err := signer.NewSealer(make([]byte, signer.MasterKeySize))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := sealer.Open(id, g.queue.keys[id].Sealed); err != nil || key.Fingerprint() != got.Fingerprint {
		t.Errorf("what was stored does not open to the key: %v", err)
	}
	list := decode[page[keyView]](t, g.do("GET", "/v1/keys", ""))
	if len(list.Items) != 2 {
		t.Errorf("got %+v", list)
	}
	wantStatus(t, g.do("DELETE", "/v1/keys?key_id=https%3A%2F%2Fapp.example%2Fusers%2Fbob%23main-key", ""), 204)
	wantProblem(t, g.do("DELETE", "/v1/keys?key_id=https%3A%2F%2Fapp.example%2Fusers%2Fbob%23main-key", ""), 404)
	wantProblem(t, g.do("DELETE", "/v1/keys", ""), 422)
}

// TestKeyCallIsWiped holds that what was read of a private key does not stay in memory, also if the call fails.
func TestKeyCallIsWiped(t *testing.T) {
	for _, text := range []string{examplePEM(t), "not a key", ""} {
		g := newRig(t)
		body := []byte(keyBody(t, "x", text))
		put := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = g.putKey(r, body) })
		g.observe(put).ServeHTTP(httptest.NewRecorder(), newRequest("PUT", "/v1/keys", nil))
		if len(bytes.Trim(body, "\x00")) > 0 {
			t.Errorf("of %q stays %q", text, body)
		}
	}
}

// TestResealKeys seals all keys again, page by page, but for one that another master key sealed.
func TestResealKeys(t *testing.T) {
	const n = maxLimit + 20
	sealer := func(letters string) *signer.Sealer {
		var masters [][]byte
		for _, letter := range letters {
			masters = append(masters, bytes.Repeat([]byte(string(letter)), signer.MasterKeySize))
		}
		s, err := signer.NewSealer(masters...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	private, err := signer.ParsePrivateKey([]byte(examplePEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, func(o *Options) { o.Sealer = sealer("ba") })
	put := func(s *signer.Sealer, id string) {
		sealed, err := s.Seal(id, private)
		if err != nil {
			t.Fatal(err)
		}
		g.queue.keys[id] = queue.Key{ID: id, Sealed: sealed, Fingerprint: private.Fingerprint()}
	}
	delete(g.queue.keys, alice)
	for i := range n {
		put(sealer("a"), fmt.Sprintf("key-%03d", i))
	}
	put(sealer("b"), "new")
	put(sealer("c"), "strange")
	seal := g.Sealer.Fingerprints()[0]
	for i, want := range []resealView{{n + 2, n, 1, seal}, {n + 2, 0, 1, seal}} {
		rec := g.do("POST", "/v1/keys/reseal", "")
		wantStatus(t, rec, 200)
		if diff := cmp.Diff(want, decode[resealView](t, rec)); diff != "" {
			t.Errorf("call %d: %s", i, diff)
		}
	}
	for id, k := range g.queue.keys {
		by := "b"
		if id == "strange" {
			by = "c"
		}
		if err := sealer(by).Check(id, k.Sealed); err != nil || k.Fingerprint != private.Fingerprint() {
			t.Fatalf("%s is %+v: %v", id, k, err)
		}
	}
	for _, k := range decode[page[keyView]](t, g.do("GET", "/v1/keys?limit=500", "")).Items {
		if k.SealedWith != seal {
			t.Fatalf("listed: %+v", k)
		}
	}
	if log := g.log.String(); !strings.Contains(log, "key.reseal_failed") || !strings.Contains(log, "key_id=strange") {
		t.Errorf("the log says %s", log)
	}
	g.queue.err = errAway
	wantProblem(t, g.do("POST", "/v1/keys/reseal", ""), 503)
}

func TestHostileKeyCalls(t *testing.T) {
	good := examplePEM(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	armour := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	inline := strings.ReplaceAll(good, "\n", `\n`)
	tests := []struct {
		name, body string
		status     int
		location   string
	}{
		{"empty", `{}`, 422, "body.key_id"},
		{"list", `[]`, 400, "body"},
		{"no key", `{"key_id":"x"}`, 422, "body.private_key_pem"},
		{"no key ID", `{"private_key_pem":"` + inline + `"}`, 422, "body.key_id"},
		{"key a number", `{"key_id":"x","private_key_pem":5}`, 422, "body.private_key_pem"},
		{"key a list", `{"key_id":"x","private_key_pem":["` + inline + `"]}`, 422, "body.private_key_pem"},
		{"key twice", `{"key_id":"x","private_key_pem":"` + inline + `","private_key_pem":"` + inline + `"}`, 422, "body.private_key_pem"},
		{"key as a name", `{"` + inline + `":1}`, 422, "body.?"},
		{"key under another name", `{"key_id":"x","private_key":"` + inline + `"}`, 422, "body.private_key"},
		{"key with raw newlines", `{"key_id":"x","private_key_pem":"` + good + `"}`, 400, "body"},
		{"key cut off", `{"key_id":"x","private_key_pem":"` + inline[:60], 400, "body"},
		{"key without quotes", `{"key_id":"x","private_key_pem":` + good + `}`, 400, "body"},
		{"key with half a surrogate pair", `{"key_id":"x","private_key_pem":"` + inline[:60] + `\ud800` + inline[60:] + `"}`, 422, "body.private_key_pem"},
		{"not PEM", keyBody(t, "x", "hello"), 422, "body.private_key_pem"},
		{"damaged", keyBody(t, "x", strings.Replace(good, "MC4C", "MC4D", 1)), 422, "body.private_key_pem"},
		{"two keys", keyBody(t, "x", good+good), 422, "body.private_key_pem"},
		{"weak", keyBody(t, "x", armour("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak))), 422, "body.private_key_pem"},
		{"curve", keyBody(t, "x", armour("PRIVATE KEY", ec)), 422, "body.private_key_pem"},
		{"key ID with a quotation mark", keyBody(t, `a"b`, good), 422, "body.key_id"},
		{"key ID with a backslash", keyBody(t, `a\b`, good), 422, "body.key_id"},
		{"key ID with a newline", keyBody(t, "a\nb", good), 422, "body.key_id"},
		{"key ID long", keyBody(t, strings.Repeat("k", 2049), good), 422, "body.key_id"},
		{"too large", `{"key_id":"` + strings.Repeat("k", maxKeyCall) + `"}`, 413, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t)
			rec := g.do("PUT", "/v1/keys", tt.body)
			p := wantProblem(t, rec, tt.status)
			if tt.location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != tt.location) {
				t.Errorf("got %+v, want a fault at %s", p.Errors, tt.location)
			}
			wantNoKey(t, tt.body, rec.Body.String(), g.log.String())
		})
	}
}

// TestPrivateKeyStaysInside: also where the call succeeds or the store fails, nothing of the key shows.
func TestPrivateKeyStaysInside(t *testing.T) {
	body := keyBody(t, "x", examplePEM(t))
	for _, err := range []error{nil, errAway} {
		g := newRig(t)
		g.queue.err = err
		wantNoKey(t, body, g.do("PUT", "/v1/keys", body).Body.String(), g.do("GET", "/v1/keys", "").Body.String(), g.log.String())
	}
}

// wantNoKey checks that no piece of the base64 of the key in a body shows in what left the API.
func wantNoKey(t *testing.T, body string, left ...string) {
	t.Helper()
	// The second line of the example's key, and the same line of a test's own key.
	_, rest, _ := strings.Cut(body, "KEY-----")
	rest = strings.Trim(strings.ReplaceAll(rest, `\n`, ""), "\n")
	for i := 0; i+12 <= min(len(rest), 60); i += 6 {
		for _, text := range left {
			if strings.Contains(text, rest[i:i+12]) {
				t.Errorf("%q shows in %q", rest[i:i+12], text)
			}
		}
	}
}

// TestDeletedKeyIsForgotten checks that the node drops what it has in memory of a key that is removed, and only then.
func TestDeletedKeyIsForgotten(t *testing.T) {
	var forgotten []string
	g := newRig(t, func(o *Options) { o.Forget = func(id string) { forgotten = append(forgotten, id) } })
	wantStatus(t, g.do("DELETE", "/v1/keys?key_id=unknown", ""), 404)
	if len(forgotten) > 0 {
		t.Errorf("forgot %v", forgotten)
	}
	wantStatus(t, g.do("DELETE", "/v1/keys?key_id="+url.QueryEscape(alice), ""), 204)
	if len(forgotten) != 1 || forgotten[0] != alice {
		t.Errorf("forgot %v", forgotten)
	}
}
