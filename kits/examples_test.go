package kits

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
)

// examples returns the blocks of code of a README in a language, by the name of the file that their first line has.
func examples(t *testing.T, readme, language string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	block := regexp.MustCompile("(?ms)^```" + language + "\n((?:<\\?php )?(?:#|//) (\\w+\\.\\w+)\n.*?)^```$")
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		found[m[2]] = m[1]
	}
	return found
}

// runExamples runs the three examples that each README has: of a first post, which has to arrive, of the webhook, to which
// the caller has added calls of its handler, and of the feed. files are by name; command runs one.
func (r *rig) runExamples(t *testing.T, files map[string]string, command []string, kit, extension string) {
	t.Helper()
	dir := t.TempDir()
	for name, code := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	example := func(name string, args ...string) string {
		t.Helper()
		return r.run(t, dir, command[0], slices.Concat(command[1:], []string{name + extension}, args)...)
	}

	harness.CheckShort(t, kit, files["first_post"+extension])
	out := example("first_post", slices.Concat([]string{r.keyFile}, r.inboxes)...)
	if !strings.Contains(out, "accepted: 2") {
		t.Errorf("the first post was not accepted for both inboxes: %s", out)
	}
	r.arrived(t, "https://app.example/a/"+kit+"/1")

	r.makeDeadLetters(t)
	r.environ = append(r.environ, r.webhook.call(t)...)
	out = example("webhook")
	if !strings.Contains(out, "dead") || !strings.Contains(strings.ReplaceAll(out, " ", ""), "[204,401]") {
		t.Errorf("the webhook's example made of the node's call and of a forged one: %s", out)
	}

	out = example("read_feed")
	if !strings.Contains(out, "https://one.example/users/bob") || strings.Contains(out, "https://two.example/users/eve") {
		t.Errorf("the feed's example printed: %s", out)
	}
	if out = example("read_feed"); out != "" {
		t.Errorf("the feed's example printed again: %s", out)
	}
}

// makeDeadLetters makes the node write two dead letters: Bob's inbox is gone, and Eve's refuses.
func (r *rig) makeDeadLetters(t *testing.T) {
	t.Helper()
	call := harness.JSON(map[string]any{
		"activity": map[string]string{"id": "https://app.example/a/dead", "type": "Like"}, "key_id": keyID,
		"recipients": []map[string]any{
			{"inbox": r.inboxes[0] + gone, "ids": []string{"https://one.example/users/bob"}},
			{"inbox": r.inboxes[1] + refused, "ids": []string{"https://two.example/users/eve"}},
		},
	})
	if a := r.Call(http.MethodPost, "/v1/activities", call); a.Status != http.StatusAccepted {
		t.Fatalf("answered %d: %s", a.Status, a.Body)
	}
	harness.Eventually(t, "both deliveries are dead", func() bool {
		var letters struct{ Items []struct{} }
		r.Get("/v1/dead-letters", &letters)
		return len(letters.Items) == 2
	})
}

// webhook is an app that keeps the calls of the node's webhook.
type webhook struct {
	url   string
	mu    sync.Mutex
	calls []webhookCall // guarded by mu
}

type webhookCall struct {
	header http.Header
	body   string
}

// webhookSecret is whsec_ and the base64 of 32 bytes.
const webhookSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

func startWebhook(t *testing.T) *webhook {
	t.Helper()
	hook := &webhook{}
	server := httptest.NewServer(hook)
	t.Cleanup(server.Close)
	hook.url = server.URL
	return hook
}

// ServeHTTP implements http.Handler.
func (w *webhook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, webhookCall{r.Header, string(body)})
}

// call waits for the node's call about a dead letter, and returns it as variables.
func (w *webhook) call(t *testing.T) (environ []string) {
	t.Helper()
	harness.Eventually(t, "the node calls the webhook", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, call := range w.calls {
			if strings.Contains(call.body, `"type":"dead"`) {
				environ = []string{
					"WEBHOOK_SECRET=" + webhookSecret, "BODY=" + call.body, "ID=" + call.header.Get("webhook-id"),
					"TIMESTAMP=" + call.header.Get("webhook-timestamp"), "SIGNATURE=" + call.header.Get("webhook-signature"),
				}
				return true
			}
		}
		return false
	})
	return environ
}
