package testinbox

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const (
	rsaKeyID = "https://app.example/users/alice#main-key"
	edKeyID  = `https://app.example/users/"alice"\key`
	body     = `{"id":"https://app.example/a/1","type":"Create"}`
	target   = "/users/bob/in%2Fbox?a=b%20c"
)

// keyring holds the keys that the tests sign with.
type keyring struct {
	rsa   *rsa.PrivateKey
	other *rsa.PrivateKey
	ed    ed25519.PrivateKey
}

func newKeyring(t testing.TB) keyring {
	t.Helper()
	var k keyring
	var err error
	for _, key := range []**rsa.PrivateKey{&k.rsa, &k.other} {
		if *key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	if _, k.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return k
}

// public is what an inbox looks keys up with.
func (k keyring) public(keyID string) crypto.PublicKey {
	switch keyID {
	case rsaKeyID:
		return k.rsa.Public()
	case edKeyID:
		return k.ed.Public()
	}
	return nil
}

// signRSA signs with PKCS#1 v1.5 and SHA-256, and gives base64.
func signRSA(t testing.TB, key *rsa.PrivateKey, base string) string {
	t.Helper()
	hash := sha256.Sum256([]byte(base))
	value, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(value)
}

func hashOf(body string) string {
	hash := sha256.Sum256([]byte(body))
	return base64.StdEncoding.EncodeToString(hash[:])
}

// newRequest is an unsigned request as a server sees it, for the host inbox.example.
func newRequest(payload string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, bytes.NewReader([]byte(payload)))
	r.Host = "inbox.example"
	r.Header.Set("Content-Type", "application/activity+json")
	return r
}

// cavageForm is how to sign by draft-cavage; its zero value is a correct signature.
type cavageForm struct {
	date, digest, algorithm, headers string
	separator                        string
	key                              *rsa.PrivateKey
}

func (k keyring) cavage(t testing.TB, f cavageForm) *http.Request {
	t.Helper()
	r := newRequest(body)
	r.Header.Set("Date", or(f.date, time.Now().UTC().Format(http.TimeFormat)))
	r.Header.Set("Digest", or(f.digest, "SHA-256="+hashOf(body)))
	headers := or(f.headers, "(request-target) host date digest content-type")
	var lines []string
	for name := range strings.SplitSeq(headers, " ") {
		value := r.Header.Get(name)
		switch name {
		case "(request-target)":
			value = "post " + target
		case "host":
			value = "inbox.example"
		}
		lines = append(lines, name+": "+value)
	}
	key := f.key
	if key == nil {
		key = k.rsa
	}
	r.Header.Set("Signature", strings.Join([]string{
		`keyId="` + rsaKeyID + `"`, `algorithm="` + or(f.algorithm, "rsa-sha256") + `"`, `headers="` + headers + `"`,
		`signature="` + signRSA(t, key, strings.Join(lines, "\n")) + `"`,
	}, or(f.separator, ",")))
	return r
}

// rfcForm is how to sign by RFC 9421; its zero value is a correct signature.
type rfcForm struct {
	created            time.Time
	digest, alg, keyID string
	components         string
	more               string // parameters
	key                *rsa.PrivateKey
	scheme             string
}

func (k keyring) rfc9421(t testing.TB, f rfcForm) *http.Request {
	t.Helper()
	r := newRequest(body)
	r.Header.Set("Content-Digest", or(f.digest, "sha-256=:"+hashOf(body)+":"))
	if f.created.IsZero() {
		f.created = time.Now()
	}
	components := or(f.components, `"@method" "@target-uri" "content-digest"`)
	keyID := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(or(f.keyID, rsaKeyID))
	parameters := fmt.Sprintf(`(%s);created=%d;keyid="%s";alg="%s"%s`,
		components, f.created.Unix(), keyID, or(f.alg, "rsa-v1_5-sha256"), f.more)
	base := ""
	for component := range strings.SplitSeq(components, " ") {
		name := strings.Trim(component, `"`)
		value := map[string]string{
			"@method": "POST", "@target-uri": or(f.scheme, "http") + "://inbox.example" + target, "@authority": "inbox.example", "host": "inbox.example",
		}[name]
		base += component + ": " + or(value, r.Header.Get(name)) + "\n"
	}
	base += `"@signature-params": ` + parameters
	var value string
	switch {
	case f.keyID == edKeyID:
		value = base64.StdEncoding.EncodeToString(ed25519.Sign(k.ed, []byte(base)))
	case f.key != nil:
		value = signRSA(t, f.key, base)
	default:
		value = signRSA(t, k.rsa, base)
	}
	r.Header.Set("Signature-Input", "sig1="+parameters)
	r.Header.Set("Signature", "sig1=:"+value+":")
	return r
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
