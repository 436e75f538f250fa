package signer

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-fed/httpsig"
	remitly "github.com/remitly-oss/httpsig-go"
	"github.com/remitly-oss/httpsig-go/keyman"
)

var cavageForm = regexp.MustCompile(
	`^keyId="([^"]+)",algorithm="rsa-sha256",headers="\(request-target\) host date digest content-type((?: [a-z0-9-]+)*)",signature="([A-Za-z0-9+/=]+)"$`)

// verifyCavage verifies by the text of draft-cavage-12, and what receivers want beyond it.
func verifyCavage(r *received, key crypto.PublicKey) error {
	date, err := r.one("date")
	if err != nil {
		return err
	}
	digest, err := r.one("digest")
	if err != nil {
		return err
	}
	header, err := r.one("signature")
	if err != nil {
		return err
	}
	if err := r.none("signature-input", "content-digest"); err != nil {
		return err
	}
	sum := sha256.Sum256(r.body)
	if want := "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:]); digest != want {
		return fmt.Errorf("digest %q, want %q", digest, want)
	}
	if err := recent(date); err != nil {
		return err
	}
	m := cavageForm.FindStringSubmatch(header)
	if m == nil || m[1] != keyID {
		return fmt.Errorf("signature %q", header)
	}
	lines := []string{"(request-target): " + strings.ToLower(r.method) + " " + r.target}
	for _, name := range strings.Fields("host date digest content-type" + m[2]) {
		if len(r.header[name]) == 0 {
			return fmt.Errorf("signed header %s isn't there", name)
		}
		lines = append(lines, name+": "+strings.Join(r.header[name], ", "))
	}
	return verify(key, strings.Join(lines, "\n"), m[3])
}

var (
	inputForm = regexp.MustCompile(
		`^sig1=(\("@method" "@target-uri" "content-digest"((?: "[a-z0-9-]+")*)\);created=(\d+);keyid="([^"]+)";alg="(rsa-v1_5-sha256|ed25519)")$`)
	signatureForm = regexp.MustCompile(`^sig1=:([A-Za-z0-9+/=]+):$`)
)

// verifyRFC9421 verifies by the text of RFC 9421. uri is the target URI written by hand.
func verifyRFC9421(r *received, key crypto.PublicKey, uri string) error {
	if err := r.none("digest"); err != nil {
		return err
	}
	input, err := r.one("signature-input")
	if err != nil {
		return err
	}
	header, err := r.one("signature")
	if err != nil {
		return err
	}
	digest, err := r.one("content-digest")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(r.body)
	if want := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"; digest != want {
		return fmt.Errorf("digest %q, want %q", digest, want)
	}
	m, sig := inputForm.FindStringSubmatch(input), signatureForm.FindStringSubmatch(header)
	if m == nil || sig == nil || m[4] != keyID {
		return fmt.Errorf("signature %q of input %q", header, input)
	}
	if _, isRSA := key.(*rsa.PublicKey); isRSA != (m[5] == "rsa-v1_5-sha256") {
		return fmt.Errorf("algorithm %q for a %T", m[5], key)
	}
	created, err := strconv.ParseInt(m[3], 10, 64)
	if err != nil {
		return err
	}
	if err := recent(time.Unix(created, 0).UTC().Format(http.TimeFormat)); err != nil {
		return err
	}
	base := `"@method": ` + r.method + "\n" + `"@target-uri": ` + uri + "\n" + `"content-digest": ` + digest + "\n"
	for _, quoted := range strings.Fields(m[2]) {
		base += quoted + ": " + strings.Join(r.header[strings.Trim(quoted, `"`)], ", ") + "\n"
	}
	return verify(key, base+`"@signature-params": `+m[1], sig[1])
}

// recent checks an IMF-fixdate: two digits for the day, GMT, and not ahead of the clock.
func recent(date string) error {
	at, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", date)
	if age := time.Since(at); err != nil || age < 0 || age > time.Minute {
		return fmt.Errorf("date %q is %v old: %w", date, age, err)
	}
	return nil
}

func verify(key crypto.PublicKey, signed, encoded string) error {
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		sum := sha256.Sum256([]byte(signed))
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature)
	case ed25519.PublicKey:
		if ed25519.Verify(key, []byte(signed), signature) {
			return nil
		}
	}
	return errors.New("signature doesn't fit")
}

// verifyGoFed verifies with go-fed/httpsig, given the path as sent, since it would decode it.
func verifyGoFed(r *received, key crypto.PublicKey) error {
	v, err := httpsig.NewVerifier(r.request())
	if err != nil {
		return err
	}
	if v.KeyId() != keyID {
		return fmt.Errorf("key ID %q", v.KeyId())
	}
	return v.Verify(key, httpsig.RSA_SHA256)
}

// verifyRemitly verifies with remitly-oss/httpsig-go, which makes @target-uri of RawPath and RawQuery, so it is given
// the whole target as one of them.
func verifyRemitly(r *received, key crypto.PublicKey, uri string) error {
	algorithm := remitly.Algo_RSA_v1_5_sha256
	if _, ok := key.(ed25519.PublicKey); ok {
		algorithm = remitly.Algo_ED25519
	}
	keys := keyman.NewKeyFetchInMemory(map[string]remitly.KeySpec{keyID: {KeyID: keyID, Algo: algorithm, PubKey: key}})
	req := r.request()
	u, err := url.Parse(uri)
	if err != nil {
		return err
	}
	req.Host = u.Host
	if u.Scheme == "https" {
		req.TLS = new(tls.ConnectionState)
	}
	_, err = remitly.Verify(req, keys, remitly.VerifyProfile{
		SignatureLabel:    "sig1",
		AllowedAlgorithms: []remitly.Algorithm{algorithm},
		RequiredFields:    remitly.Fields("@method", "@target-uri", "content-digest"),
		RequiredMetadata:  []remitly.Metadata{remitly.MetaCreated, remitly.MetaKeyID, remitly.MetaAlgorithm},
	})
	return err
}

// request makes of r what a library takes.
func (r *received) request() *http.Request {
	h := make(http.Header)
	for name, values := range r.header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	host := h.Get("Host")
	h.Del("Host")
	return &http.Request{
		Method: r.method, Host: host, Header: h, RequestURI: r.target,
		URL: &url.URL{Path: r.target, RawPath: r.target}, Body: io.NopCloser(bytes.NewReader(r.body)),
	}
}

func publicKey(t testing.TB, k *PrivateKey) crypto.PublicKey {
	t.Helper()
	b, _ := pem.Decode([]byte(k.PublicPEM()))
	key, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
