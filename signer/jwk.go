package signer

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/go-jose/go-jose/v4"
	"github.com/mr-tron/base58"
)

// maxJWK is more than the longest key accepted takes as a JSON Web Key, in bytes.
const maxJWK = 16 << 10

// ParseJWK reads one private key as a JSON Web Key (RFC 7517): RSA of 2048 to 8192 bits (RFC 7518, section 6.3) or
// Ed25519 (RFC 8037). Members that say what the key is for are ignored. The error says what is wrong and what is
// accepted; it never holds anything of the key.
func ParseJWK(text []byte) (*PrivateKey, error) {
	if len(text) > maxJWK {
		return nil, refuseJWK("it is too long")
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(text); err != nil {
		return nil, refuseJWK("it isn't a sound JSON Web Key")
	}
	switch key := jwk.Key.(type) {
	case *rsa.PrivateKey:
		return checkPrimes(newRSAKey(key))
	case ed25519.PrivateKey:
		return newKey(key, key.Public())
	case *rsa.PublicKey, ed25519.PublicKey:
		return nil, refuseJWK("it is a public key")
	}
	return nil, refuseJWK("it is neither RSA nor Ed25519")
}

// refuseJWK makes the error of a JSON Web Key that isn't accepted.
func refuseJWK(why string) error {
	return errors.New("private key refused: " + why +
		"; accepted is a private JSON Web Key, RSA of 2048 to 8192 bits or Ed25519 (kty OKP, crv Ed25519)")
}

// The prefixes of public keys in Multikey form, as varints: multicodec's ed25519-pub (0xed) and rsa-pub (0x1205).
var (
	multicodecEd25519 = []byte{0xed, 0x01}
	multicodecRSA     = []byte{0x85, 0x24}
)

// PublicMultibase returns a public key, given as PublicPEM writes it, as actors publish it in the publicKeyMultibase of a
// Multikey (W3C Controlled Identifiers, section 2.2.2): "z" and base58btc. It returns "" for anything else.
func PublicMultibase(publicPEM string) string {
	block, _ := pem.Decode([]byte(publicPEM))
	if block == nil {
		return ""
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return ""
	}
	switch key := public.(type) {
	case ed25519.PublicKey:
		return multibase(multicodecEd25519, key)
	case *rsa.PublicKey:
		return multibase(multicodecRSA, x509.MarshalPKCS1PublicKey(key))
	}
	return ""
}

func multibase(prefix, key []byte) string {
	return "z" + base58.Encode(append(prefix[:len(prefix):len(prefix)], key...))
}
