package signer

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDate pins the form of Date and created, and that each signature has its own.
func TestDate(t *testing.T) {
	s, _ := newSigner(t, rsaKey())
	synctest.Test(t, func(t *testing.T) { // where the clock starts at 2000-01-01 00:00 UTC
		req := newRequest(t, "https://one.example/inbox")
		time.Sleep(9*time.Hour + 5*time.Second)
		mustSign(t, s, req, params(Cavage))
		first := req.Header.Clone()
		if got, want := req.Header.Get("Date"), "Sat, 01 Jan 2000 09:00:05 GMT"; got != want {
			t.Errorf("Date %q, want %q", got, want)
		}
		time.Sleep(time.Second)
		mustSign(t, s, req, params(Cavage))
		if first.Get("Date") == req.Header.Get("Date") || first.Get("Signature") == req.Header.Get("Signature") {
			t.Error("the second signature isn't fresh")
		}
		mustSign(t, s, req, params(RFC9421))
		if input := req.Header.Get("Signature-Input"); !strings.Contains(input, ";created=946717206;") {
			t.Errorf("Signature-Input %q", input)
		}
	})
}

// TestSignAgain signs one request by one scheme after the other, and over the headers of other signers.
func TestSignAgain(t *testing.T) {
	s, _ := newSigner(t, rsaKey())
	public := publicKey(t, rsaKey())
	const uri = "https://one.example/inbox"
	req := newRequest(t, uri)
	for _, scheme := range []Scheme{Cavage, RFC9421, RFC9421, Cavage, Cavage} {
		for _, name := range []string{"Signature", "Signature-Input", "Digest", "Content-Digest", "Date", "signature", "DIGEST"} {
			req.Header[name] = append(req.Header[name], "stale")
		}
		body, err := req.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		req.Body = body
		r, used := send(t, s, req, params(scheme))
		if used != scheme {
			t.Errorf("used %q, want %q", used, scheme)
		}
		if scheme == Cavage {
			check(t, "cavage", verifyCavage(r, public))
		} else {
			check(t, "RFC 9421", verifyRFC9421(r, public, uri))
		}
	}
}

func TestEd25519SignsRFC9421Only(t *testing.T) {
	s, _ := newSigner(t, edKey())
	r, used := send(t, s, newRequest(t, "https://one.example/inbox"), params(Cavage))
	if used != RFC9421 {
		t.Errorf("used %q", used)
	}
	check(t, "RFC 9421", verifyRFC9421(r, publicKey(t, edKey()), "https://one.example/inbox"))
}

// TestSignRefuses checks that a request that can't be signed as it would be sent isn't signed at all.
func TestSignRefuses(t *testing.T) {
	s, _ := newSigner(t, rsaKey())
	for name, tt := range map[string]struct {
		prepare func(*http.Request, *Params)
		why     string
	}{
		"no scheme":      {func(_ *http.Request, p *Params) { p.Scheme = "" }, "no signature scheme"},
		"unknown scheme": {func(_ *http.Request, p *Params) { p.Scheme = "unknown" }, "no signature scheme"},
		"header not set": {func(_ *http.Request, p *Params) { p.Headers = []string{"X-Absent"} }, "not set"},
		"header no token": {func(r *http.Request, p *Params) {
			p.Headers = []string{"(created)"}
			r.Header["(created)"] = []string{"1"}
		}, "not set"},
		"header injection":   {func(r *http.Request, p *Params) { p.Headers = []string{"X-A"}; r.Header.Set("X-A", "1\ndate: x") }, "control character"},
		"stale digest":       {func(r *http.Request, p *Params) { p.Headers = []string{"Signature"}; r.Header.Set("Signature", "x") }, "not set"},
		"header of net/http": {func(r *http.Request, p *Params) { p.Headers = []string{"host"}; r.Header.Set("Host", "x") }, "net/http"},
		"host in Unicode":    {func(r *http.Request, _ *Params) { r.Host = "bücher.example" }, "A-labels"},
		"host with zone":     {func(r *http.Request, _ *Params) { r.URL.Host, r.Host = "[fe80::1%eth0]", "" }, "zone"},
		"host with newline":  {func(r *http.Request, _ *Params) { r.Host = "one.example\ndate: x" }, "host"},
		"no host":            {func(r *http.Request, _ *Params) { r.URL.Host, r.Host = "", "" }, "host"},
		"other URL scheme":   {func(r *http.Request, _ *Params) { r.URL.Scheme = "ftp" }, "neither https nor http"},
		"opaque URL":         {func(r *http.Request, _ *Params) { r.URL.Opaque = "inbox" }, "absolute path"},
		"space in query":     {func(r *http.Request, _ *Params) { r.URL.RawQuery = "a b" }, "spaces"},
		"newline in query":   {func(r *http.Request, _ *Params) { r.URL.RawQuery = "a\nhost: x" }, "spaces"},
		"newline in method":  {func(r *http.Request, _ *Params) { r.Method = "POST\nx: y" }, "method"},
		"key ID with quote":  {func(_ *http.Request, p *Params) { p.KeyID = `a",headers="date` }, "key ID"},
		"key ID with \\":     {func(_ *http.Request, p *Params) { p.KeyID = `a\` }, "key ID"},
		"key ID with CR":     {func(_ *http.Request, p *Params) { p.KeyID = "a\rb" }, "key ID"},
		"key ID with LF":     {func(_ *http.Request, p *Params) { p.KeyID = "a\nb" }, "key ID"},
		"key ID with DEL":    {func(_ *http.Request, p *Params) { p.KeyID = "a\x7f" }, "key ID"},
		"key ID not ASCII":   {func(_ *http.Request, p *Params) { p.KeyID = "https://bücher.example/" }, "key ID"},
		"no key ID":          {func(_ *http.Request, p *Params) { p.KeyID = "" }, "key ID is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, scheme := range []Scheme{Cavage, RFC9421} {
				req := newRequest(t, "https://one.example/inbox")
				p := params(scheme)
				tt.prepare(req, &p)
				used, err := s.Sign(t.Context(), req, p)
				if err == nil || used != "" || !strings.Contains(err.Error(), tt.why) {
					t.Fatalf("scheme %q, error %v, want one with %q", used, err, tt.why)
				}
				unsigned(t, req)
			}
		})
	}
	t.Run("cavage without content type", func(t *testing.T) {
		req := newRequest(t, "https://one.example/inbox")
		req.Header.Del("Content-Type")
		if _, err := s.Sign(t.Context(), req, params(Cavage)); err == nil {
			t.Error("signed")
		}
		mustSign(t, s, req, params(RFC9421))
	})
}

// unsigned checks that a request on which Sign failed carries no signature.
func unsigned(t *testing.T, req *http.Request) {
	t.Helper()
	for _, name := range []string{"Signature", "Signature-Input", "Digest", "Content-Digest"} {
		if _, ok := req.Header[name]; ok {
			t.Errorf("%s is set", name)
		}
	}
}

// TestKeyIDsGoThrough signs with key IDs as actors have them.
func TestKeyIDsGoThrough(t *testing.T) {
	s, store := newSigner(t, rsaKey())
	for _, id := range []string{"acct:bob@one.example", "https://one.example/bob?k=1,2&x='#main key", "a=b"} {
		store.put(t, id, rsaKey())
		for _, scheme := range []Scheme{Cavage, RFC9421} {
			req := newRequest(t, "https://one.example/inbox")
			p := params(scheme)
			p.KeyID = id
			mustSign(t, s, req, p)
			all := req.Header.Get("Signature") + req.Header.Get("Signature-Input")
			if !strings.Contains(strings.ToLower(all), `keyid="`+strings.ToLower(id)+`"`) {
				t.Errorf("%s: no key ID %q in %q", scheme, id, all)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	s, store := newSigner(t, rsaKey())
	away := errors.New("store away")
	store.put(t, "other", otherRSAKey())
	swapped, _ := store.SealedKey(t.Context(), "other", "")
	store.putSealed("swapped", swapped)
	store.putSealed("damaged", []byte{9, 9})
	broken := New(Options{Store: storeFunc(func() ([]byte, error) { return nil, away }), Sealer: store.sealer})
	noLoad := New(Options{Store: store, Sealer: store.sealer, RSA: failingRSA{}})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		s    *Signer
		ctx  context.Context
		id   string
		want error
	}{
		"no such key":       {s, t.Context(), "absent", ErrKeyMissing},
		"sealed for other":  {s, t.Context(), "swapped", ErrSealed},
		"sealed is damaged": {s, t.Context(), "damaged", ErrSealed},
		"store away":        {broken, t.Context(), keyID, away},
		"context ended":     {s, ended, keyID, context.Canceled},
		"back-end fails":    {noLoad, t.Context(), keyID, errLoad},
	} {
		t.Run(name, func(t *testing.T) {
			req := newRequest(t, "https://one.example/inbox")
			p := params(Cavage)
			p.KeyID = tt.id
			_, err := tt.s.Sign(tt.ctx, req, p)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if errors.Is(err, ErrKeyMissing) != errors.Is(tt.want, ErrKeyMissing) {
				t.Errorf("error %v about a missing key", err)
			}
			unsigned(t, req)
		})
	}
}

type storeFunc func() ([]byte, error)

func (f storeFunc) SealedKey(context.Context, string, string) ([]byte, error) { return f() }

var errLoad = errors.New("no such library")

type failingRSA struct{}

func (failingRSA) Name() string                            { return "failing" }
func (failingRSA) Load(*rsa.PrivateKey) (RSASigner, error) { return nil, errLoad }

// TestReplacedKeySignsAtOnce replaces and removes a key between signatures.
func TestReplacedKeySignsAtOnce(t *testing.T) {
	s, store := newSigner(t, rsaKey())
	const uri = "https://one.example/inbox"
	for i, k := range []*PrivateKey{rsaKey(), otherRSAKey(), edKey(), rsaKey()} {
		store.put(t, keyID, k)
		for range 2 {
			r, used := send(t, s, newRequest(t, uri), params(Cavage))
			if used == Cavage {
				check(t, fmt.Sprint("key ", i), verifyCavage(r, publicKey(t, k)))
			} else {
				check(t, fmt.Sprint("key ", i), verifyRFC9421(r, publicKey(t, k), uri))
			}
		}
	}
	store.mu.Lock()
	delete(store.keys, keyID)
	store.mu.Unlock()
	if _, err := s.Sign(t.Context(), newRequest(t, uri), params(Cavage)); !errors.Is(err, ErrKeyMissing) {
		t.Errorf("after removal: %v", err)
	}
}

// TestConcurrent signs from many goroutines with few keys through a cache that is too small for them.
func TestConcurrent(t *testing.T) {
	store := newMemStore(t)
	keys := []*PrivateKey{rsaKey(), otherRSAKey(), edKey()}
	for i, k := range keys {
		store.put(t, fmt.Sprint("key", i), k)
	}
	s := New(Options{Store: store, Sealer: store.sealer, CacheSize: 2, Parallel: 3})
	var g sync.WaitGroup
	for i := range 24 {
		g.Go(func() {
			k := keys[i%len(keys)]
			for j := range 4 {
				req := newRequest(t, "https://one.example/inbox")
				p := params([]Scheme{Cavage, RFC9421}[j%2])
				p.KeyID = fmt.Sprint("key", i%len(keys))
				used, err := s.Sign(t.Context(), req, p)
				if err != nil {
					t.Error(err)
					return
				}
				if used == Cavage {
					v := &received{method: "POST", target: "/inbox", header: map[string][]string{"host": {"one.example"}}}
					for name, values := range req.Header {
						v.header[strings.ToLower(name)] = values
					}
					v.header["signature"][0] = strings.Replace(v.header["signature"][0], p.KeyID, keyID, 1)
					v.body = activity
					check(t, "cavage", verifyCavage(v, publicKey(t, k)))
				}
			}
		})
	}
	g.Wait()
}

func TestNewNeedsStoreAndSealer(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	New(Options{})
}

func TestGoRSA(t *testing.T) {
	if name := GoRSA().Name(); name != "go" {
		t.Errorf("named %q", name)
	}
	loaded, err := GoRSA().Load(rawRSA(rsaKey()))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(activity)
	one, err1 := loaded.SignPKCS1v15SHA256(digest)
	two, err2 := loaded.SignPKCS1v15SHA256(digest)
	if err := errors.Join(err1, err2); err != nil || !cmp.Equal(one, two) || len(one) != 256 {
		t.Errorf("signatures of %d and %d bytes, %v", len(one), len(two), err)
	}
}
