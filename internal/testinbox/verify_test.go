package testinbox

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// knock sends a request to an inbox that knows the keys, and returns how it was remembered.
func knock(t *testing.T, k keyring, o Options, r *http.Request) (Request, int) {
	t.Helper()
	o.Keys = k.public
	in := New(o)
	answer := httptest.NewRecorder()
	in.ServeHTTP(answer, r)
	got := in.Received()
	if len(got) != 1 {
		t.Fatalf("%d requests remembered", len(got))
	}
	return got[0], answer.Code
}

func TestGenuineRequests(t *testing.T) {
	k := newKeyring(t)
	overTLS := k.rfc9421(t, rfcForm{scheme: "https"})
	overTLS.TLS = &tls.ConnectionState{}
	for name, test := range map[string]struct {
		r      *http.Request
		scheme Scheme
		keyID  string
	}{
		"cavage":                {k.cavage(t, cavageForm{}), Cavage, rsaKeyID},
		"cavage, other order":   {k.cavage(t, cavageForm{headers: "digest date host (request-target)"}), Cavage, rsaKeyID},
		"cavage, almost stale":  {k.cavage(t, cavageForm{date: httpDate(-59 * time.Minute)}), Cavage, rsaKeyID},
		"rfc9421":               {k.rfc9421(t, rfcForm{}), RFC9421, rsaKeyID},
		"rfc9421 with TLS":      {overTLS, RFC9421, rsaKeyID},
		"rfc9421, ed25519":      {k.rfc9421(t, rfcForm{keyID: edKeyID, alg: "ed25519"}), RFC9421, edKeyID},
		"rfc9421, more covered": {k.rfc9421(t, rfcForm{components: `"content-type" "@authority" "content-digest" "@target-uri" "@method"`}), RFC9421, rsaKeyID},
		"rfc9421, more said":    {k.rfc9421(t, rfcForm{more: `;nonce="a;b=(c)";tag="x"`}), RFC9421, rsaKeyID},
		"rfc9421, almost stale": {k.rfc9421(t, rfcForm{created: time.Now().Add(59 * time.Minute)}), RFC9421, rsaKeyID},
	} {
		got, status := knock(t, k, Options{}, test.r)
		if !got.Valid || got.Reason != "" || status != http.StatusAccepted {
			t.Errorf("%s: valid %t, status %d: %s", name, got.Valid, status, got.Reason)
		}
		if got.Scheme != test.scheme || got.KeyID != test.keyID {
			t.Errorf("%s: scheme %s, key %s", name, got.Scheme, got.KeyID)
		}
	}
}

func httpDate(fromNow time.Duration) string {
	return time.Now().Add(fromNow).UTC().Format(http.TimeFormat)
}

// TestTamperedRequests checks that a change to any part makes either signature bad.
func TestTamperedRequests(t *testing.T) {
	k := newKeyring(t)
	for name, tamper := range map[string]func(*http.Request){
		"body":         func(r *http.Request) { setBody(r, strings.Replace(body, "/1", "/2", 1)) },
		"path":         func(r *http.Request) { r.RequestURI = strings.Replace(target, "bob", "eve", 1) },
		"path decoded": func(r *http.Request) { r.RequestURI = strings.Replace(target, "%2F", "/", 1) },
		"query":        func(r *http.Request) { r.RequestURI = strings.Replace(target, "?a", "?b", 1) },
		"host":         func(r *http.Request) { r.Host = "other.example" },
		"method":       func(r *http.Request) { r.Method = http.MethodPut },
		"no signature": func(r *http.Request) { r.Header.Del("Signature"); r.Header.Del("Signature-Input") },
		"two signatures": func(r *http.Request) {
			r.Header.Add("Signature", r.Header.Get("Signature"))
		},
		"both schemes": func(r *http.Request) {
			r.Header.Set("Signature-Input", k.rfc9421(t, rfcForm{}).Header.Get("Signature-Input"))
			r.Header.Set("Signature", k.cavage(t, cavageForm{}).Header.Get("Signature"))
		},
		"digests": func(r *http.Request) {
			for header := range r.Header {
				if strings.HasSuffix(header, "Digest") {
					r.Header.Set(header, strings.Replace(r.Header.Get(header), hashOf(body), hashOf("other"), 1))
				}
			}
		},
		"no digest": func(r *http.Request) { r.Header.Del("Digest"); r.Header.Del("Content-Digest") },
		"digest and body": func(r *http.Request) {
			setBody(r, "{}")
			for header := range r.Header {
				if strings.HasSuffix(header, "Digest") {
					r.Header.Set(header, strings.Replace(r.Header.Get(header), hashOf(body), hashOf("{}"), 1))
				}
			}
		},
	} {
		for _, r := range []*http.Request{k.cavage(t, cavageForm{}), k.rfc9421(t, rfcForm{})} {
			tamper(r)
			wantRefused(t, k, name, r)
		}
	}
}

func setBody(r *http.Request, payload string) { r.Body = io.NopCloser(strings.NewReader(payload)) }

func wantRefused(t *testing.T, k keyring, name string, r *http.Request) {
	t.Helper()
	signature := r.Header.Get("Signature")
	got, status := knock(t, k, Options{}, r)
	if got.Valid || got.Reason == "" || status != http.StatusUnauthorized {
		t.Errorf("%s: valid %t, status %d, reason %q for %s", name, got.Valid, status, got.Reason, signature)
	}
}

// TestBadForms checks that requests in a wrong form are refused although the signature itself is genuine.
func TestBadForms(t *testing.T) {
	k := newKeyring(t)
	hash := sha256.Sum256([]byte(body))
	for name, r := range map[string]*http.Request{
		"cavage, stale":                  k.cavage(t, cavageForm{date: httpDate(-61 * time.Minute)}),
		"cavage, from the future":        k.cavage(t, cavageForm{date: httpDate(61 * time.Minute)}),
		"cavage, RFC 850 date":           k.cavage(t, cavageForm{date: time.Now().UTC().Format(time.RFC850)}),
		"cavage, zone by number":         k.cavage(t, cavageForm{date: time.Now().UTC().Format(time.RFC1123Z)}),
		"cavage, other key":              k.cavage(t, cavageForm{key: k.other}),
		"cavage, hs2019":                 k.cavage(t, cavageForm{algorithm: "hs2019"}),
		"cavage, spaced":                 k.cavage(t, cavageForm{separator: ", "}),
		"cavage, path not signed":        k.cavage(t, cavageForm{headers: "host date digest"}),
		"cavage, host not signed":        k.cavage(t, cavageForm{headers: "(request-target) date digest"}),
		"cavage, date not signed":        k.cavage(t, cavageForm{headers: "(request-target) host digest"}),
		"cavage, digest not signed":      k.cavage(t, cavageForm{headers: "(request-target) host date"}),
		"cavage, absent header signed":   k.cavage(t, cavageForm{headers: "(request-target) host date digest x-absent"}),
		"cavage, lower-case digest":      k.cavage(t, cavageForm{digest: "sha-256=" + hashOf(body)}),
		"cavage, two digests":            k.cavage(t, cavageForm{digest: "SHA-256=" + hashOf(body) + ",SHA-512=x"}),
		"cavage, digest in URL alphabet": k.cavage(t, cavageForm{digest: "SHA-256=" + base64.RawURLEncoding.EncodeToString(hash[:])}),
		"rfc9421, stale":                 k.rfc9421(t, rfcForm{created: time.Now().Add(-61 * time.Minute)}),
		"rfc9421, from the future":       k.rfc9421(t, rfcForm{created: time.Now().Add(61 * time.Minute)}),
		"rfc9421, other key":             k.rfc9421(t, rfcForm{key: k.other}),
		"rfc9421, unknown key":           k.rfc9421(t, rfcForm{keyID: "https://app.example/nobody"}),
		"rfc9421, algorithm of others":   k.rfc9421(t, rfcForm{alg: "rsa-pss-sha512"}),
		"rfc9421, key of other kind":     k.rfc9421(t, rfcForm{alg: "ed25519"}),
		"rfc9421, other scheme":          k.rfc9421(t, rfcForm{scheme: "https"}),
		"rfc9421, method not covered":    k.rfc9421(t, rfcForm{components: `"@target-uri" "content-digest"`}),
		"rfc9421, target not covered":    k.rfc9421(t, rfcForm{components: `"@method" "content-digest"`}),
		"rfc9421, digest not covered":    k.rfc9421(t, rfcForm{components: `"@method" "@target-uri"`}),
		"rfc9421, covered twice":         k.rfc9421(t, rfcForm{components: `"@method" "@target-uri" "content-digest" "@method"`}),
		"rfc9421, host covered":          k.rfc9421(t, rfcForm{components: `"@method" "@target-uri" "content-digest" "host"`}),
		"rfc9421, absent covered":        k.rfc9421(t, rfcForm{components: `"@method" "@target-uri" "content-digest" "x-absent"`}),
		"rfc9421, nonce twice":           k.rfc9421(t, rfcForm{more: `;nonce="a";nonce="b"`}),
		"rfc9421, Ed25519 called RSA":    k.rfc9421(t, rfcForm{keyID: edKeyID}),
		"cavage, algorithm twice":        appended(k.cavage(t, cavageForm{}), `,algorithm="rsa-sha256"`),
		"cavage, comma at the end":       appended(k.cavage(t, cavageForm{}), ","),
		"rfc9421, upper-case digest":     k.rfc9421(t, rfcForm{digest: "SHA-256=:" + hashOf(body) + ":"}),
		"rfc9421, no algorithm":          without(k.rfc9421(t, rfcForm{}), `;alg="rsa-v1_5-sha256"`),
		"rfc9421, two members":           without(k.rfc9421(t, rfcForm{more: `,sig2=("@method")`}), "nothing"),
		"rfc9421, other label":           without(k.rfc9421(t, rfcForm{}), "1"),
	} {
		wantRefused(t, k, name, r)
	}
}

// without cuts the first occurrence of part out of the Signature-Input.
func without(r *http.Request, part string) *http.Request {
	r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), part, "", 1))
	return r
}

// appended adds to the end of the Signature.
func appended(r *http.Request, more string) *http.Request {
	r.Header.Set("Signature", r.Header.Get("Signature")+more)
	return r
}

func TestSchemesAccepted(t *testing.T) {
	k := newKeyring(t)
	only := Options{Accept: []Scheme{RFC9421}}
	if got, status := knock(t, k, only, k.cavage(t, cavageForm{})); got.Valid || status != http.StatusUnauthorized || got.Scheme != Cavage {
		t.Errorf("a scheme not accepted: status %d, %+v", status, got)
	}
	if got, status := knock(t, k, only, k.rfc9421(t, rfcForm{})); !got.Valid || status != http.StatusAccepted {
		t.Errorf("the scheme accepted: status %d, %s", status, got.Reason)
	}
	if got, status := knock(t, k, Options{Unsigned: true}, newRequest(body)); got.Valid || status != http.StatusAccepted {
		t.Errorf("unsigned: status %d, %+v", status, got)
	}
}

// TestStaleness checks the edges of the window, by a clock that stands still.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for offset, fresh := range map[time.Duration]bool{
			0: true, time.Hour: true, -time.Hour: true, time.Hour + 1: false, -time.Hour - 1: false,
		} {
			if err := checkTime(time.Now().Add(offset)); (err == nil) != fresh {
				t.Errorf("%s from now: %v", offset, err)
			}
		}
	})
}

// FuzzHeaders checks that nothing in the headers of a signature can break the verifier, or pass without the key.
func FuzzHeaders(f *testing.F) {
	k := newKeyring(f)
	c, r := k.cavage(f, cavageForm{}).Header, k.rfc9421(f, rfcForm{}).Header
	f.Add(c.Get("Signature"), "")
	f.Add(r.Get("Signature"), r.Get("Signature-Input"))
	f.Add(`keyId="",headers="(request-target) host date digest"`, "")
	f.Add("sig1=:AAAA:", `sig1=("@method");created=1;keyid="\\\"";alg=""`)
	keys := newKeyring(f) // not those that the seeds are signed with
	f.Fuzz(func(t *testing.T, signature, input string) {
		request := newRequest(body)
		request.Header.Set("Signature", signature)
		if input != "" {
			request.Header.Set("Signature-Input", input)
		}
		for name, value := range map[string]string{
			"Date": httpDate(0), "Digest": "SHA-256=" + hashOf(body), "Content-Digest": "sha-256=:" + hashOf(body) + ":",
		} {
			request.Header.Set(name, value)
		}
		if got, _ := knock(t, keys, Options{}, request); got.Valid {
			t.Errorf("passed: %s, %s", signature, input)
		}
	})
}
