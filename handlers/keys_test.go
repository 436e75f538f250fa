package handlers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/postrider/postrider/signer"
)

func keyBody(t testing.TB, id, private string) string {
	t.Helper()
	body, err := json.Marshal(keyCall{KeyID: id, PrivateKey: private})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func examplePEM(t testing.TB) string {
	t.Helper()
	var c keyCall
	if err := json.Unmarshal([]byte(keyExample), &c); err != nil {
		t.Fatal(err)
	}
	return c.PrivateKey
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
	// The second line of the example's key, and whatever a test's own key has in that place.
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
