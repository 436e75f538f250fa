package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long what has to happen may take on a busy machine.
const patience = 60 * time.Second

// node is the program, as go build makes it, in a process of its own.
type node struct {
	t       *testing.T
	address string
}

// startNode builds the program and starts it on a store of its own; it ends with the test.
func startNode(t *testing.T, args ...string) *node {
	t.Helper()
	dir, said := t.TempDir(), &output{}
	args = append([]string{
		"--listen", "127.0.0.1:0", "--store", "embedded:" + filepath.Join(dir, "store"), "--log-format", "json", "--allow-http",
		"--allow-private-addresses", "127.0.0.0/8,::1/128", "--user-agent", "Postrider (+https://app.example/)",
	}, args...)
	cmd := exec.CommandContext(context.Background(), build(t, dir), args...)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended, which Wait tells
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the node ended (%v) and had said:\n%s", err, said)
		}
	})
	n := &node{t: t}
	eventually(t, "the node starts", func() bool {
		n.address = startedAt(said.String())
		return n.address != ""
	})
	return n
}

// build builds the program, with the race detector if the tests have it, which spares compiling everything twice.
func build(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "postrider")
	args := []string{"build", "-buildvcs=false", "-o", program}
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, "..")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// startedAt finds the address in what a node that started has said.
func startedAt(log string) string {
	for line := range strings.Lines(log) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "node.start" {
			return entry.Address
		}
	}
	return ""
}

// in returns the node for a test within the one that started it.
func (n *node) in(t *testing.T) *node { return &node{t, n.address} }

// putKey gives the node a key.
func (n *node) putKey(k key) {
	n.t.Helper()
	n.call(http.MethodPut, "/v1/keys", map[string]string{"key_id": k.id, "private_key_pem": k.private}, nil)
}

// collectionSync is a header for single recipients, as FEP-8fcf has it.
const collectionSync = `collectionId="https://app.example/users/alice/followers", ` +
	`url="https://app.example/users/alice/followers_synchronization", ` +
	`digest="b08ab6951c7df2cc2b91e17ebed557da7fdd41e9e8ed1ea7d9b2b5f2b9fd4d1a"`

// deliver delivers an activity to inboxes, each with a header of its own, and waits until all have it.
func (n *node) deliver(id, keyID string, inboxes []string) {
	n.t.Helper()
	recipients := make([]map[string]any, len(inboxes))
	for i, inbox := range inboxes {
		recipients[i] = map[string]any{"inbox": inbox, "headers": map[string]string{"Collection-Synchronization": collectionSync}}
	}
	var accepted struct {
		Accepted int
		URL      string
	}
	n.call(http.MethodPost, "/v1/activities", map[string]any{
		"activity": map[string]string{
			"@context": "https://www.w3.org/ns/activitystreams", "id": id, "type": "Announce", "actor": "https://app.example/users/alice",
			"object": "https://remote.example/notes/1", "content": "Grüße, こんにちは 🐎",
		},
		"key_id": keyID, "recipients": recipients, "priority": "high",
	}, &accepted)
	if accepted.Accepted != len(inboxes) {
		n.t.Fatalf("%d of %d inboxes were accepted", accepted.Accepted, len(inboxes))
	}
	var got struct {
		Counts struct{ Pending, Delivered int }
	}
	eventually(n.t, "all have "+id, func() bool {
		n.call(http.MethodGet, accepted.URL, nil, &got)
		return got.Counts.Pending == 0
	})
	if got.Counts.Delivered != len(inboxes) {
		n.t.Fatalf("%d of %d inboxes took %s", got.Counts.Delivered, len(inboxes), id)
	}
}

// knownScheme is what the node has learnt of a host.
func (n *node) knownScheme(host string) string {
	n.t.Helper()
	var view struct {
		Scheme string `json:"signature_scheme"`
	}
	n.call(http.MethodGet, "/v1/hosts/"+url.PathEscape(host), nil, &view)
	return view.Scheme
}

// call calls the API, which has to agree, and reads the answer into v unless that is nil.
func (n *node) call(method, path string, body, v any) {
	n.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.address+path, bytes.NewReader(text))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && v != nil {
		err = json.Unmarshal(answer, v)
	}
	if err != nil || resp.StatusCode > 299 {
		n.t.Fatalf("%s %s answered %d (%v): %s", method, path, resp.StatusCode, err, answer)
	}
}

// eventually waits until cond holds, and ends the test if it never does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// output keeps what is written to it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns all that was written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
