package signer

import (
	"errors"
	"testing"
)

// TestForget checks that a key which was removed does not stay parsed in memory: not on the node that removed it, and not
// on another one that needed it since.
func TestForget(t *testing.T) {
	store := newMemStore(t)
	store.put(t, keyID, rsaKey())
	s := New(Options{Store: store, Sealer: store.sealer})
	sign := func() error {
		_, err := s.Sign(t.Context(), newRequest(t, "https://one.example/inbox"), params(Cavage))
		return err
	}
	kept := func() int { return len(s.keys.entries) + s.keys.recent.Len() }
	if err := sign(); err != nil || kept() != 2 {
		t.Fatalf("%d kept, %v", kept(), err)
	}
	if s.Forget("https://app.example/another"); kept() != 2 {
		t.Errorf("%d kept after another key was forgotten", kept())
	}
	if s.Forget(keyID); kept() != 0 {
		t.Errorf("%d kept after the key was forgotten", kept())
	}
	if err := sign(); err != nil || kept() != 2 {
		t.Fatalf("%d kept, %v", kept(), err)
	}
	delete(store.keys, keyID)
	if err := sign(); !errors.Is(err, ErrKeyMissing) || kept() != 0 {
		t.Errorf("%d kept after another node removed the key, %v", kept(), err)
	}
}
