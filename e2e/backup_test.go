package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// replaceDatabase replaces a node's database by a backup.
func (n *testNode) replaceDatabase(backup string) {
	n.T.Helper()
	text, err := os.ReadFile(backup)
	if err != nil {
		n.T.Fatal(err)
	}
	writeText(n.T, filepath.Join(n.Dir, "postrider.db"), string(text))
}

// TestBackupAndRestore copies the store of a node while it works, kills the node, and restores the copy: nothing of the
// old store comes back, and nothing is sent before the operator allows it.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	h := startHosts(t, 2, func(int) testinbox.Options { return testinbox.Options{} })
	node := startProcess(t)
	node.act(h.Host(0), "pause")
	kept := node.deliver(like("kept"), h.Inbox(0, "/inbox"))
	l := startLoad(t, startHosts(t, 5, unhurried), node) // the copy is made of a node that is busy
	l.awaitMore(5)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if code, stdout, stderr := harness.RunOnce(t, nil, "backup", "--store", "embedded:"+node.Dir, backup); code != 0 || stdout+stderr != "" {
		t.Fatalf("backup ended with %d: %s%s", code, stdout, stderr)
	}
	text, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	scan(t, "the backup", text, keySecrets())
	l.awaitMore(5)
	l.check()
	later := node.deliver(like("later"), h.Inbox(1, "/inbox"))
	node.settled(later)
	node.Crash()

	node.replaceDatabase(backup)
	code, _, said := harness.RunOnce(t, nil, node.Command()...)
	if code != 1 || !strings.Contains(said, "was replaced") || !strings.Contains(said, "postrider.db-wal") {
		t.Fatalf("a node on a backup beside an old WAL ended with %d: %s", code, said)
	}
	for _, beside := range []string{"-wal", "-shm"} {
		if err := os.Remove(filepath.Join(node.Dir, "postrider.db"+beside)); err != nil {
			t.Fatal(err)
		}
	}
	node.Process = false
	node.Args = []string{"--deliver=false"}
	node.Start()
	if a := node.Call("GET", later.URL, ""); a.Status != 404 {
		t.Errorf("what came after the backup is there: %d %s", a.Status, a.Body)
	}
	node.act(h.Host(0), "resume")
	if got := node.activity(kept).Counts; got.Pending != 1 {
		t.Errorf("counts %+v", got)
	}
	node.Stop()
	node.Args = nil
	node.Start()
	if got := node.settled(kept); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
}

// TestRestoredOnAnotherMachine takes a backup of a busy node, and restores it in another folder with the master key at
// another path. With --deliver=false the new node sends nothing, also nothing that it accepts; without, it sends everything
// that was pending.
func TestRestoredOnAnotherMachine(t *testing.T) {
	t.Parallel()
	h := startHosts(t, 2, fine)
	old := startNode(t)
	old.act(h.Host(0), "pause")
	var pending []acceptedView
	for i := range 5 {
		pending = append(pending, old.deliver(like(fmt.Sprintf("kept-%d", i)), h.Inbox(0, "/inbox")))
	}
	l := startLoad(t, startHosts(t, 5, unhurried), old)
	l.awaitMore(5)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if code, stdout, stderr := harness.RunOnce(t, nil, "backup", "--store", "embedded:"+old.Dir, backup); code != 0 {
		t.Fatalf("backup ended with %d: %s%s", code, stdout, stderr)
	}
	l.awaitMore(5)
	l.check()
	old.Stop()

	key := filepath.Join(t.TempDir(), "moved.key")
	if err := os.Rename(filepath.Join(old.Dir, "master.key"), key); err != nil {
		t.Fatal(err)
	}
	node := newTestNode(t, false, []string{"--master-key", "@" + key, "--deliver=false"})
	if err := os.Mkdir(node.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	node.replaceDatabase(backup)
	sent := h.count() + l.hosts.count()
	node.Start()
	node.act(h.Host(0), "resume")
	pending = append(pending, node.deliver(like("meanwhile"), h.Inbox(1, "/inbox")))
	for _, a := range pending {
		if got := node.activity(a).Counts; got.Pending != 1 {
			t.Errorf("counts %+v", got)
		}
	}
	node.Stop() // it would end what is in flight
	if got := h.count() + l.hosts.count(); got != sent {
		t.Errorf("%d requests of a node that must send nothing", got-sent)
	}

	node.Args = node.Args[:2]
	node.Start()
	for _, a := range pending {
		if got := node.settled(a); got.Delivered != 1 {
			t.Errorf("counts %+v", got)
		}
	}
	harness.Eventually(t, "nothing pends", func() bool { return get[statsView](node, "/v1/stats").Fleet.Pending == 0 })
	if dead := node.deadLetters(""); len(dead) > 0 {
		t.Errorf("dead letters %+v", dead)
	}
}
