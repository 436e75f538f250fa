package interop

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
)

func TestMain(m *testing.M) {
	harness.AsProgram()
	m.Run()
}

// node is a node that delivers to the inboxes of these tests.
type node struct{ *harness.Node }

// startNode starts a node in a separate process; it ends with the test.
func startNode(t *testing.T, args ...string) node {
	t.Helper()
	n := node{harness.NewNode(t, append([]string{
		"--allow-private-addresses", "127.0.0.0/8,::1/128", "--user-agent", "Postrider (+https://app.example/)",
	}, args...)...)}
	n.Process = true
	n.Start()
	return n
}

// in returns the node for a test within the one that started it.
func (n node) in(t *testing.T) node {
	within := *n.Node
	within.T = t
	return node{&within}
}

// collectionSync is a header for single recipients, as FEP-8fcf has it.
const collectionSync = `collectionId="https://app.example/users/alice/followers", ` +
	`url="https://app.example/users/alice/followers_synchronization", ` +
	`digest="b08ab6951c7df2cc2b91e17ebed557da7fdd41e9e8ed1ea7d9b2b5f2b9fd4d1a"`

// deliver delivers an activity to inboxes, each with a header of its own, and waits until all have it.
func (n node) deliver(id, keyID string, inboxes []string) {
	n.T.Helper()
	recipients := make([]map[string]any, len(inboxes))
	for i, inbox := range inboxes {
		recipients[i] = map[string]any{"inbox": inbox, "headers": map[string]string{"Collection-Synchronization": collectionSync}}
	}
	var accepted struct {
		Accepted int
		URL      string
	}
	call := harness.JSON(map[string]any{
		"activity": map[string]string{
			"@context": "https://www.w3.org/ns/activitystreams", "id": id, "type": "Announce", "actor": "https://app.example/users/alice",
			"object": "https://remote.example/notes/1", "content": "Grüße, こんにちは 🐎",
		},
		"key_id": keyID, "recipients": recipients, "priority": "high",
	})
	n.Read(http.StatusAccepted, n.Call(http.MethodPost, "/v1/activities", call), &accepted)
	if accepted.Accepted != len(inboxes) {
		n.T.Fatalf("%d of %d inboxes were accepted", accepted.Accepted, len(inboxes))
	}
	var got struct {
		Counts struct{ Pending, Delivered int }
	}
	harness.Eventually(n.T, "all have "+id, func() bool {
		n.Get(accepted.URL, &got)
		return got.Counts.Pending == 0
	})
	if got.Counts.Delivered != len(inboxes) {
		n.T.Fatalf("%d of %d inboxes took %s", got.Counts.Delivered, len(inboxes), id)
	}
}

// knownScheme is the signature scheme that the node knows a host to take.
func (n node) knownScheme(host string) string {
	n.T.Helper()
	var view struct {
		Scheme string `json:"signature_scheme"`
	}
	n.Get("/v1/hosts/"+url.PathEscape(host), &view)
	return view.Scheme
}
