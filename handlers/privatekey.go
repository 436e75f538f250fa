package handlers

import (
	"context"
	"errors"
	"fmt"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// keyCall is the body of PUT /v1/keys. No private key is held as a string, which can't be wiped.
type keyCall struct {
	KeyID *string   `json:"key_id" nullable:"false" maxLength:"2048" doc:"as receivers look it up"`
	PEM   rawString `json:"private_key_pem,omitempty" doc:"RSA (2048 to 8192 bits; PKCS#1 or PKCS#8) or Ed25519 (PKCS#8); it never leaves again"`
	JWK   rawJWK    `json:"private_key_jwk,omitempty" doc:"instead of private_key_pem: the same as a private JSON Web Key"`
}

// pinnedKey is the key of an activity, which may be pinned to it.
type pinnedKey struct {
	KeyCall
	Pin bool `json:"pin,omitempty" doc:"this very key signs the activity, also if another is put under its ID later"`
}

// rawString is a JSON string as it stands in a call.
type rawString struct{ jsontext.Value }

// Schema describes it as what it is in a call.
func (rawString) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeString} }

// rawJWK is a JSON Web Key as it stands in a call.
type rawJWK struct{ jsontext.Value }

// Schema describes it as what it is in a call.
func (rawJWK) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// sentKey is a private key as it was sent. Its owner wipes it.
type sentKey struct {
	pinnedKey
	base string // where it stands in the request
	raw  []byte // the part of the call that it is read from
}

// wipe clears every copy of the private half that this package made. It may be called for no key, and again.
func (k *sentKey) wipe() {
	if k != nil {
		clear(k.PEM.Value)
		clear(k.JWK.Value)
		clear(k.raw)
	}
}

// wipe clears what the call holds of a private key.
func (c *activityCall) wipe() {
	if c != nil {
		c.key.wipe()
	}
}

// check finds what is missing, of the wrong type or too much. The error repeats nothing of what was sent.
func (k *sentKey) check() error {
	id := isMissing
	if k.KeyID != nil {
		id = checkKeyID(*k.KeyID)
	}
	hasPEM, hasJWK := len(k.PEM.Value) > len(`""`), k.JWK.Value != nil
	switch {
	case id != (flaw{}):
		return invalid(k.base+".key_id", id)
	case k.PEM.Value != nil && k.PEM.Kind() != jsontext.KindString:
		return invalid(k.base+".private_key_pem", wanted("a string"))
	case hasJWK && k.JWK.Kind() != jsontext.KindBeginObject:
		return invalid(k.base+".private_key_jwk", wanted("an object"))
	case !hasPEM && !hasJWK:
		return invalid(k.base+".private_key_pem", isMissing)
	case hasPEM && hasJWK:
		return invalid(k.base+".private_key_jwk", flaw{codeConflict, "there is a private_key_pem already"})
	}
	return nil
}

// sealKey parses a key and encrypts it for the store.
func (s *server) sealKey(k *sentKey) (queue.Key, error) {
	member, text := ".private_key_jwk", []byte(k.JWK.Value)
	parse := signer.ParseJWK
	if text == nil {
		member, parse = ".private_key_pem", signer.ParsePrivateKey
		text, _ = jsontext.AppendUnquote(make([]byte, 0, len(k.PEM.Value)), k.PEM.Value) // it is a string: see check
		defer clear(text)
	}
	private, err := parse(text)
	if err != nil {
		return queue.Key{}, invalid(k.base+member, flaw{codeInvalidKey, err.Error()})
	}
	key := queue.Key{ID: *k.KeyID, Algorithm: private.Algorithm(), PublicPEM: private.PublicPEM(), Fingerprint: private.Fingerprint()}
	if key.Sealed, err = s.Sealer.Seal(key.ID, private); err != nil {
		return queue.Key{}, fmt.Errorf("seal key %s: %w", key.ID, err)
	}
	return key, nil
}

// storeKey stores the key that came with an activity: as the current one of its ID if that is new or another, and beside
// it if it is pinned. A call that only repeats an earlier one must not come here, as another key may be current by now.
func (s *server) storeKey(ctx context.Context, key queue.Key, pin bool) error {
	current, err := s.Queue.Key(ctx, key.ID, "")
	if err != nil && !errors.Is(err, queue.ErrNotFound) {
		return fmt.Errorf("look up key: %w", err)
	}
	if err != nil || current.Fingerprint != key.Fingerprint || current.WhenIdle {
		if _, err := s.Queue.PutKey(ctx, key); err != nil {
			return fmt.Errorf("put key %s: %w", key.ID, err)
		}
		s.logPut(ctx, key)
	}
	if !pin {
		return nil
	}
	key.Pin = key.Fingerprint
	if _, err := s.Queue.PutKey(ctx, key); err != nil {
		return fmt.Errorf("put pinned key %s: %w", key.ID, err)
	}
	return nil
}
