package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/kits/go/client"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestFeedOfANode: an app reads what became of its activity, stops, and goes on where it stopped, on a node that was killed
// meanwhile. Its webhook gets the same entries.
func TestFeedOfANode(t *testing.T) {
	hook := startHook(t)
	w := startWorld(t, "--webhook-url", hook.URL, "--webhook-secret", webhookSecret)
	call := w.call("https://app.example/a/1", "/users/bob/inbox")
	call.KeyID, call.Key = "", &client.Key{ID: keyID, PEM: harness.PrivatePEM()}
	call.Recipients = []client.Recipient{{Inbox: w.url + "/gone/inbox", IDs: []string{"https://one.example/users/eve"}}}
	call.Metadata = map[string]any{"status_id": 42}
	accepted, err := w.app.Deliver(t.Context(), call)
	if err != nil || accepted.Accepted != 2 {
		t.Fatalf("%+v, error %v", accepted, err)
	}
	dead := w.readUntil("", "dead")
	if dead.Reason != "gone" || dead.Inbox != w.url+"/gone/inbox" || dead.LastAttempt.Status != http.StatusGone ||
		dead.ActivityID != "https://app.example/a/1" || string(dead.Metadata) != `{"status_id":42}` || dead.URL != accepted.URL {
		t.Errorf("%s", dead.Data)
	}
	if diff := cmp.Diff([]string{"https://one.example/users/eve"}, dead.IDs); diff != "" {
		t.Errorf("actors:\n%s", diff)
	}
	w.Kill()
	done := w.readUntil(dead.Cursor, "activity_done")
	if done.ID != accepted.ID || done.Counts == nil || *done.Counts != (client.Counts{Total: 2, Delivered: 1, Dead: 1}) {
		t.Errorf("%s", done.Data)
	}
	if _, err := w.app.ActOnHost(t.Context(), "one.example", "block"); err != nil {
		t.Fatal(err)
	}
	blocked := w.readUntil(done.Cursor, "host_state")
	if blocked.Host != "one.example" || blocked.State != "blocked" {
		t.Errorf("%s", blocked.Data)
	}
	for _, e := range []client.Entry{dead, done, blocked} {
		harness.Eventually(t, "the webhook gets "+e.Type, func() bool { return hook.got(e.Cursor) })
	}
}

// readUntil reads the feed from a cursor until an entry of a type. No entry before the cursor may come again.
func (w world) readUntil(after, wanted string) client.Entry {
	w.T.Helper()
	for e, err := range w.app.Feed(w.T.Context(), client.FeedOptions{After: after}) {
		if err != nil {
			w.T.Fatal(err)
		}
		if after != "" && e.Type == "dead" {
			w.T.Errorf("it comes again: %s", e.Data)
		}
		if e.Type == wanted {
			return e
		}
	}
	return client.Entry{}
}

// hook is the webhook of an app.
type hook struct {
	*httptest.Server
	mu      sync.Mutex
	cursors []string // guarded by mu
}

func startHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		entries, err := client.VerifyWebhook(webhookSecret, r.Header, body)
		if err != nil {
			t.Errorf("%v: %s", err, body)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range entries {
			h.cursors = append(h.cursors, e.Cursor)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

// got reports whether the webhook got an entry.
func (h *hook) got(cursor string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.cursors, cursor)
}
