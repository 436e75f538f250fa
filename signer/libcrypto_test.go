package signer

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"weak"

	"github.com/google/go-cmp/cmp"
)

// libcryptoOf returns the machine's libcrypto. Without one the test is skipped, but fails where REQUIRE_OPENSSL is 1.
func libcryptoOf(t testing.TB) RSA {
	t.Helper()
	backend, err := openLibcrypto(libcryptoPaths())
	if err != nil && os.Getenv("REQUIRE_OPENSSL") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return backend
}

func mustSignDigest(t testing.TB, s RSASigner, digest [sha256.Size]byte) []byte {
	t.Helper()
	signature, err := s.SignPKCS1v15SHA256(digest)
	if err != nil {
		t.Error(err) // not Fatal: it is called from goroutines
	}
	return signature
}

func load(t testing.TB, backend RSA, key *rsa.PrivateKey) RSASigner {
	t.Helper()
	s, err := backend.Load(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLibcryptoSignsTheSame(t *testing.T) {
	backend := libcryptoOf(t)
	odd, err := rsa.GenerateKey(rand.Reader, 2050) // not of whole bytes
	if err != nil {
		t.Fatal(err)
	}
	pems := map[string][]byte{"2048": pkcs8(rawRSA(rsaKey())), "2050": pkcs8(odd)}
	for _, size := range []string{"3072", "4096", "8192"} {
		pems[size] = readKey(t, "rsa-"+size+".pem")
	}
	for size, text := range pems {
		first, err := ParsePrivateKey(text)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParsePrivateKey(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rawRSA(first))))
		if err != nil {
			t.Fatal(err)
		}
		for form, k := range map[string]*PrivateKey{"PKCS#8": first, "PKCS#1": second} {
			inGo, inC := load(t, GoRSA(), rawRSA(k)), load(t, backend, rawRSA(k))
			for i := range 3 {
				digest := sha256.Sum256([]byte{byte(i)})
				if !bytes.Equal(mustSignDigest(t, inGo, digest), mustSignDigest(t, inC, digest)) {
					t.Errorf("RSA of %s bits from %s: other bytes than crypto/rsa makes", size, form)
				}
			}
		}
	}
}

func TestLibcryptoName(t *testing.T) {
	if name := libcryptoOf(t).Name(); !strings.HasPrefix(name, "openssl 3.") || strings.Count(name, ".") != 2 {
		t.Errorf("name %q, want one as openssl 3.0.17", name)
	}
}

// TestLibcryptoOnTheWire compares all headers of both schemes, made at the same moment.
func TestLibcryptoOnTheWire(t *testing.T) {
	backend := libcryptoOf(t)
	store := newMemStore(t)
	store.put(t, keyID, rsaKey())
	for _, scheme := range []Scheme{Cavage, RFC9421} {
		synctest.Test(t, func(t *testing.T) {
			inGo, inC := newRequest(t, "https://one.example/inbox"), newRequest(t, "https://one.example/inbox")
			mustSign(t, New(Options{Store: store, Sealer: store.sealer}), inGo, params(scheme))
			mustSign(t, New(Options{Store: store, Sealer: store.sealer, RSA: backend}), inC, params(scheme))
			if diff := cmp.Diff(inGo.Header, inC.Header); diff != "" {
				t.Errorf("%s, crypto/rsa and libcrypto (-, +):\n%s", scheme, diff)
			}
		})
	}
}

// TestLibcryptoRefuses loads values that aren't keys. They must be refused, and the library must work afterwards.
func TestLibcryptoRefuses(t *testing.T) {
	backend := libcryptoOf(t)
	const outOfRange, wrong = "key lacks a number, or one is out of range", "libcrypto signs wrongly with this key"
	for name, c := range map[string]struct {
		spoil func(*rsa.PrivateKey)
		want  string
	}{
		"no modulus":        {func(k *rsa.PrivateKey) { k.N = nil }, outOfRange},
		"modulus zero":      {func(k *rsa.PrivateKey) { k.N = new(big.Int) }, outOfRange},
		"modulus too long":  {func(k *rsa.PrivateKey) { k.N = new(big.Int).Lsh(k.N, maxRSABits) }, outOfRange},
		"modulus even":      {func(k *rsa.PrivateKey) { k.N = new(big.Int).Add(k.N, big.NewInt(1)) }, " routines::"}, // its own words
		"modulus of others": {func(k *rsa.PrivateKey) { k.N = rawRSA(otherRSAKey()).N }, wrong},
		"exponent zero":     {func(k *rsa.PrivateKey) { k.E = 0 }, outOfRange},
		"exponent negative": {func(k *rsa.PrivateKey) { k.E = -65537 }, outOfRange},
		"no primes":         {func(k *rsa.PrivateKey) { k.Primes = nil }, "key has not two primes"},
		"three primes":      {func(k *rsa.PrivateKey) { k.Primes = append(k.Primes[:2:2], big.NewInt(3)) }, "key has not two primes"},
		"not precomputed":   {func(k *rsa.PrivateKey) { k.Precomputed = rsa.PrecomputedValues{} }, outOfRange},
		"D negative":        {func(k *rsa.PrivateKey) { k.D = new(big.Int).Neg(k.D) }, outOfRange},
	} {
		t.Run(name, func(t *testing.T) {
			key := *rawRSA(rsaKey())
			c.spoil(&key)
			s, err := backend.Load(&key)
			if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v and error %v, want %s", s, err, c.want)
			}
			if err := prove(backend); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestLibcryptoReplacedInFlight lets goroutines sign with two keys that evict one another from a cache of size one,
// while the garbage collector runs all the time.
func TestLibcryptoReplacedInFlight(t *testing.T) {
	backend := libcryptoOf(t)
	keys := map[string]*rsa.PrivateKey{"a": rawRSA(rsaKey()), "b": rawRSA(otherRSAKey())}
	digest := sha256.Sum256(activity)
	want := make(map[string][]byte)
	for name, key := range keys {
		want[name] = mustSignDigest(t, load(t, GoRSA(), key), digest)
	}
	cache := newKeyCache(1, func(_ string, sealed []byte) (*signingKey, error) {
		return newSigningKey(keys[string(sealed)], backend)
	})
	var done atomic.Bool
	var workers, collector sync.WaitGroup
	collector.Go(func() {
		for !done.Load() {
			runtime.GC()
		}
	})
	for i := range 8 {
		workers.Go(func() {
			for j := range 100 {
				name := string("ab"[(i+j)%2])
				key, err := cache.get(keyID, "", []byte(name))
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(mustSignDigest(t, key.rsa, digest), want[name]) {
					t.Error("signed with another key, or wrongly")
				}
			}
		})
	}
	workers.Wait()
	done.Store(true)
	collector.Wait()
}

// TestLibcryptoFreesKeys loads and releases thousands of keys. Without the clean-up they use some 20 MB here.
func TestLibcryptoFreesKeys(t *testing.T) {
	backend := libcryptoOf(t)
	loadMany := func(n int) {
		for i := range n {
			load(t, backend, rawRSA(rsaKey()))
			if i%100 == 0 {
				runtime.GC() // it doesn't count C's memory, so here it would run late
			}
		}
	}
	loadMany(500)
	before := resident(t)
	loadMany(4000)
	if after := resident(t); after-before > 8<<20 {
		t.Errorf("resident memory went from %d to %d KiB", before>>10, after>>10)
	}
}

// resident returns the memory in use, in bytes, or 0 on systems that have no such file.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var total, pages int
	if _, err := fmt.Sscan(string(text), &total, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestLibcryptoKeyLeavesGo checks that Go holds no part of a private key once libcrypto has it.
func TestLibcryptoKeyLeavesGo(t *testing.T) {
	backend := libcryptoOf(t)
	k, err := ParsePrivateKey(readKey(t, "rsa-3072.pem"))
	if err != nil {
		t.Fatal(err)
	}
	inGo := weak.Make(rawRSA(k))
	key, err := newSigningKey(rawRSA(k), backend)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if inGo.Value() != nil {
		t.Error("the key made ready to sign keeps the private key of crypto/rsa")
	}
	mustSignDigest(t, key.rsa, proofDigest())
}
