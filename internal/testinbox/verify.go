package testinbox

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// message is a request whose body has been read and hashed.
type message struct {
	*http.Request
	bodyHash [sha256.Size]byte
}

// window is the maximum distance of a signature's time from now.
const window = time.Hour

// signature is a request's signature.
type signature struct {
	keyID     string
	algorithm string // of RFC 9421's registry
	base      string // the signed text
	value     []byte
}

// verify returns the scheme and the key ID of a request's signature, as far as it could be read, and the reason if it is
// invalid. A Signature-Input header distinguishes the schemes.
func (m message) verify(keys func(string) crypto.PublicKey) (Scheme, string, error) {
	scheme := Cavage
	parse := m.cavage
	if m.Header.Get("Signature-Input") != "" {
		scheme = RFC9421
		parse = m.rfc9421
	} else if m.Header.Get("Signature") == "" {
		return "", "", errors.New("not signed")
	}
	s, err := parse()
	if err == nil {
		err = s.check(keys(s.keyID))
	}
	if err != nil {
		return scheme, s.keyID, fmt.Errorf("%s: %w", scheme, err)
	}
	return scheme, s.keyID, nil
}

// check verifies a signature with a key, which must be of the kind that the algorithm needs.
func (s signature) check(key crypto.PublicKey) error {
	ok := false
	switch public := key.(type) {
	case nil:
		return fmt.Errorf("unknown key %q", s.keyID)
	case *rsa.PublicKey:
		hash := sha256.Sum256([]byte(s.base))
		ok = s.algorithm == "rsa-v1_5-sha256" && rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], s.value) == nil
	case ed25519.PublicKey:
		ok = s.algorithm == "ed25519" && ed25519.Verify(public, []byte(s.base), s.value)
	}
	if !ok {
		return fmt.Errorf("signature by %s does not match key %q", s.algorithm, s.keyID)
	}
	return nil
}

// single returns the value of a header that must be there exactly once.
func (m message) single(name string) (string, error) {
	values := m.Header.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", fmt.Errorf("want one %s header, got %d", name, len(values))
	}
	return values[0], nil
}

// checkDigest requires a header to be the body's hash between prefix and suffix.
func (m message) checkDigest(name, prefix, suffix string) error {
	value, err := m.single(name)
	if err != nil {
		return err
	}
	if want := prefix + base64.StdEncoding.EncodeToString(m.bodyHash[:]) + suffix; value != want {
		return fmt.Errorf("%s is %q, the body's is %q", name, value, want)
	}
	return nil
}

// checkTime refuses a time that is further from now than window.
func checkTime(t time.Time) error {
	if age := time.Since(t); age.Abs() > window {
		return fmt.Errorf("signed at %s, which is %s ago", t.UTC().Format(time.RFC3339), age.Round(time.Second))
	}
	return nil
}

// field returns a header's values as they are signed: trimmed, and joined if there are several. Only Host, which
// net/http keeps elsewhere, is special.
func (m message) field(name string) (string, error) {
	values := m.Header.Values(name)
	if name == "host" {
		values = []string{m.Host}
	}
	// SPEC: draft-cavage-http-signatures-12 section 2.3: "If a header specified in the headers parameter cannot be
	// matched with a provided header in the message, the implementation MUST produce an error."
	if len(values) == 0 {
		return "", fmt.Errorf("%s is signed and not there", name)
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = strings.TrimSpace(v)
	}
	return strings.Join(trimmed, ", "), nil
}
