package signer

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"testing"
)

// BenchmarkBareRSA is the lower bound of all that signs with RSA-2048 in Go.
func BenchmarkBareRSA(b *testing.B) {
	key := rawRSA(rsaKey())
	digest := sha256.Sum256(activity)
	for b.Loop() {
		if _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignCavageRSA(b *testing.B)      { benchmarkSign(b, rsaKey(), GoRSA(), Cavage) }
func BenchmarkSignRFC9421RSA(b *testing.B)     { benchmarkSign(b, rsaKey(), GoRSA(), RFC9421) }
func BenchmarkSignRFC9421Ed25519(b *testing.B) { benchmarkSign(b, edKey(), GoRSA(), RFC9421) }

// The overheads are what signing costs without the cryptography.
func BenchmarkOverheadCavage(b *testing.B)  { benchmarkSign(b, rsaKey(), echoRSA{}, Cavage) }
func BenchmarkOverheadRFC9421(b *testing.B) { benchmarkSign(b, rsaKey(), echoRSA{}, RFC9421) }

func benchmarkSign(b *testing.B, k *PrivateKey, backend RSA, scheme Scheme) {
	store := newMemStore(b)
	store.put(b, keyID, k)
	s := New(Options{Store: store, Sealer: store.sealer, RSA: backend})
	req := newRequest(b, "https://one.example/users/bob/inbox")
	p := params(scheme)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(ctx, req, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is a miss of the key cache.
func BenchmarkOpen(b *testing.B) {
	store := newMemStore(b)
	store.put(b, keyID, rsaKey())
	sealed, err := store.SealedKey(b.Context(), keyID)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.sealer.Open(keyID, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
