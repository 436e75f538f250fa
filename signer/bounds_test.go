package signer

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gateRSA counts the concurrent calls, which return only after it is opened.
type gateRSA struct {
	open           chan struct{}
	inside, loaded *atomic.Int32
}

func newGateRSA() gateRSA {
	return gateRSA{make(chan struct{}), new(atomic.Int32), new(atomic.Int32)}
}

func (g gateRSA) Name() string { return "gate" }

func (g gateRSA) Load(*rsa.PrivateKey) (RSASigner, error) {
	g.loaded.Add(1)
	return g, nil
}

func (g gateRSA) SignPKCS1v15SHA256(digest [sha256.Size]byte) ([]byte, error) {
	g.inside.Add(1)
	defer g.inside.Add(-1)
	<-g.open
	return digest[:], nil
}

// TestParallel fills all slots; another signature waits, fails when its context ends, and succeeds when there is a slot.
func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore(t)
		store.put(t, keyID, rsaKey())
		gate := newGateRSA()
		s := New(Options{Store: store, Sealer: store.sealer, RSA: gate, Parallel: 3})
		var g sync.WaitGroup
		for range 8 {
			g.Go(func() { mustSign(t, s, newRequest(t, "https://one.example/inbox"), params(Cavage)) })
		}
		synctest.Wait()
		if n := gate.inside.Load(); n != 3 {
			t.Errorf("%d signatures at a time, want 3", n)
		}
		cause := errors.New("shutting down")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if _, err := s.Sign(ctx, newRequest(t, "https://one.example/inbox"), params(Cavage)); !errors.Is(err, cause) {
			t.Errorf("while waiting: %v", err)
		}
		close(gate.open)
		g.Wait()
		if n := gate.loaded.Load(); n != 1 {
			t.Errorf("parsed %d times, want once", n)
		}
	})
}

// TestCacheIsBounded counts parses through a cache of two keys.
func TestCacheIsBounded(t *testing.T) {
	var opened []string
	c := newKeyCache(2, func(keyID string, sealed []byte) (*signingKey, error) {
		opened = append(opened, keyID+string(sealed))
		if string(sealed) == "bad" {
			return nil, ErrSealed
		}
		return &signingKey{}, nil
	})
	for _, step := range []struct{ id, sealed, want string }{
		{"a", "1", "a1"}, {"b", "1", "b1"}, {"a", "1", ""},
		{"c", "1", "c1"}, // b goes, as it was used before a
		{"a", "1", ""}, {"b", "1", "b1"},
		{"a", "2", "a2"}, {"a", "2", ""}, {"b", "1", ""}, // replaced in its place
		{"a", "bad", "abad"}, {"a", "bad", "abad"}, {"a", "2", "a2"}, // failures aren't kept
	} {
		before := len(opened)
		key, err := c.get(step.id, "", []byte(step.sealed))
		if (err != nil) != (step.sealed == "bad") || (key == nil) != (err != nil) {
			t.Fatalf("%v: key %v, error %v", step, key, err)
		}
		if got := strings.Join(opened[before:], " "); got != step.want {
			t.Errorf("%v: opened %q", step, got)
		}
		if c.recent.Len() > 2 || len(c.entries) != c.recent.Len() {
			t.Errorf("%v: %d keys in the map, %d in the list", step, len(c.entries), c.recent.Len())
		}
	}
}

// TestConcurrentMissesParseOnce asks for one key from many goroutines while it is being parsed.
func TestConcurrentMissesParseOnce(t *testing.T) {
	var parsed, asking atomic.Int32
	keys := make([]*signingKey, 10)
	c := newKeyCache(2, func(string, []byte) (*signingKey, error) {
		parsed.Add(1)
		for asking.Load() < int32(len(keys)) {
			runtime.Gosched()
		}
		return &signingKey{}, nil
	})
	var g sync.WaitGroup
	for i := range keys {
		g.Go(func() {
			asking.Add(1)
			keys[i], _ = c.get("a", "", []byte("1"))
		})
	}
	g.Wait()
	if parsed.Load() != 1 || len(slices.Compact(keys)) != 1 || keys[0] == nil {
		t.Errorf("parsed %d times into %d keys", parsed.Load(), len(slices.Compact(keys)))
	}
}
