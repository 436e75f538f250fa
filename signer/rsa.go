package signer

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/ssh"
)

// RSA is a back-end that does the RSA operation, which is nearly all that signing costs. It is safe for concurrent use.
type RSA interface {
	// Name is the name of the back-end in logs and metrics, such as "go" or "openssl 3.0.17".
	Name() string
	// Load prepares a key for many signatures. The key was validated and is not changed afterwards.
	Load(key *rsa.PrivateKey) (RSASigner, error)
}

// RSASigner signs with one key. It is safe for concurrent use. It is never closed, since the cache may drop it while other
// goroutines sign with it: an implementation that holds memory outside of Go's heap frees that by runtime.AddCleanup.
type RSASigner interface {
	// SignPKCS1v15SHA256 signs a SHA-256 digest by RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2). The scheme is deterministic:
	// all back-ends make the same bytes.
	SignPKCS1v15SHA256(digest [sha256.Size]byte) ([]byte, error)
}

// GoRSA is the back-end of the standard library, available on every platform.
func GoRSA() RSA { return goRSA{} }

type goRSA struct{}

func (goRSA) Name() string { return "go" }

func (goRSA) Load(key *rsa.PrivateKey) (RSASigner, error) { return goRSAKey{key}, nil }

type goRSAKey struct{ key *rsa.PrivateKey }

func (k goRSAKey) SignPKCS1v15SHA256(digest [sha256.Size]byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, k.key, crypto.SHA256, digest[:])
}

// signingKey is a key that is ready to sign: either the RSA fields are set or ed is.
type signingKey struct {
	rsa    RSASigner
	public ssh.PublicKey
	ed     ed25519.PrivateKey
}

func newSigningKey(private crypto.PrivateKey, backend RSA) (*signingKey, error) {
	switch key := private.(type) {
	case ed25519.PrivateKey:
		return &signingKey{ed: key}, nil
	case *rsa.PrivateKey:
		signer, err := backend.Load(key)
		if err != nil {
			return nil, fmt.Errorf("load key into RSA back-end %s: %w", backend.Name(), err)
		}
		half := key.PublicKey // a pointer into the private key would keep all of it from the garbage collector
		public, err := ssh.NewPublicKey(&half)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		return &signingKey{rsa: signer, public: public}, nil
	}
	return nil, fmt.Errorf("no way to sign with a %T", private)
}

// signRequest signs by the scheme of the params or, if the key can't, by RFC 9421.
func (k *signingKey) signRequest(req *http.Request, p Params, now time.Time) (Scheme, error) {
	m, err := newMessage(req, p, now)
	if err != nil {
		return "", err
	}
	if k.rsa != nil && p.Scheme == Cavage {
		return Cavage, signCavage(m, k)
	}
	return RFC9421, signRFC9421(m, k)
}

// algorithm is the key's name in the registry of RFC 9421 section 6.2.
func (k *signingKey) algorithm() string {
	if k.rsa != nil {
		return "rsa-v1_5-sha256"
	}
	return "ed25519"
}

func (k *signingKey) sign(data []byte) ([]byte, error) {
	if k.rsa != nil {
		return k.rsa.SignPKCS1v15SHA256(sha256.Sum256(data))
	}
	return ed25519.Sign(k.ed, data), nil
}
