package signer

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSealAndOpen(t *testing.T) {
	sealer := newMemStore(t).sealer
	for _, k := range []*PrivateKey{rsaKey(), edKey()} {
		one, err := sealer.Seal(keyID, k)
		if err != nil {
			t.Fatal(err)
		}
		two, err := sealer.Seal(keyID, k)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(one, two) {
			t.Error("the nonce is used twice")
		}
		if one[0] != form {
			t.Errorf("form %d", one[0])
		}
		for _, secret := range secrets(k) {
			if bytes.Contains(one, []byte(secret)) {
				t.Error("a secret is in clear in the sealed key")
			}
		}
		got, err := sealer.Open(keyID, one)
		if err != nil {
			t.Fatal(err)
		}
		if got.Fingerprint() != k.Fingerprint() || got.Algorithm() != k.Algorithm() {
			t.Errorf("opened %v, sealed %v", got, k)
		}
	}
}

// TestOpenRefuses changes all that a sealed key depends on, and each of its bytes.
func TestOpenRefuses(t *testing.T) {
	sealer := newMemStore(t).sealer
	sealed, err := sealer.Seal(keyID, edKey())
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSealer([]byte(strings.Repeat("o", MasterKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(what string, s *Sealer, id string, sealed []byte) {
		t.Helper()
		if k, err := s.Open(id, sealed); !errors.Is(err, ErrSealed) || k != nil {
			t.Errorf("%s: opened %v with error %v", what, k, err)
		}
	}
	refuses("other master key", other, keyID, sealed)
	refuses("other key ID", sealer, keyID+"2", sealed)
	refuses("nothing", sealer, keyID, nil)
	refuses("something after", sealer, keyID, append(bytes.Clone(sealed), 0))
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		refuses("changed byte", sealer, keyID, changed)
		refuses("cut off", sealer, keyID, sealed[:i])
	}
}

func TestSealRefusesKeyIDs(t *testing.T) {
	if _, err := newMemStore(t).sealer.Seal("a\"b", edKey()); err == nil {
		t.Error("sealed for a key ID that can't sign")
	}
}

func TestNewSealerRefuses(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		_, err := NewSealer(bytes.Repeat([]byte("s"), n))
		if err == nil {
			t.Fatalf("accepted %d bytes", n)
		}
		if strings.Contains(err.Error(), "sss") {
			t.Errorf("error %q shows the key", err)
		}
	}
}
