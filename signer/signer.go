// Package signer signs deliveries: it makes the Date, the digest and the signature of one attempt, by draft-cavage-12
// or by RFC 9421, with a private key that is kept sealed and looked up for each signature.
//
// What callers may rely on:
//
//   - Fresh: each Sign makes a new date and signature, and removes those of an earlier one. A key that was replaced
//     in the Store signs from the next call on; a key that was removed signs nothing any more.
//   - One scheme: a request never carries both. After an error it carries none.
//   - As sent: what is signed is what net/http puts on the wire, escaped path, query and Host as they are.
//   - Secret: no private key is in any error, log line or formatted value of this package, and none is kept
//     unencrypted outside of memory.
//   - Bounded: at most Parallel signatures are made at a time, and at most CacheSize keys are held parsed.
//
// What callers may not rely on: that a request may be changed after it was signed (sign last); that the signature
// lasts (receivers refuse a Date some minutes old: sign for each attempt); that memory which held a key is wiped once
// the garbage collector has it. Buffers are wiped where this package makes them.
//
// Everything is safe for concurrent use, but a request belongs to one Sign at a time.
package signer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"
)

// Scheme is a way to sign a request.
type Scheme string

// The schemes.
const (
	Cavage  Scheme = "cavage"  // draft-cavage-http-signatures-12 with rsa-sha256, understood nearly everywhere
	RFC9421 Scheme = "rfc9421" // HTTP Message Signatures
)

// ErrKeyMissing is wrapped by a Store that has no key of the ID asked for. Sign passes it on.
var ErrKeyMissing = errors.New("key missing")

// Store finds sealed keys.
type Store interface {
	// SealedKey returns what Sealer.Seal made of the key that is current under the ID or, with a pin, of the key with that
	// fingerprint. If there is none, the error wraps ErrKeyMissing. It is called for each signature. Neither the caller nor
	// the Store may change the bytes afterwards.
	SealedKey(ctx context.Context, keyID, pin string) ([]byte, error)
}

// Options are a Signer's. Store and Sealer are required.
type Options struct {
	Store     Store
	Sealer    *Sealer
	RSA       RSA // the RSA back-end (see OpenRSA); nil is GoRSA()
	CacheSize int // maximum of parsed keys kept, some 5 KB each with RSA-2048; 0 is 10,000
	Parallel  int // maximum of concurrent signatures; 0 is GOMAXPROCS, as signing is nothing but CPU
}

// Params say what to sign a request with.
type Params struct {
	KeyID  string // as receivers look it up; see CheckKeyID
	Pin    string // the fingerprint of the only key that may sign, "" for the one that is current under KeyID
	Scheme Scheme // of RSA keys; an Ed25519 key always signs by RFC 9421
	// Digest is the SHA-256 of the body, which Sign does not read.
	Digest [sha256.Size]byte
	// Headers are the names of headers, already set on the request, to sign besides those that are always signed. Those that
	// net/http writes by itself (Host, Content-Length, Transfer-Encoding, Trailer) are refused.
	Headers []string
}

// Signer signs requests. Make it with New.
type Signer struct {
	store Store
	keys  *keyCache
	slots chan struct{} // one token for each signature being made
}

// New makes a Signer. It panics if o lacks Store or Sealer.
func New(o Options) *Signer {
	if o.Store == nil || o.Sealer == nil {
		panic("signer: New needs a Store and a Sealer")
	}
	if o.RSA == nil {
		o.RSA = GoRSA()
	}
	return &Signer{
		store: o.Store,
		keys:  newKeyCache(cmp.Or(max(o.CacheSize, 0), 10_000), o.load),
		slots: make(chan struct{}, cmp.Or(max(o.Parallel, 0), runtime.GOMAXPROCS(0))),
	}
}

// load makes a sealed key ready to sign.
func (o Options) load(keyID string, sealed []byte) (*signingKey, error) {
	k, err := o.Sealer.Open(keyID, sealed)
	if err != nil {
		return nil, err
	}
	return newSigningKey(k.private(), o.RSA)
}

// Sign dates and signs req, and returns the scheme it used. It replaces Date (by this machine's clock, UTC), Signature,
// Digest, Signature-Input and Content-Digest by those that the scheme needs.
//
// By draft-cavage-12 it signs (request-target), host, date, digest and content-type, which req must have; by RFC 9421
// @method, @target-uri and content-digest; then those of p.Headers that were not named yet.
//
// The error wraps ErrKeyMissing, ErrSealed, the Store's error, or the cause of ctx's end. All of these are faults on our
// side: none says anything about the receiver.
func (s *Signer) Sign(ctx context.Context, req *http.Request, p Params) (Scheme, error) {
	unsign(req.Header)
	used, err := s.sign(ctx, req, p)
	if err != nil {
		return "", fmt.Errorf("sign with key %q: %w", p.KeyID, err)
	}
	return used, nil
}

func (s *Signer) sign(ctx context.Context, req *http.Request, p Params) (Scheme, error) {
	if p.Scheme != Cavage && p.Scheme != RFC9421 {
		return "", fmt.Errorf("no signature scheme %q", p.Scheme)
	}
	if err := CheckKeyID(p.KeyID); err != nil {
		return "", err
	}
	sealed, err := s.store.SealedKey(ctx, p.KeyID, p.Pin)
	if errors.Is(err, ErrKeyMissing) {
		s.keys.missing(p.KeyID, p.Pin) // perhaps removed by another node
	}
	if err != nil {
		return "", err
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for other signatures: %w", context.Cause(ctx))
	}
	key, err := s.keys.get(p.KeyID, p.Pin, sealed)
	if err != nil {
		return "", err
	}
	return key.signRequest(req, p, time.Now())
}

// Forget drops the parsed keys under an ID from the cache. Keys that are still in the Store are parsed again when they are
// needed.
func (s *Signer) Forget(keyID string) { s.keys.forget(keyID) }

// CheckKeyID returns an error if a key ID can't be put into a signature. Accepted is printable ASCII without quotation
// mark and backslash, which needs no escape in either scheme's quoted strings.
func CheckKeyID(id string) error {
	if id == "" {
		return errors.New("key ID is empty")
	}
	for _, c := range []byte(id) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return fmt.Errorf("key ID holds the byte %#02x; accepted is printable ASCII but for \" and \\", c)
		}
	}
	return nil
}

// unsign removes the headers of an earlier signature, in any spelling of upper and lower case.
func unsign(h http.Header) {
	for name := range h {
		switch http.CanonicalHeaderKey(name) {
		case "Signature", "Signature-Input", "Digest", "Content-Digest", "Date":
			delete(h, name)
		}
	}
}
