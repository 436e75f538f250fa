package delivery

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// sameKey is a store that has one private key under every ID.
type sameKey struct {
	sealer *signer.Sealer
	key    *signer.PrivateKey
}

func (s sameKey) SealedKey(_ context.Context, id, _ string) ([]byte, error) {
	return s.sealer.Seal(id, s.key)
}

// newSameKey makes a signer that signs with one private key under every ID.
func newSameKey(f *testing.F, private crypto.Signer) *signer.Signer {
	f.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		f.Fatal(err)
	}
	key, err := signer.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		f.Fatal(err)
	}
	sealer, err := signer.NewSealer(make([]byte, signer.MasterKeySize))
	if err != nil {
		f.Fatal(err)
	}
	return signer.New(signer.Options{Store: sameKey{sealer, key}, Sealer: sealer})
}

// FuzzSignedOnTheWire checks that for any inbox, body, key ID and header of a delivery, the inbox gets just that with a
// signature that it can verify, or nothing at all.
func FuzzSignedOnTheWire(f *testing.F) {
	byRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	public, byEdwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	keys := []crypto.PublicKey{byRSA.Public(), byRSA.Public(), public}
	signers := []*signer.Signer{newSameKey(f, byRSA), nil, newSameKey(f, byEdwards)}
	signers[1] = signers[0]
	var inbox atomic.Pointer[testinbox.Inbox]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inbox.Load().ServeHTTP(w, r) }))
	f.Cleanup(server.Close)
	client := NewClient(ClientOptions{Policy: loopback})
	f.Cleanup(client.Close)
	f.Add(0, "/users/bob/in%2Fbox?a=b%20c", `{"id":"1"}`, "Collection-Synchronization", `collectionId="https://app.example/f"`, testKey)
	f.Add(1, "/a/../b//c?x=%2f&&", "", "a", "", "a\"b\\c")
	f.Add(2, "?", "\x00\xff", "A-b", "  inner  space", "é, ;")
	f.Fuzz(func(t *testing.T, way int, path, body, name, value, id string) {
		way = int(uint(way) % 3)
		to, refusal := netguard.ParseInbox(server.URL+path, true, loopback)
		name = "X-" + name
		if refusal != nil || to.Host != server.Listener.Addr().String() || !validHeader(name, value) {
			return
		}
		public := func(got string) crypto.PublicKey {
			if got != id {
				return nil
			}
			return keys[way]
		}
		inbox.Store(testinbox.New(testinbox.Options{Keys: public}))
		sum := sha256.Sum256([]byte(body))
		header := queue.Header{Name: textproto.CanonicalMIMEHeaderKey(name), Value: textproto.TrimString(value)}
		k := &requests{
			pool: &Pool{Options: Options{Signer: signers[way], Client: client, UserAgent: "Postrider/test", AttemptTimeout: time.Minute}},
			delivery: &queue.Delivery{
				Activity: &queue.Activity{KeyID: id, Body: []byte(body), Digest: sum}, Inbox: to.URL, Headers: []queue.Header{header},
			},
		}
		defer k.close()
		scheme := []signer.Scheme{signer.Cavage, signer.RFC9421, signer.RFC9421}[way]
		answer, used, err := k.send(t.Context(), to.URL, scheme)
		got := inbox.Load().Received()
		if err != nil {
			if len(got) > 0 {
				t.Errorf("not signed, but sent: %v", err)
			}
			return
		}
		if len(got) != 1 || answer.Status != http.StatusAccepted {
			t.Fatalf("%d requests, answer %+v", len(got), answer)
		}
		r := got[0]
		wanted, _ := strings.CutPrefix(to.URL, server.URL)
		switch {
		case !r.Valid || string(r.Scheme) != string(used) || r.KeyID != id:
			t.Errorf("by %s with key %q: %s", r.Scheme, r.KeyID, r.Reason)
		case r.BodySize != len(body) || !bytes.Equal(r.BodyHash[:], sum[:]):
			t.Errorf("the inbox got %d bytes of body, want %d", r.BodySize, len(body))
		case r.Header.Get(header.Name) != header.Value || r.Path != wanted:
			t.Errorf("the inbox got %q at %q, want %q at %q", r.Header.Get(header.Name), r.Path, header.Value, wanted)
		}
	})
}

// validHeader reports whether a call may have the header: the name is a token, and the value printable ASCII.
func validHeader(name, value string) bool {
	token := func(r rune) bool { return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }
	text := func(r rune) bool { return r >= ' ' && r < 0x7f }
	return !strings.ContainsFunc(name, func(r rune) bool { return !token(r) }) &&
		!strings.ContainsFunc(value, func(r rune) bool { return !text(r) })
}
