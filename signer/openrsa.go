package signer

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
)

// OpenRSA returns the RSA back-end of a choice:
//
//   - "go": the standard library.
//   - "openssl": libcrypto of OpenSSL 3, loaded at run time, or an error if it is not available.
//   - "auto": libcrypto if it is available, else the standard library, and never an error. If libcrypto is not used, the
//     note says why, for the log. Keys that libcrypto doesn't accept are signed with in Go.
//
// libcrypto is used only after it made the same signature as the standard library. It is never unloaded: open once and
// share.
func OpenRSA(choice string) (backend RSA, note string, err error) {
	return openRSA(choice, libcryptoPaths())
}

func openRSA(choice string, paths []string) (RSA, string, error) {
	switch choice {
	case "go":
		return GoRSA(), "", nil
	case "openssl":
		backend, err := openLibcrypto(paths)
		if err != nil {
			return nil, "", fmt.Errorf("signing by openssl: %w", err)
		}
		return backend, "", nil
	case "auto":
		backend, err := openLibcrypto(paths)
		if err != nil {
			return GoRSA(), "libcrypto is not used: " + err.Error(), nil //nolint:nilerr // the caller gets it as the reason
		}
		return eitherRSA{backend, GoRSA()}, "", nil
	}
	return nil, "", fmt.Errorf("no signing back-end %q; accepted are auto, go and openssl", choice)
}

// eitherRSA is the first back-end, and the second for keys that the first doesn't accept.
type eitherRSA struct{ first, second RSA }

func (e eitherRSA) Name() string { return e.first.Name() }

func (e eitherRSA) Load(key *rsa.PrivateKey) (RSASigner, error) {
	if s, err := e.first.Load(key); err == nil {
		return s, nil
	}
	return e.second.Load(key)
}

// proofKey is the public example key of RFC 9421 appendix B.1.1.
//
//go:embed testdata/rfc9421-rsa.pem
var proofKey []byte

func proofDigest() [sha256.Size]byte {
	return sha256.Sum256([]byte("the same message to the same bytes"))
}

// prove compares a back-end's signature with that of the standard library.
func prove(backend RSA) error {
	k, err := ParsePrivateKey(proofKey)
	if err != nil {
		return err
	}
	key := k.private().(*rsa.PrivateKey)
	got, err := signProof(backend, key)
	if err != nil {
		return err
	}
	want, err := signProof(GoRSA(), key)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("signs differently from crypto/rsa")
	}
	return nil
}

func signProof(backend RSA, key *rsa.PrivateKey) ([]byte, error) {
	s, err := backend.Load(key)
	if err != nil {
		return nil, err
	}
	return s.SignPKCS1v15SHA256(proofDigest())
}
