package signer

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCavageVectors signs the examples of draft-cavage-http-signatures-12, appendix C.2 and C.3. Their key has 1024
// bits, so it doesn't come through ParsePrivateKey.
func TestCavageVectors(t *testing.T) {
	pemBlock, _ := pem.Decode(readKey(t, "cavage-rsa.pem"))
	raw, err := x509.ParsePKCS1PrivateKey(pemBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newSigningKey(raw, GoRSA())
	if err != nil {
		t.Fatal(err)
	}
	host, date := component{"host", "example.com"}, component{"date", "Sun, 05 Jan 2014 21:31:40 GMT"}
	for name, tt := range map[string]struct {
		covered []component
		want    string
	}{
		"C.2 basic": {
			[]component{host, date},
			`keyId="Test",algorithm="rsa-sha256",headers="(request-target) host date",` +
				`signature="qdx+H7PHHDZgy4y/Ahn9Tny9V3GP6YgBPyUXMmoxWtLbHpUnXS2mg2+SbrQDMCJypxBLSPQR2aAjn7ndmw2iicw3HMbe8VfEdKFYRqzic` +
				`+efkb3nndiv/x1xSHDJWeSWkx3ButlYSuBskLu6kd9Fswtemr3lgdDEmn04swr2Os0="`,
		},
		"C.3 all headers": {
			[]component{
				host, date, {"content-type", "application/json"},
				{"digest", "SHA-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="}, {"content-length", "18"},
			},
			`keyId="Test",algorithm="rsa-sha256",headers="(request-target) host date content-type digest content-length",` +
				`signature="vSdrb+dS3EceC9bcwHSo4MlyKS59iFIrhgYkz8+oVLEEzmYZZvRs8rgOp+63LEM3v+MFHB32NfpB2bEKBIvB1q52LaEUHFv120V01IL+T` +
				`AD48XaERZFukWgHoBTLMhYS2Gb51gWxpeIq8knRmPnYePbF5MOkR0Zkly4zKH7s1dE="`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &message{Params: Params{KeyID: "Test"}, method: "POST", target: "/foo?param=value&pet=dog"}
			got, err := composeCavage(m, tt.covered, key)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRFC9421VectorEd25519 signs the example of RFC 9421, appendix B.2.6.
func TestRFC9421VectorEd25519(t *testing.T) {
	k, err := ParsePrivateKey(readKey(t, "rfc9421-ed25519.pem"))
	if err != nil {
		t.Fatal(err)
	}
	covered := []component{
		{"date", "Tue, 20 Apr 2021 02:07:55 GMT"}, {"@method", "POST"}, {"@path", "/foo"},
		{"@authority", "example.com"}, {"content-type", "application/json"}, {"content-length", "18"},
	}
	base := signatureBase(covered, `("date" "@method" "@path" "@authority" "content-type" "content-length")`+
		`;created=1618884473;keyid="test-key-ed25519"`)
	want := ":wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
	if diff := cmp.Diff(want, byteSequence(ed25519.Sign(rawEd(k), base))); diff != "" {
		t.Error(diff)
	}
}

// TestRFC9421GoldenRSA signs with the key of RFC 9421, appendix B.1.1. The RFC's own RSA examples use PSS, which is not
// deterministic; the signature wanted here was made by OpenSSL 3.0 from a signature base written by hand.
func TestRFC9421GoldenRSA(t *testing.T) {
	k, err := ParsePrivateKey(readKey(t, "rfc9421-rsa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := newSigningKey(k.private(), GoRSA())
	if err != nil {
		t.Fatal(err)
	}
	req := newRequest(t, "https://example.com/foo?param=Value&Pet=dog")
	p := Params{KeyID: "test-key-rsa", Scheme: RFC9421, Digest: sha256.Sum256([]byte(`{"hello": "world"}`))}
	if _, err := key.signRequest(req, p, time.Unix(1618884473, 0)); err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Content-Type":   {"application/activity+json"},
		"Date":           {"Tue, 20 Apr 2021 02:07:53 GMT"},
		"Content-Digest": {"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"},
		"Signature-Input": {`sig1=("@method" "@target-uri" "content-digest")` +
			`;created=1618884473;keyid="test-key-rsa";alg="rsa-v1_5-sha256"`},
		"Signature": {"sig1=:GaTcaANrToFO3zveWp0GnHMY/QKdWXRJRK131moGDX1Y4rifEQ2gn0ZW/zLrL9m6XTiAocSn+I64mKVJdds7rtlcOoIDGs5crm" +
			"R2BUA4IU5gU0M3wlTCNQBo9Uz11r3AQfScOiN74frgX0+IYGXdFUfc/EnzIWMT3IllyF+rtWvU8eARyNvsfL71imUPCpnFBOwkSycAX81C9FUXZpqmjPM" +
			"ynPjznMNSc0nmZqTuCc/hczMPRHbMVPiqBJhXQ4vWV4YJhPTzBFNzENFrDZwuzPum3E5ITW48z8DkwL5EAFUoStnYsQKY8tGEe8spFj8tw03cOA2+wjkP" +
			"e0V7BiRyFQ==:"},
	}
	if diff := cmp.Diff(want, req.Header); diff != "" {
		t.Error(diff)
	}
}

// TestFingerprint compares with what OpenSSL makes of the same key:
// openssl pkey -in KEY -pubout -outform DER | openssl dgst -sha256 -binary | base64.
func TestFingerprint(t *testing.T) {
	k, err := ParsePrivateKey(readKey(t, "rfc9421-rsa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "SHA256:xz7s0xi9OBPyQCpmDYqQAQyjXWCdGTd9XuevIAcTIp8"; k.Fingerprint() != want {
		t.Errorf("fingerprint %s, want %s", k.Fingerprint(), want)
	}
	pemBlock, rest := pem.Decode([]byte(k.PublicPEM()))
	if pemBlock == nil || pemBlock.Type != "PUBLIC KEY" || len(rest) > 0 {
		t.Fatalf("public key %q", k.PublicPEM())
	}
	sum := sha256.Sum256(pemBlock.Bytes)
	if got := "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]); got != k.Fingerprint() {
		t.Errorf("PublicPEM has the fingerprint %s", got)
	}
}
