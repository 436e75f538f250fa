package signer

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// The RSA keys that are accepted. Exponents larger than F4 are as good; smaller ones have a history of forgeries.
const (
	minRSABits  = 2048
	maxRSABits  = 8192
	minExponent = 65537
)

// maxPEM is more than the longest key accepted takes, in bytes. It bounds what parsing can cost.
const maxPEM = 8 << 10

// PrivateKey is a key that signs: RSA or Ed25519. Make it with ParsePrivateKey or Sealer.Open. However it is formatted,
// logged or encoded, it shows its kind and the fingerprint of its public half, and nothing of the private one.
type PrivateKey struct {
	// private returns a *rsa.PrivateKey or an ed25519.PrivateKey. It is a function because nothing can look into one:
	// fmt doesn't call Format on an unexported field of another package's struct, and prints all that the field holds.
	private func() crypto.PrivateKey
	rsa     bool   // else Ed25519
	public  []byte // PKIX, DER
}

// ParsePrivateKey reads one private key in PEM: RSA of 2048 to 8192 bits (PKCS#1 or PKCS#8) or Ed25519 (PKCS#8). The
// error says what is wrong and what is accepted, for the caller that sent the key; it never holds anything of the key.
func ParsePrivateKey(text []byte) (*PrivateKey, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, err
	}
	defer clear(block.Bytes)
	return checkPrimes(parseBlock(block))
}

// refuse makes the error of a key that isn't accepted. Causes from the parsers are left out: they may quote what they
// read.
func refuse(why string) error {
	return errors.New("private key refused: " + why +
		"; accepted is one PEM block, RSA of 2048 to 8192 bits (PKCS#1 or PKCS#8) or Ed25519 (PKCS#8), not encrypted")
}

// onlyBlock decodes text, which must be one PEM block (RFC 7468) and nothing else but space around it.
func onlyBlock(text []byte) (*pem.Block, error) {
	begin := []byte("-----BEGIN ")
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0:
		return nil, refuse("it is empty")
	case len(text) > maxPEM:
		return nil, refuse("it is too long")
	case !bytes.HasPrefix(text, begin):
		return nil, refuse("it doesn't start as PEM")
	case bytes.Count(text, begin) > 1:
		return nil, refuse("it is more than one PEM block")
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, refuse("its PEM is damaged")
	case len(rest) > 0:
		return nil, refuse("something follows the PEM block")
	}
	return block, nil
}

func parseBlock(block *pem.Block) (*PrivateKey, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		if len(block.Headers) > 0 {
			return nil, refuse("it is encrypted, or has PEM headers for some other reason")
		}
		return parsePKCS1(block.Bytes)
	case "PRIVATE KEY":
		return parsePKCS8(block.Bytes)
	}
	return nil, refuse(cmp.Or(otherBlocks[block.Type], "it isn't labelled as a private key"))
}

// otherBlocks says what PEM of other types is.
var otherBlocks = map[string]string{
	"ENCRYPTED PRIVATE KEY": "it is encrypted", "OPENSSH PRIVATE KEY": "it is in OpenSSH's own format",
	"PUBLIC KEY": "it is a public key", "RSA PUBLIC KEY": "it is a public key", "CERTIFICATE": "it is a certificate",
	"EC PRIVATE KEY": "it is an elliptic-curve key",
}

// unsound is refuse for an error of crypto/x509. It repeats only what crypto/rsa says, which quotes nothing.
func unsound(why string, err error) error {
	if _, fault, ok := strings.Cut(err.Error(), "crypto/rsa: "); ok {
		why += " (" + fault + ")"
	}
	return refuse(why)
}

func parsePKCS1(der []byte) (*PrivateKey, error) {
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, unsound("it isn't a sound RSA key in PKCS#1", err)
	}
	return newRSAKey(key)
}

func parsePKCS8(der []byte) (*PrivateKey, error) {
	// crypto/x509 lets anything follow the key.
	if rest, err := asn1.Unmarshal(der, new(asn1.RawValue)); err != nil || len(rest) > 0 {
		return nil, refuse("its PKCS#8 is damaged")
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, unsound("it isn't a sound RSA or Ed25519 key in PKCS#8", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return newRSAKey(key)
	case ed25519.PrivateKey:
		return newKey(key, key.Public())
	}
	return nil, refuse("it is neither RSA nor Ed25519")
}

// newRSAKey checks an RSA key, in whatever form it was read.
func newRSAKey(key *rsa.PrivateKey) (*PrivateKey, error) {
	switch bits := key.N.BitLen(); {
	case bits < minRSABits || bits > maxRSABits:
		return nil, refuse(fmt.Sprintf("it is RSA of %d bits", bits))
	case key.E < minExponent:
		return nil, refuse("its public exponent is below 65537")
	case len(key.Primes) != 2:
		return nil, refuse("it is RSA of more than two primes")
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, refuse("its numbers don't make an RSA key")
	}
	return newKey(key, &key.PublicKey)
}

// minPrimeBits is far above what elliptic curves can factor out, and below the primes of unusual but sound keys.
const minPrimeBits = 640

// checkPrimes refuses an RSA key with a factor that is small or no prime, for which crypto/rsa does not look. It takes some
// milliseconds, so only new keys are checked. No composite number is known that passes the test.
func checkPrimes(k *PrivateKey, err error) (*PrivateKey, error) {
	if err != nil || !k.rsa {
		return k, err
	}
	for _, p := range k.private().(*rsa.PrivateKey).Primes {
		switch {
		case p.BitLen() < minPrimeBits:
			return nil, refuse("one of its primes is too small")
		case !p.ProbablyPrime(0):
			return nil, refuse("one of its primes is no prime")
		}
	}
	return k, nil
}

func newKey(private crypto.PrivateKey, public crypto.PublicKey) (*PrivateKey, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	_, isRSA := private.(*rsa.PrivateKey)
	return &PrivateKey{private: func() crypto.PrivateKey { return private }, rsa: isRSA, public: der}, nil
}

// Algorithm returns "rsa" or "ed25519".
func (k PrivateKey) Algorithm() string {
	if k.rsa {
		return "rsa"
	}
	return "ed25519"
}

// PublicPEM returns the public key in PEM (PKIX, "PUBLIC KEY"), as actors publish it in publicKeyPem.
func (k PrivateKey) PublicPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.public}))
}

// Fingerprint returns "SHA256:" and the unpadded base64 of the SHA-256 of the public key (PKIX, DER).
func (k PrivateKey) Fingerprint() string {
	sum := sha256.Sum256(k.public)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// String names the key without revealing it.
func (k PrivateKey) String() string { return k.Algorithm() + " private key " + k.Fingerprint() }

// Format writes String for every verb and flag (fmt.Formatter).
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue logs String (slog.LogValuer).
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
