package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/url"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// The steps of docs/keys.md: an actor's Update goes out under the old key after the new one was put, also to a host that
// was down meanwhile; other deliveries that waited are signed by the new one; and a deleted account's key is kept until its
// Delete was sent.
func TestActorKeyIsRotated(t *testing.T) {
	onBothStores(t, func(t *testing.T, s store) {
		newer, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		known := []crypto.PublicKey{privateKey().Public(), newer.Public()}
		h := startHosts(t, 2, func(i int) testinbox.Options {
			return testinbox.Options{Keys: func(string) crypto.PublicKey { return known[i] }}
		})
		n := s.startNode(t)
		for i := range known {
			n.act(h.Host(i), "pause")
		}
		n.PutKey(keyID, privatePEM())
		update := `{"id":"https://app.example/a/update","type":"Update","actor":"https://app.example/users/alice","object":"https://app.example/users/alice"}`
		key := harness.JSON(map[string]any{"key_id": keyID, "private_key_pem": privatePEM(), "pin": true})
		call := `{"activity":` + update + `,"key":` + key + `,"inboxes":[` + harness.JSON(h.urls()[0]) + `]}`
		pinned := read[acceptedView](n, http.StatusAccepted, n.Call(http.MethodPost, "/v1/activities", call))
		other := n.deliver(like("1"), h.urls()[1])
		n.PutKey(keyID, pemOf(newer))
		n.Restart()
		for i := range known {
			n.act(h.Host(i), "resume")
		}
		for i, a := range []acceptedView{pinned, other} {
			if c := n.settled(a); c.Delivered != 1 {
				t.Errorf("host %d, which knows key %d only, got %+v", i, i, c)
			}
			for _, r := range h.inboxes[i].Received() {
				if !r.Valid {
					t.Errorf("host %d got a request that is not valid: %s", i, r.Reason)
				}
			}
		}

		n.act(h.Host(1), "pause")
		last := n.deliver(like("2"), h.urls()[1])
		query := "?key_id=" + url.QueryEscape(keyID)
		if a := n.Call(http.MethodDelete, "/v1/keys"+query+"&when=idle", ""); a.Status != http.StatusAccepted {
			t.Fatalf("DELETE when=idle answered %d %s", a.Status, a.Body)
		}
		if list := get[page[keyView]](n, "/v1/keys"+query).Items; len(list) != 1 || list[0].Pending != 1 || !list[0].WhenIdle {
			t.Errorf("while a delivery waits the keys are %+v", list)
		}
		n.act(h.Host(1), "resume")
		if c := n.settled(last); c.Delivered != 1 {
			t.Errorf("the last delivery ended as %+v", c)
		}
		harness.Eventually(t, "the key goes", func() bool { return len(get[page[keyView]](n, "/v1/keys"+query).Items) == 0 })
	})
}
