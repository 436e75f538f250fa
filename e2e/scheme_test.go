package e2e

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// takes checks the schemes of the requests since the last call, and the scheme that the node knows for the host.
func (h *hosts) takes(t *testing.T, node *testNode, since int, requests, known string) {
	t.Helper()
	var got []string
	for _, r := range h.inboxes[0].Received()[since:] {
		got = append(got, string(r.Scheme))
	}
	if strings.Join(got, " ") != requests {
		t.Errorf("requests %q, want %q", got, requests)
	}
	if got := node.host(h.Host(0)).Scheme; got != known {
		t.Errorf("the host is known to take %q, want %q", got, known)
	}
}

// TestSchemeIsRelearned checks that a host that changes its scheme is tried with the other one, that one refusal
// does not change the scheme of a host that accepted draft-cavage, and that a reset forgets the scheme.
func TestSchemeIsRelearned(t *testing.T) { onBothStores(t, testSchemeIsRelearned) }

func testSchemeIsRelearned(t *testing.T, s store) {
	var only atomic.Value
	h := startHost(t, scripted(func(r testinbox.Request) testinbox.Reply {
		if r.Scheme != only.Load() {
			return testinbox.Reply{Status: http.StatusUnauthorized}
		}
		return testinbox.Reply{}
	}))
	node := s.startNode(t)
	for i, step := range []struct {
		reset           bool
		only            testinbox.Scheme
		requests, known string
	}{
		{false, testinbox.RFC9421, "cavage rfc9421", "rfc9421"},
		{false, testinbox.Cavage, "rfc9421 cavage", "cavage"},
		{false, testinbox.RFC9421, "cavage rfc9421", "cavage"},
		{true, testinbox.RFC9421, "cavage rfc9421", "rfc9421"},
	} {
		if step.reset {
			if got := node.act(h.Host(0), "reset").Scheme; got != "unknown" {
				t.Errorf("after a reset the host is known to take %q", got)
			}
		}
		only.Store(step.only)
		before := h.count()
		if got := node.settled(node.deliver(like(fmt.Sprint(i)), h.Inbox(0, "/inbox"))); got.Delivered != 1 {
			t.Errorf("counts %+v", got)
		}
		h.takes(t, node, before, step.requests, step.known)
	}
}

// TestEdwardsKeyTeachesNothing checks that a request by an Ed25519 key, which is always RFC 9421, teaches the node
// nothing about the host, and is never made twice.
func TestEdwardsKeyTeachesNothing(t *testing.T) { onBothStores(t, testEdwardsKeyTeachesNothing) }

func testEdwardsKeyTeachesNothing(t *testing.T, s store) {
	const edwardsID = "https://app.example/users/ed#main-key"
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var refusing atomic.Bool
	h := startHost(t, testinbox.Options{
		Keys: func(id string) crypto.PublicKey {
			if id == edwardsID {
				return public
			}
			return publicKey(id)
		},
		Script: func(testinbox.Request) testinbox.Reply {
			if refusing.Load() {
				return testinbox.Reply{Status: http.StatusUnauthorized}
			}
			return testinbox.Reply{}
		},
	})
	node := s.startNode(t, "--retry-base", "1h")
	node.PutKey(edwardsID, pemOf(private))
	byEdwards := `,"key_id":` + harness.JSON(edwardsID)
	node.settled(node.deliver(like("1"), h.Inbox(0, "/inbox"), byEdwards))
	h.takes(t, node, 0, "rfc9421", "unknown")
	node.settled(node.deliver(like("2"), h.Inbox(0, "/inbox")))
	h.takes(t, node, 1, "cavage", "cavage")
	refusing.Store(true)
	a := node.deliver(like("3"), h.Inbox(0, "/inbox"), byEdwards)
	harness.Eventually(t, "an attempt is made", func() bool {
		list := node.deliveries(a)
		return len(list) == 1 && list[0].Attempts == 1
	})
	h.takes(t, node, 2, "rfc9421", "cavage")
}

// TestBothSchemesRefused checks that a host that refuses both schemes gets one request an attempt from then on.
func TestBothSchemesRefused(t *testing.T) { onBothStores(t, testBothSchemesRefused) }

func testBothSchemesRefused(t *testing.T, s store) {
	h := startHost(t, replies(testinbox.Reply{Status: http.StatusUnauthorized}))
	node := s.startNode(t, "--retry-base", "1ms", "--max-attempts", "5")
	node.settled(node.deliver(like("1"), h.Inbox(0, "/inbox")))
	node.Restart()
	node.settled(node.deliver(like("2"), h.Inbox(0, "/inbox")))
	h.takes(t, node, 0, "cavage rfc9421"+strings.Repeat(" cavage", 9), "unknown")
}
