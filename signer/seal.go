package signer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrSealed is wrapped by the errors of Open: the bytes were sealed for another key ID, or they are damaged, or, if the
// error wraps ErrMasterKey too, sealed with a master key that the Sealer hasn't got.
var ErrSealed = errors.New("sealed key can't be opened")

// ErrMasterKey is the ErrSealed where no master key fits.
var ErrMasterKey = fmt.Errorf("%w: it was sealed with another master key", ErrSealed)

// MasterKeySize is the length of a master key, in bytes.
const MasterKeySize = 32

// form is the first byte of a sealed key. The fingerprint of the master key follows, then a nonce and the key's PKCS#8 under
// AES-256-GCM, with form, fingerprint and key ID as additional data. Sealed keys are in stores: another form gets another
// number.
const form = 1

// sealName is the fingerprint of a master key as bytes.
type sealName [8]byte

func (n sealName) String() string { return hex.EncodeToString(n[:]) }

const headSize = 1 + len(sealName{}) // of form and fingerprint

// Sealer encrypts private keys for the store, each bound to its key ID. Make it with NewSealer.
type Sealer struct{ masters []masterKey } // the first seals

type masterKey struct {
	name sealName
	aead cipher.AEAD
}

// NewSealer makes a Sealer of master keys of MasterKeySize bytes. It keeps only their key schedules. The first master key
// seals, all of them open. Nonces are random: one master key is good for some 2^32 calls of Seal and Reseal.
func NewSealer(masters ...[]byte) (*Sealer, error) {
	if len(masters) == 0 {
		return nil, errors.New("no master key")
	}
	s := &Sealer{}
	for _, master := range masters {
		m, err := newMasterKey(master)
		if err != nil {
			return nil, err
		}
		s.masters = append(s.masters, m)
	}
	return s, nil
}

func newMasterKey(master []byte) (masterKey, error) {
	if len(master) != MasterKeySize {
		return masterKey{}, fmt.Errorf("master key has %d bytes; accepted are exactly %d", len(master), MasterKeySize)
	}
	block, err := aes.NewCipher(master)
	if err != nil {
		return masterKey{}, fmt.Errorf("master key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return masterKey{}, fmt.Errorf("master key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("postrider master key\n"), master...))
	return masterKey{sealName(sum[:]), aead}, nil
}

// Fingerprints names the master keys, in their order: 16 hexadecimal digits each, which reveal nothing of the key.
func (s *Sealer) Fingerprints() []string {
	names := make([]string, len(s.masters))
	for i, m := range s.masters {
		names[i] = m.name.String()
	}
	return names
}

// Seal encrypts k for storing under keyID. Sealing a key twice gives different bytes. It returns an error if the key ID
// can't be used (CheckKeyID).
func (s *Sealer) Seal(keyID string, k *PrivateKey) ([]byte, error) {
	if err := CheckKeyID(keyID); err != nil {
		return nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(k.private())
	if err != nil {
		return nil, errors.New("private key can't be encoded") // without the cause, which might reveal the key
	}
	defer clear(plain)
	return s.seal(keyID, plain), nil
}

func (s *Sealer) seal(keyID string, plain []byte) []byte {
	m := s.masters[0]
	sealed := make([]byte, headSize, headSize+len(plain)+m.aead.Overhead())
	sealed[0] = form
	copy(sealed[1:], m.name[:])
	return m.aead.Seal(sealed, nil, plain, bound(sealed, keyID))
}

// bound is the additional data of a sealed key.
func bound(sealed []byte, keyID string) []byte {
	return append(bytes.Clone(sealed[:headSize]), keyID...)
}

// Reseal encrypts a key that Seal made for the same keyID again, with the first master key. It returns nil if the first
// master key sealed it already. The error wraps ErrSealed.
func (s *Sealer) Reseal(keyID string, sealed []byte) ([]byte, error) {
	if name, ok := nameOf(sealed); ok && name == s.masters[0].name {
		return nil, nil
	}
	plain, err := s.open(keyID, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return s.seal(keyID, plain), nil
}

// nameOf reads which master key sealed a key. It is false for what is no sealed key.
func nameOf(sealed []byte) (sealName, bool) {
	if len(sealed) < headSize || sealed[0] != form {
		return sealName{}, false
	}
	return sealName(sealed[1:headSize]), true
}

// SealedWith returns the fingerprint of the master key that sealed a key, or "" for what is no sealed key.
func SealedWith(sealed []byte) string {
	if name, ok := nameOf(sealed); ok {
		return name.String()
	}
	return ""
}

// Open decrypts what Seal made for the same keyID. The error wraps ErrSealed.
func (s *Sealer) Open(keyID string, sealed []byte) (*PrivateKey, error) {
	plain, err := s.open(keyID, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	k, err := parsePKCS8(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return k, nil
}

// Check returns the error that Open would return, at a hundredth of the cost: it decrypts the key but doesn't parse it.
func (s *Sealer) Check(keyID string, sealed []byte) error {
	plain, err := s.open(keyID, sealed)
	clear(plain)
	return err
}

// open returns the PKCS#8 of a key, which the caller clears.
func (s *Sealer) open(keyID string, sealed []byte) ([]byte, error) {
	name, ok := nameOf(sealed)
	if !ok {
		return nil, fmt.Errorf("%w: it is damaged, or of a newer form", ErrSealed)
	}
	for _, m := range s.masters {
		if m.name != name {
			continue
		}
		plain, err := m.aead.Open(nil, nil, sealed[headSize:], bound(sealed, keyID))
		if err != nil {
			return nil, fmt.Errorf("%w: it was sealed for another key ID, or it is damaged", ErrSealed)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("%w (%s; given: %s)", ErrMasterKey, name, strings.Join(s.Fingerprints(), ", "))
}
