package signer

import (
	"crypto/sha256"
	"strings"
	"testing"
)

// BenchmarkRSA compares the back-ends: making a key ready, the bare RSA, and all of Sign.
func BenchmarkRSA(b *testing.B) {
	for _, backend := range []RSA{GoRSA(), libcryptoOf(b)} {
		name, _, _ := strings.Cut(backend.Name(), " ")
		b.Run(name+"/load", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				load(b, backend, rawRSA(rsaKey()))
			}
		})
		b.Run(name+"/bare", func(b *testing.B) {
			s := load(b, backend, rawRSA(rsaKey()))
			digest := sha256.Sum256(activity)
			b.ReportAllocs()
			for b.Loop() {
				mustSignDigest(b, s, digest)
			}
		})
		b.Run(name+"/cavage", func(b *testing.B) { benchmarkSign(b, rsaKey(), backend, Cavage) })
		b.Run(name+"/rfc9421", func(b *testing.B) { benchmarkSign(b, rsaKey(), backend, RFC9421) })
	}
}

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
	sealed, err := store.SealedKey(b.Context(), keyID, "")
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
