package e2e

import (
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
