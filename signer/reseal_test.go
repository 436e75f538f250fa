package signer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"weak"

	"github.com/google/go-cmp/cmp"
)

// sealerOf returns a sealer of master keys named by one letter each: "mo" seals with m and opens with o too.
func sealerOf(t testing.TB, letters string) *Sealer {
	t.Helper()
	var masters [][]byte
	for _, letter := range letters {
		masters = append(masters, bytes.Repeat([]byte(string(letter)), MasterKeySize))
	}
	s, err := NewSealer(masters...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The key in rfc9421-ed25519.pem as the master key m sealed it: such bytes are in stores.
const (
	sealedKey = "01272ef0b76998d51233d8f69b8cfc60edba9916229dd30ab347ab160cf84a99524397ab9f30ed188daad043a0f96697df99cadd803e034626afdeda533003e91b90314e2726886eff82c71f62001ad658b79a1f2a"
	nameOfM   = "272ef0b76998d512"
)

func stored(t *testing.T, text string) []byte {
	t.Helper()
	sealed, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestStoredFormOpens checks that keys in stores can be opened, and sealed again with another master key.
func TestStoredFormOpens(t *testing.T) {
	want, err := ParsePrivateKey(readKey(t, "rfc9421-ed25519.pem"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := stored(t, sealedKey)
	if by := SealedWith(sealed); by != nameOfM {
		t.Errorf("sealed with %q", by)
	}
	for _, letters := range []string{"m", "om", "mo", "nom"} {
		s := sealerOf(t, letters)
		if k, err := s.Open(keyID, sealed); err != nil || k.Fingerprint() != want.Fingerprint() || s.Check(keyID, sealed) != nil {
			t.Errorf("opened with %s: %v, error %v", letters, k, err)
		}
	}
	resealed, err := sealerOf(t, "om").Reseal(keyID, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := sealerOf(t, "o").Open(keyID, resealed); err != nil || k.Fingerprint() != want.Fingerprint() {
		t.Errorf("sealed again: %v, error %v", k, err)
	}
	if err := sealerOf(t, "m").Check(keyID, resealed); !errors.Is(err, ErrMasterKey) {
		t.Errorf("sealed again, with the old master key: %v", err)
	}
}

// TestResealOnce checks that keys sealed with the first master key are not changed.
func TestResealOnce(t *testing.T) {
	old, both := sealerOf(t, "m"), sealerOf(t, "om")
	sealed, err := old.Seal(keyID, edKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Sealer{old, sealerOf(t, "mo")} {
		if again, err := s.Reseal(keyID, sealed); again != nil || err != nil {
			t.Errorf("sealed again to %x, error %v", again, err)
		}
	}
	resealed, err := both.Reseal(keyID, sealed)
	if err != nil || SealedWith(resealed) != both.Fingerprints()[0] {
		t.Errorf("sealed again to %x, error %v", resealed, err)
	}
	if again, err := both.Reseal(keyID, resealed); again != nil || err != nil {
		t.Errorf("sealed once more to %x, error %v", again, err)
	}
	if by, err := both.Seal(keyID, edKey()); err != nil || SealedWith(by) != both.Fingerprints()[0] {
		t.Errorf("a new key is sealed with %s, error %v", SealedWith(by), err)
	}
	for _, bad := range [][]byte{nil, {1}, {2}, {3, 4}, sealed[:len(sealed)-1], append(bytes.Clone(sealed), 0)} {
		if again, err := both.Reseal(keyID, bad); again != nil || !errors.Is(err, ErrSealed) {
			t.Errorf("%x sealed again to %x, error %v", bad, again, err)
		}
	}
}

// TestSealedErrorsTellWhy checks that the error about a wrong master key names the right one.
func TestSealedErrorsTellWhy(t *testing.T) {
	named := stored(t, sealedKey)
	damaged := append(bytes.Clone(named[:len(named)-1]), named[len(named)-1]^1)
	o, m := sealerOf(t, "o"), sealerOf(t, "m")
	for _, tt := range []struct {
		s      *Sealer
		id     string
		sealed []byte
		master bool
		says   string
	}{
		{o, keyID, named, true, "another master key (" + nameOfM + "; given: " + o.Fingerprints()[0] + ")"},
		{m, keyID, damaged, false, "another key ID, or it is damaged"},
		{m, keyID + "2", named, false, "another key ID, or it is damaged"},
		{m, keyID, []byte{9}, false, "newer form"},
		{m, keyID, nil, false, "damaged"},
	} {
		err := tt.s.Check(tt.id, tt.sealed)
		if !errors.Is(err, ErrSealed) || errors.Is(err, ErrMasterKey) != tt.master || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("error %v, want one that says %q", err, tt.says)
		}
	}
	if got := SealedWith(damaged[1:]); got != "" {
		t.Errorf("what is no sealed key was sealed with %s", got)
	}
	if diff := cmp.Diff([]string{o.Fingerprints()[0], nameOfM}, sealerOf(t, "om").Fingerprints()); diff != "" {
		t.Error(diff)
	}
	if _, err := NewSealer(); err == nil {
		t.Error("made a sealer without a master key")
	}
}

// TestCacheReleases checks that the cache keeps nothing of a key that was evicted or replaced: then libcrypto frees its part.
func TestCacheReleases(t *testing.T) {
	c := newKeyCache(1, func(string, []byte) (*signingKey, error) { return &signingKey{ed: make([]byte, 64)}, nil })
	watch := func(id, sealed string) weak.Pointer[signingKey] {
		k, err := c.get(id, "", []byte(sealed))
		if err != nil {
			t.Fatal(err)
		}
		return weak.Make(k)
	}
	first := watch("a", "x")
	replaced := watch("a", "y")
	runtime.GC()
	if first.Value() != nil || replaced.Value() == nil {
		t.Error("the key that was replaced is kept, or the new one isn't")
	}
	evicted := replaced
	last := watch("b", "z")
	runtime.GC()
	if evicted.Value() != nil || last.Value() == nil {
		t.Error("the key that was evicted is kept, or the new one isn't")
	}
	runtime.KeepAlive(c)
}

// TestThousandsOfKeysInMotion replaces, removes and reseals thousands of keys while others sign with them through a
// cache that holds a tenth. Every signature is by a key that was stored under the ID while it was made.
func TestThousandsOfKeysInMotion(t *testing.T) {
	const ids, generations, signers, rounds = 3000, 3, 8, 100
	keys := make([]*PrivateKey, generations)
	for i := range keys {
		_, k, err := ed25519.GenerateKey(nil)
		keys[i] = mustKey(k, err)
	}
	old, both := sealerOf(t, "m"), sealerOf(t, "om")
	store := newMemStore(t)
	name := func(i int) string { return fmt.Sprintf("https://app.example/users/%d#main-key", i) }
	for i := range ids {
		sealed, err := old.Seal(name(i), keys[0])
		if err != nil {
			t.Fatal(err)
		}
		store.putSealed(name(i), sealed)
	}
	s := New(Options{Store: store, Sealer: both, CacheSize: ids / 10})
	latest := make([]atomic.Int32, ids) // generation that is known to be stored
	var group sync.WaitGroup
	group.Go(func() { // replaces, but for the last tenth, which only ever has the first key
		for g := range generations {
			for i := range ids * 9 / 10 {
				sealed, err := both.Seal(name(i), keys[g])
				if err != nil {
					t.Error(err)
				}
				store.putSealed(name(i), sealed)
				latest[i].Store(int32(g))
			}
		}
	})
	group.Go(func() { // reseals
		for i := range ids {
			store.mu.Lock() // as a store's comparison and exchange
			sealed, err := both.Reseal(name(i), store.keys[name(i)])
			if sealed != nil {
				store.keys[name(i)] = sealed
			}
			store.mu.Unlock()
			if err != nil {
				t.Error(err)
			}
		}
	})
	for range signers {
		group.Go(func() {
			for range rounds {
				i := rand.IntN(ids)
				req, p := newRequest(t, "https://one.example/inbox"), params(RFC9421)
				p.KeyID = name(i)
				least := int(latest[i].Load())
				if _, err := s.Sign(t.Context(), req, p); err != nil {
					t.Error(err)
					return
				}
				if by := signedBy(t, req, keys); by < least || i >= ids*9/10 && by != 0 {
					t.Errorf("key %d: signed by generation %d, stored was %d at least", i, by, least)
					return
				}
			}
		})
	}
	group.Wait()
	for i := range ids {
		if got := SealedWith(store.keys[name(i)]); got != both.Fingerprints()[0] {
			t.Fatalf("key %d is sealed with %s", i, got)
		}
	}
}

// signedBy returns which of the Ed25519 keys signed a request by RFC 9421, or -1.
func signedBy(t *testing.T, req *http.Request, keys []*PrivateKey) int {
	t.Helper()
	base := fmt.Sprintf("\"@method\": %s\n\"@target-uri\": %s\n\"content-digest\": %s\n\"@signature-params\": %s", req.Method, req.URL,
		req.Header.Get("Content-Digest"), strings.TrimPrefix(req.Header.Get("Signature-Input"), "sig1="))
	signature := strings.Trim(strings.TrimPrefix(req.Header.Get("Signature"), "sig1="), ":")
	return slices.IndexFunc(keys, func(k *PrivateKey) bool { return verify(publicKey(t, k), base, signature) == nil })
}
