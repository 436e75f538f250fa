package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// jwkOf writes a key as a JSON Web Key and lets change edit its members.
func jwkOf(t *testing.T, key any, change func(members map[string]any)) []byte {
	t.Helper()
	text, err := jose.JSONWebKey{Key: key, KeyID: "main", Use: "sig"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(members)
	}
	text, err = json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The Ed25519 key of RFC 8037, appendix A.1.
const rfc8037Key = `{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

func TestParseJWKAccepts(t *testing.T) {
	for name, tt := range map[string]struct {
		text []byte
		want *PrivateKey
	}{
		"RSA":             {jwkOf(t, rawRSA(rsaKey()), nil), rsaKey()},
		"RSA without CRT": {jwkOf(t, rawRSA(rsaKey()), func(m map[string]any) { delete(m, "dp"); delete(m, "dq"); delete(m, "qi") }), rsaKey()},
		"RSA of WebCrypto": {jwkOf(t, rawRSA(rsaKey()), func(m map[string]any) {
			maps.Copy(m, map[string]any{"ext": true, "key_ops": []string{"sign"}, "alg": "RS256"})
		}), rsaKey()},
		"Ed25519": {jwkOf(t, rawEd(edKey()), nil), edKey()},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := ParseJWK(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if k.Fingerprint() != tt.want.Fingerprint() || k.Algorithm() != tt.want.Algorithm() {
				t.Errorf("got %v, want %v", k, tt.want)
			}
			sealer := newMemStore(t).sealer
			sealed, err := sealer.Seal(keyID, k)
			if err != nil {
				t.Fatal(err)
			}
			if opened, err := sealer.Open(keyID, sealed); err != nil || opened.Fingerprint() != k.Fingerprint() {
				t.Errorf("sealed and opened: %v, %v", opened, err)
			}
		})
	}
}

// parsedPKCS1 returns a key that crypto/x509 accepts.
func parsedPKCS1(t *testing.T, der []byte) *rsa.PrivateKey {
	t.Helper()
	k, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseJWKRefuses(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nothing":            nil,
		"null":               []byte("null"),
		"a string":           []byte(`"x"`),
		"no kty":             []byte(`{"d":"AQ"}`),
		"symmetric":          []byte(`{"kty":"oct","k":"c2VjcmV0"}`),
		"elliptic curve":     jwkOf(t, ec, nil),
		"RSA of 1024 bits":   jwkOf(t, small, nil),
		"public RSA":         jwkOf(t, &rawRSA(rsaKey()).PublicKey, nil),
		"public Ed25519":     jwkOf(t, rawEd(edKey()).Public(), nil),
		"RSA without primes": jwkOf(t, rawRSA(rsaKey()), func(m map[string]any) { delete(m, "p"); delete(m, "q") }),
		"RSA, other d":       jwkOf(t, rawRSA(rsaKey()), func(m map[string]any) { m["d"] = "AQAB" }),
		"RSA, wrong CRT":     jwkOf(t, rawRSA(rsaKey()), func(m map[string]any) { maps.Copy(m, map[string]any{"dp": "AQ", "dq": "AQ", "qi": "AQ"}) }),
		"RSA, small prime":   jwkOf(t, parsedPKCS1(t, assembleAny(t, prime(t, 600), prime(t, 1448))), nil),
		"RSA, composite":     jwkOf(t, parsedPKCS1(t, compositePrime(t)), nil),
		"Ed25519, other x":   []byte(strings.Replace(rfc8037Key, `"x":"11`, `"x":"22`, 1)),
		"too long":           []byte(`{"kty":"OKP","pad":"` + strings.Repeat("x", maxJWK) + `"}`),
	} {
		t.Run(name, func(t *testing.T) {
			k, err := ParseJWK(text)
			if err == nil {
				t.Fatalf("took %v", k)
			}
			if len(text) > 20 && strings.Contains(err.Error(), string(text[10:20])) {
				t.Errorf("the error repeats what was sent: %v", err)
			}
		})
	}
}

// The wanted text of the Ed25519 key was computed by other code. Of RSA only the form is checked: no specification has a
// vector.
func TestPublicMultibase(t *testing.T) {
	k, err := ParseJWK([]byte(rfc8037Key))
	if err != nil {
		t.Fatal(err)
	}
	const want = "z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw"
	if got := PublicMultibase(k.PublicPEM()); got != want {
		t.Errorf("Ed25519: %s, want %s", got, want)
	}
	if got := PublicMultibase(rsaKey().PublicPEM()); !strings.HasPrefix(got, "z4MX") || len(got) < 370 {
		t.Errorf("RSA: %s", got)
	}
	for _, bad := range []string{"", "x", string(block("PUBLIC KEY", []byte("x")))} {
		if got := PublicMultibase(bad); got != "" {
			t.Errorf("PublicMultibase(%q) = %q", bad, got)
		}
	}
}
