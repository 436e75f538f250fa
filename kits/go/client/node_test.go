package client_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/kits/go/client"
)

func TestMain(m *testing.M) {
	harness.AsProgram()
	m.Run()
}

const keyID = "https://app.example/users/alice#main-key"

// world is a node in a separate process, a client of it, and a host with an inbox.
type world struct {
	*harness.Node
	app *client.Client
	*testinbox.Inbox
	url string // of the inbox
}

func startWorld(t *testing.T, args ...string) world {
	t.Helper()
	inbox := testinbox.New(testinbox.Options{Unsigned: true, Script: func(r testinbox.Request) testinbox.Reply {
		if strings.HasPrefix(r.Path, "/gone") {
			return testinbox.Reply{Status: http.StatusGone}
		}
		return testinbox.Reply{}
	}})
	fleet, err := testinbox.StartFleet(1, func(int) http.Handler { return inbox })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fleet.Close() })
	n := harness.NewNode(t, append(args, "--api-tokens", "app:a-token-of-the-app")...)
	n.Process = true
	n.Start()
	c := client.New(client.Options{URL: n.URL(""), Token: "a-token-of-the-app"})
	t.Cleanup(c.CloseIdleConnections)
	return world{n, c, inbox, fleet.Inbox(0, "")}
}

func (w world) call(id, path string) client.Call {
	text := fmt.Sprintf("{\"id\":  %q,\n\"type\":\"Like\",\"content\":\"<é\u2028&>\"}", id)
	return client.Call{Activity: client.Text(text), KeyID: keyID, Inboxes: []string{w.url + path}}
}

// arrive waits until the inbox got n requests.
func (w world) arrive(n int) {
	w.T.Helper()
	harness.Eventually(w.T, "all arrive", func() bool { return w.Count() >= n })
}

// TestNodeIsKilledInTheMiddle: the node is killed while activities are handed over, and each of them is accepted once and
// arrives, byte for byte.
func TestNodeIsKilledInTheMiddle(t *testing.T) {
	w := startWorld(t)
	if _, err := w.app.PutKey(t.Context(), client.Key{ID: keyID, PEM: harness.PrivatePEM()}); err != nil {
		t.Fatal(err)
	}
	const posts = 60
	var want []string
	reached := make(chan struct{})
	var posting sync.WaitGroup
	posting.Go(func() {
		for i := range posts {
			call := w.call(fmt.Sprintf("https://app.example/a/%d", i), "/users/bob/inbox")
			if i == posts/3 {
				close(reached)
			}
			a, err := w.app.Deliver(t.Context(), call)
			if err != nil || a.Accepted+a.Duplicates != 1 {
				t.Errorf("%+v, error %v", a, err)
			}
			want = append(want, fmt.Sprintf("%x", sha256.Sum256(call.Activity)))
		}
	})
	<-reached
	w.Kill()
	posting.Wait()
	got := map[string]bool{}
	harness.Eventually(t, "all arrive", func() bool {
		for _, r := range w.Received() {
			got[fmt.Sprintf("%x", r.BodyHash)] = true
		}
		return len(got) >= posts
	})
	for i, hash := range want {
		if !got[hash] {
			t.Errorf("activity %d did not arrive byte for byte", i)
		}
	}
}

// TestNode makes every call.
func TestNode(t *testing.T) {
	w := startWorld(t)
	ctx := t.Context()
	info, err := w.app.PutKey(ctx, client.Key{ID: keyID, PEM: harness.PrivatePEM()})
	if err != nil || info.ID != keyID || info.Algorithm != "rsa" {
		t.Fatalf("%+v, error %v", info, err)
	}
	other := w.call("https://app.example/a/2", "/users/bob/inbox")
	other.KeyID, other.Key = "", &client.Key{ID: "https://app.example/users/carol#main-key", PEM: harness.PrivatePEM()}
	other.Inboxes = nil
	other.Recipients = []client.Recipient{{Inbox: w.url + "/users/bob/inbox", IDs: []string{"https://one.example/users/bob"}, Headers: map[string]string{"X-A": "1"}}}
	other.Priority, other.ExpiresIn = "high", "1h"
	other.FinalStatuses = []int{401}
	results, err := w.app.Batch(ctx, []client.Call{w.call("https://app.example/a/1", "/users/bob/inbox"), {}, other})
	if err != nil || results[0].Accepted.Accepted != 1 || results[1].Err == nil || results[1].Err.Status != http.StatusBadRequest || results[2].Err != nil {
		t.Fatalf("%+v, error %v", results, err)
	}
	var ids []string
	for k, err := range w.app.Keys(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.ID)
	}
	if diff := cmp.Diff([]string{keyID, other.Key.ID}, ids); diff != "" {
		t.Error(diff)
	}
	w.arrive(2)
	testHosts(t, w)
	if err := w.app.DeleteKeyWhenIdle(ctx, keyID); err != nil {
		t.Error(err)
	}
	if err := w.app.DeleteKey(ctx, other.Key.ID); err != nil {
		t.Error(err)
	}
}

// TestCallComesAgainAfterACrash checks that an app which keeps a key with each call may make the call again in any way, and
// that its activity is sent once.
func TestCallComesAgainAfterACrash(t *testing.T) {
	w := startWorld(t)
	if _, err := w.app.PutKey(t.Context(), client.Key{ID: keyID, PEM: harness.PrivatePEM()}); err != nil {
		t.Fatal(err)
	}
	stored := w.call("https://app.example/a/1", "/users/bob/inbox")
	stored.IdempotencyKey = "row-1"
	other := w.call("https://app.example/a/2", "/users/bob/inbox")
	var first string // the node's ID for the stored call
	for i, calls := range [][]client.Call{{stored, other}, {other, stored}, {stored}} {
		results, err := w.app.Batch(t.Context(), calls)
		if err != nil {
			t.Fatal(err)
		}
		for n, r := range results {
			mine := calls[n].IdempotencyKey != ""
			if first == "" {
				first = r.ID
			}
			if r.Err != nil || mine && r.ID != first || r.Replayed != (mine && i > 0) {
				t.Errorf("batch %d, call %d: %+v", i, n, r)
			}
		}
	}
	if got, err := w.app.Deliver(t.Context(), stored); err != nil || got.ID != first || !got.Replayed {
		t.Errorf("delivered alone: %+v, error %v", got, err)
	}
}

func testHosts(t *testing.T, w world) {
	t.Helper()
	ctx := t.Context()
	for _, action := range []string{"pause", "resume", "block", "unblock", "reset", "probe", "seen"} {
		if _, err := w.app.ActOnHost(ctx, "one.example", action); err != nil {
			t.Error(err)
		}
	}
	h, err := w.app.ActOnHost(ctx, "one.example", "block")
	if err != nil || h.State != "blocked" {
		t.Errorf("%+v, error %v", h, err)
	}
	var blocked []string
	for h, err := range w.app.Hosts(ctx, "blocked") {
		if err != nil {
			t.Fatal(err)
		}
		blocked = append(blocked, h.Host)
	}
	if h, err = w.app.Host(ctx, "one.example"); err != nil || h.State != "blocked" || len(blocked) != 1 {
		t.Errorf("%+v, error %v, blocked %v", h, err, blocked)
	}
	testOrders(t, w)
	refused := w.call("https://app.example/a/3", "")
	refused.Inboxes = []string{"http://one.example/inbox"}
	_, err = w.app.Deliver(ctx, refused)
	if none, ok := errors.AsType[*client.Error](err); !ok || !none.NoInboxAccepted() || none.Errors[0].Code != "host_blocked" {
		t.Errorf("error %v", err)
	}
}

// testOrders gives orders with all that they may have, ends them, and finds all that in the feed.
func testOrders(t *testing.T, w world) {
	t.Helper()
	ctx := t.Context()
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	h, err := w.app.PauseHost(ctx, "two.example", client.Order{Reason: "they move", Until: until})
	if err != nil || len(h.Orders) != 1 || h.Orders[0].Reason != "they move" || h.Orders[0].Until.Sub(until).Abs() > time.Second {
		t.Errorf("%+v, error %v", h, err)
	}
	if h, err = w.app.BlockHost(ctx, "two.example", client.Order{Subdomains: true}); err != nil || h.State != "blocked" {
		t.Errorf("%+v, error %v", h, err)
	}
	_, err = w.app.UnblockHost(ctx, "x.two.example")
	if covered, ok := errors.AsType[*client.Error](err); !ok || covered.Status != http.StatusConflict {
		t.Errorf("error %v", err)
	}
	if h, err = w.app.UnblockHost(ctx, "two.example"); err != nil || h.State != "paused" {
		t.Errorf("%+v, error %v", h, err)
	}
	if h, err = w.app.ResumeHost(ctx, "two.example"); err != nil || h.State != "healthy" || len(h.Orders) > 0 {
		t.Errorf("%+v, error %v", h, err)
	}
	var done []string
	for e, err := range w.app.Feed(ctx, client.FeedOptions{Types: []string{"action"}, Hosts: []string{"two.example"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if done = append(done, e.Action+" by "+e.By); e.Action == "host.pause" && e.Order.Reason != "they move" || e.Action == "host.resume" {
			break
		}
	}
	if got := strings.Join(done, ", "); got != "host.pause by app, host.block by app, host.unblock by app, host.resume by app" {
		t.Errorf("the feed has %s", got)
	}
}

var readmeProgram = regexp.MustCompile("(?s)```go\n(package main\n.*?)```")

// TestReadme runs the program of the README as it is written, but for the two addresses.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := readmeProgram.FindSubmatch(page)
	if program == nil {
		t.Fatal("the README has no program")
	}
	harness.CheckShort(t, "the Go kit", string(program[1]))
	w := startWorld(t)
	if _, err := w.app.PutKey(t.Context(), client.Key{ID: keyID, PEM: harness.PrivatePEM()}); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("http://127.0.0.1:8080", w.URL(""), "http://127.0.0.1:8081", w.url).Replace(string(program[1]))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "app"), filepath.Join(dir, "main.go"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), filepath.Join(dir, "app"))
	run.Dir, run.Env = dir, append(os.Environ(), "POSTRIDER_TOKEN=a-token-of-the-app")
	out, err := run.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "1 delivery, see /v1/activities/") {
		t.Fatalf("error %v: %s", err, out)
	}
	w.arrive(1)
}
