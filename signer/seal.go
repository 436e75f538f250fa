package signer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/x509"
	"errors"
	"fmt"
)

// ErrSealed is wrapped by the errors of Open: the bytes were sealed with another master key or for another key ID, or
// they are damaged. Which of these it is can't be told.
var ErrSealed = errors.New("sealed key can't be opened (other master key, other key ID, or damaged)")

// MasterKeySize is the length of a master key, in bytes.
const MasterKeySize = 32

// sealVersion is the first byte of a sealed key. Version 1 is followed by the nonce and by the key's PKCS#8 under
// AES-256-GCM, with the key ID as additional data.
const sealVersion = 1

// Sealer encrypts private keys for the store, each bound to its key ID. Make it with NewSealer.
type Sealer struct{ aead cipher.AEAD }

// NewSealer makes a Sealer from a master key of MasterKeySize bytes, of which it keeps no copy but the key schedule.
// Nonces are random: one master key is good for some 2^32 calls of Seal.
func NewSealer(master []byte) (*Sealer, error) {
	if len(master) != MasterKeySize {
		return nil, fmt.Errorf("master key has %d bytes; accepted are exactly %d", len(master), MasterKeySize)
	}
	block, err := aes.NewCipher(master)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return &Sealer{aead}, nil
}

// Seal encrypts k for storing under keyID. Sealing a key twice gives different bytes. The error tells that the key ID
// can't be used (CheckKeyID).
func (s *Sealer) Seal(keyID string, k *PrivateKey) ([]byte, error) {
	if err := CheckKeyID(keyID); err != nil {
		return nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(k.private())
	if err != nil {
		return nil, errors.New("private key can't be encoded") // the cause is left out, lest it tells of the key
	}
	defer clear(plain)
	sealed := make([]byte, 1, 1+len(plain)+s.aead.Overhead())
	sealed[0] = sealVersion
	return s.aead.Seal(sealed, nil, plain, []byte(keyID)), nil
}

// Open decrypts what Seal made for the same keyID. The error wraps ErrSealed.
func (s *Sealer) Open(keyID string, sealed []byte) (*PrivateKey, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: unknown version", ErrSealed)
	}
	plain, err := s.aead.Open(nil, nil, sealed[1:], []byte(keyID))
	if err != nil {
		return nil, ErrSealed
	}
	defer clear(plain)
	k, err := parsePKCS8(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return k, nil
}
