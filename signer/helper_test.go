package signer

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

const keyID = "https://app.example/users/alice#main-key"

var activity = []byte(`{"id":"https://app.example/a/1","type":"Like","actor":"https://app.example/users/alice"}`)

// rsaKey and otherRSAKey are made once for all tests, as that takes long.
var (
	rsaKey      = sync.OnceValue(func() *PrivateKey { return mustKey(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSAKey = sync.OnceValue(func() *PrivateKey { return mustKey(rsa.GenerateKey(rand.Reader, 2048)) })
	edKey       = sync.OnceValue(func() *PrivateKey {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return mustKey(k, err)
	})
)

func mustKey(key any, err error) *PrivateKey {
	if err != nil {
		panic(err)
	}
	k, err := ParsePrivateKey(pkcs8(key))
	if err != nil {
		panic(err)
	}
	return k
}

func rawRSA(k *PrivateKey) *rsa.PrivateKey   { return k.private().(*rsa.PrivateKey) }
func rawEd(k *PrivateKey) ed25519.PrivateKey { return k.private().(ed25519.PrivateKey) }

func pkcs8(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return block("PRIVATE KEY", der)
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func readKey(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// memStore keeps sealed keys in memory.
type memStore struct {
	sealer *Sealer
	mu     sync.Mutex
	keys   map[string][]byte // guarded by mu
}

func newMemStore(t testing.TB) *memStore {
	t.Helper()
	sealer, err := NewSealer([]byte(strings.Repeat("m", MasterKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return &memStore{sealer: sealer, keys: make(map[string][]byte)}
}

func (s *memStore) put(t testing.TB, id string, k *PrivateKey) {
	t.Helper()
	sealed, err := s.sealer.Seal(id, k)
	if err != nil {
		t.Fatal(err)
	}
	s.putSealed(id, sealed)
}

func (s *memStore) putSealed(id string, sealed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = sealed
}

func (s *memStore) SealedKey(ctx context.Context, id, pin string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sealed, ok := s.keys[id+pin]; ok {
		return sealed, nil
	}
	return nil, ErrKeyMissing
}

// newSigner makes a Signer whose store holds k under keyID.
func newSigner(t testing.TB, k *PrivateKey) (*Signer, *memStore) {
	t.Helper()
	store := newMemStore(t)
	store.put(t, keyID, k)
	return New(Options{Store: store, Sealer: store.sealer}), store
}

func newRequest(t testing.TB, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(string(activity)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/activity+json")
	return req
}

func params(scheme Scheme, headers ...string) Params {
	return Params{KeyID: keyID, Scheme: scheme, Digest: sha256.Sum256(activity), Headers: headers}
}

func mustSign(t testing.TB, s *Signer, req *http.Request, p Params) Scheme {
	t.Helper()
	used, err := s.Sign(t.Context(), req, p)
	if err != nil {
		t.Fatal(err)
	}
	return used
}
