package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/signer"
)

// masterOf returns a master key as the setting has it.
func masterOf(letter string) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(letter), signer.MasterKeySize))
}

// keys runs the keys command on the node, which must succeed, and returns its output.
func (n *testNode) keys(args ...string) string {
	n.T.Helper()
	code, stdout, stderr := harness.RunOnce(n.T, []string{"POSTRIDER_TOKEN=" + n.Token}, append([]string{"keys", "--url", "http://" + n.Listen}, args...)...)
	if code != 0 || stderr != "" {
		n.T.Fatalf("keys %q: exit code %d: %s", args, code, stderr)
	}
	return stdout
}

// sealedWith returns the master keys that the node's keys are sealed with.
func (n *testNode) sealedWith() []string {
	n.T.Helper()
	var seals []string
	for _, k := range get[page[keyView]](n, "/v1/keys?limit=500").Items {
		seals = append(seals, k.SealedWith)
	}
	slices.Sort(seals)
	return slices.Compact(seals)
}

// TestMasterKeyIsRotatedUnderLoad checks that a fleet gets another master key, node by node, while it delivers, and
// that no delivery fails.
func TestMasterKeyIsRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	const others = 40
	older, newer := masterOf("o"), masterOf("n")
	h := startHosts(t, 5, fine)
	redis := testredis.Start(t)
	with := func(masters string) []string {
		return []string{"--store", redis.URL(), "--master-key", masters}
	}
	fleet := make([]*testNode, 2)
	for i := range fleet {
		fleet[i] = startProcess(t, with(older)...)
	}
	for i := range others {
		fleet[0].putKey(fmt.Sprintf("https://app.example/users/%d#main-key", i))
	}
	ctx, stop := context.WithCancel(t.Context())
	posted := make(chan []acceptedView, 1)
	go func() { posted <- trickle(ctx, t, fleet, h.urls()) }()
	roll := func(masters string) {
		for _, n := range fleet {
			n.Args = with(masters)
			n.Restart()
			n.putKey(keyID) // the other node signs with what this one sealed
			before := h.count()
			harness.Eventually(t, "more is delivered", func() bool { return h.count() >= before+2*len(h.inboxes) })
		}
	}
	roll(older + "," + newer)
	old := fleet[0].sealedWith()
	roll(newer + "," + older)
	if said, want := fleet[0].keys("reseal"), fmt.Sprintf("resealed %d of %d keys; all are sealed", others, others+1); !strings.HasPrefix(said, want) {
		t.Errorf("reseal said %s, want %s", said, want)
	}
	now := fleet[1].sealedWith()
	if said := fleet[1].keys("reseal"); !strings.HasPrefix(said, fmt.Sprintf("resealed 0 of %d keys", others+1)) || len(old) != 1 || len(now) != 1 || now[0] == old[0] {
		t.Errorf("sealed with %v, then with %v; once more: %s", old, now, said)
	}
	roll(newer)
	stop()
	checkTrickle(t, h, fleet, <-posted)
	code, _, said := harness.RunOnce(t, nil, "--listen", "127.0.0.1:0", "--store", redis.URL(), "--master-key", older, "--log-level", "error")
	if code != 1 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "https://app.example/users/") || !strings.Contains(said, "("+now[0]+"; given: "+old[0]+")") {
		t.Errorf("with the old master key alone: exit code %d: %s", code, said)
	}
}

// trickle posts activities until ctx ends, to the nodes in turn. It skips a node that is unavailable.
func trickle(ctx context.Context, t *testing.T, fleet []*testNode, inboxes []string) (all []acceptedView) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		call := submission{activity: like(fmt.Sprint(i)), inboxes: inboxes}.String()
		for turn := i; t.Context().Err() == nil; turn++ {
			a, err := fleet[turn%len(fleet)].Try(http.MethodPost, "/v1/activities", strings.NewReader(call), "Idempotency-Key", fmt.Sprint(i))
			if err != nil || a.Status == http.StatusServiceUnavailable {
				continue
			}
			view, err := decode[acceptedView](a.Body)
			if a.Status != http.StatusAccepted || err != nil || view.Accepted != len(inboxes) {
				t.Errorf("activity %d: %d %s", i, a.Status, a.Body)
				return all
			}
			all = append(all, view)
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return all
}

// checkTrickle requires that all activities were delivered, with good signatures and without a fault on our side.
func checkTrickle(t *testing.T, h *hosts, fleet []*testNode, posted []acceptedView) {
	t.Helper()
	for _, a := range posted {
		if got := fleet[0].settled(a); got != (countsView{Total: len(h.inboxes), Delivered: len(h.inboxes)}) {
			t.Errorf("counts %+v", got)
		}
	}
	for i, in := range h.inboxes {
		if got := arrivals(t, in); len(got) != len(posted) {
			t.Errorf("host %d got %d of %d activities", i, len(got), len(posted))
		}
	}
	for i, n := range fleet {
		if !strings.Contains(n.Call(http.MethodGet, "/metrics", "").Body, `postrider_attempts_total{outcome="delivered"}`) {
			t.Errorf("node %d delivered nothing", i)
		}
		log := n.Out.String()
		for _, bad := range []string{`"outcome":"fault"`, `"outcome":"key_missing"`, `"key.damaged"`, `"level":"ERROR"`} {
			if strings.Contains(log, bad) {
				t.Errorf("node %d says %s:\n%s", i, bad, log)
			}
		}
	}
}

// TestMasterKeyFileIsRotated checks that a single node gets another master key by a line in its own file.
func TestMasterKeyFileIsRotated(t *testing.T) {
	t.Parallel()
	h := startHost(t, testinbox.Options{})
	node := startNode(t)
	file := filepath.Join(node.Dir, "master.key")
	older, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old, newer := node.sealedWith(), masterOf("n")+"\n"
	restart := func(text string) {
		node.Stop()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		node.Start()
	}
	restart(newer + string(older))
	if said := node.keys("reseal"); !strings.HasPrefix(said, "resealed 1 of 1 keys") {
		t.Errorf("reseal said %s", said)
	}
	restart(newer)
	if now := node.sealedWith(); len(now) != 1 || now[0] == old[0] {
		t.Errorf("sealed with %v, then with %v", old, now)
	}
	if got := node.settled(node.deliver(like("1"), h.Inbox(0, "/inbox"))); got.Delivered != 1 || !h.inboxes[0].Received()[0].Valid {
		t.Errorf("counts %+v", got)
	}
	node.Stop()
	if err := os.WriteFile(file, older, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, said := harness.RunOnce(t, nil, node.Command()...); code != 1 || !strings.Contains(said, keyID) || !strings.Contains(said, old[0]) {
		t.Errorf("with the old master key alone: exit code %d: %s", code, said)
	}
}

// TestEveryStoredKeyIsTriedAtStart checks that the last of thousands of keys is tried too, and that a damaged one does not
// keep the others from signing.
func TestEveryStoredKeyIsTriedAtStart(t *testing.T) {
	t.Parallel()
	const n = 1201
	node := newTestNode(t, false, nil)
	store, err := embedded.Open(node.Dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	private, err := signer.ParsePrivateKey([]byte(privatePEM()))
	if err != nil {
		t.Fatal(err)
	}
	put := func(i int, letters string, id string) {
		sealer, err := signer.NewSealer(bytes.Repeat([]byte(letters), signer.MasterKeySize))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := sealer.Seal(id, private)
		if err == nil {
			_, err = store.PutKey(t.Context(), queue.Key{ID: fmt.Sprintf("key-%04d", i), Sealed: sealed})
		}
		if err != nil {
			t.Error(err)
		}
	}
	for i := range n {
		put(i, "n", fmt.Sprintf("key-%04d", i))
	}
	put(3, "n", "of another")
	put(n, "o", fmt.Sprintf("key-%04d", n))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	node.Args = []string{"--master-key", masterOf("n")}
	code, _, said := harness.RunOnce(t, nil, append(node.Command(), "--log-level", "error")...)
	if code != 1 || !strings.Contains(said, fmt.Sprintf("key-%04d: ", n)) {
		t.Errorf("exit code %d: %.300s", code, said)
	}
	node.Args = []string{"--master-key", masterOf("n") + "," + masterOf("o")}
	node.begin()
	if said := node.keys("reseal"); !strings.HasPrefix(said, fmt.Sprintf("resealed 1 of %d keys", n+2)) {
		t.Errorf("reseal said %s", said)
	}
	if log := node.Out.String(); strings.Count(log, `"key.damaged"`) != 1 || !strings.Contains(log, `"key_id":"key-0003"`) {
		t.Errorf("the log says %.2000s", log)
	}
}

// TestKeysCommand runs the command against a node that requires a token, with the key from a file and from standard input.
func TestKeysCommand(t *testing.T) {
	t.Parallel()
	node := newTestNode(t, false, []string{"--api-tokens", "ops:" + opsToken})
	node.Token = opsToken
	node.Start()
	const alice, bob = "https://app.example/users/alice#main-key", "https://app.example/users/bob#main-key"
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, []byte(privatePEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"added ", "replaced "} {
		if said := node.keys("add", alice, file); !strings.HasPrefix(said, want+alice+": rsa, SHA256:") {
			t.Errorf("add said %s", said)
		}
	}
	node.addByStdin(bob)
	list := node.keys("list")
	if lines := strings.Split(list, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], alice+" ") || !strings.Contains(lines[2], node.sealedWith()[0]) {
		t.Errorf("list:\n%s", list)
	}
	if got, err := decode[[]keyView](node.keys("list", "--json")); err != nil || len(got) != 2 || got[1].KeyID != bob || got[1].PublicPEM == "" {
		t.Errorf("as JSON: %+v, error %v", got, err)
	}
	if said := node.keys("remove", bob); said != "removed "+bob+"\n" {
		t.Errorf("remove said %s", said)
	}
	for _, bad := range []struct {
		code int
		args []string
		says string
	}{
		{1, []string{"remove", bob}, "404"},
		{1, []string{"add", bob, "/dev/null"}, "private_key_pem: is missing"},
		{1, []string{"list", "--token", "wrong-secret"}, "api-tokens"},
		{1, []string{"list", "--url", "http://127.0.0.1:1"}, "no answer from http://127.0.0.1:1"},
		{2, []string{"list", "--url", "node"}, "https://"},
		{2, []string{"add", bob}, "<file>"},
	} {
		args := append([]string{"keys", "--url", "http://" + node.Listen, "--token", opsToken}, bad.args...)
		code, stdout, stderr := harness.RunOnce(t, nil, args...)
		if code != bad.code || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, bad.says) || strings.Contains(stderr, "-secret") {
			t.Errorf("%q: exit code %d, %q, %q", bad.args, code, stdout, stderr)
		}
	}
	scan(t, "what the commands and the node said", []byte(list+node.Out.String()), keySecrets())
}

// addByStdin adds a key as a pipe of a shell does, with the token in the environment.
func (n *testNode) addByStdin(keyID string) {
	n.T.Helper()
	cmd := harness.Command(n.T.Context(), n.T, []string{"POSTRIDER_URL=http://" + n.Listen, "POSTRIDER_API_TOKENS=ops:" + n.Token}, "keys", "add", keyID, "-")
	cmd.Stdin = strings.NewReader(privatePEM())
	if said, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(said), "added "+keyID) {
		n.T.Errorf("add - said %s, error %v", said, err)
	}
}
