package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// startHostile starts n hosts that follow each of the scripts. It returns an inbox on each, and a file with the roots of
// their certificates.
func startHostile(t *testing.T, n int, scripts ...testinbox.Script) (inboxes []string, roots string) {
	t.Helper()
	var certificates []byte
	for _, script := range scripts {
		hosts, err := testinbox.StartHostile(n, script)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = hosts.Close() })
		certificates = append(certificates, hosts.CA()...)
		for i := range n {
			inboxes = append(inboxes, hosts.Inbox(i, "/inbox"))
		}
	}
	roots = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(roots, certificates, 0o600); err != nil {
		t.Fatal(err)
	}
	return inboxes, roots
}

// metric returns the value of a metric without labels.
func (n *testNode) metric(name string) int {
	n.T.Helper()
	line := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindStringSubmatch(n.Call("GET", "/metrics", "").Body)
	if line == nil {
		n.T.Fatalf("there is no metric %s", name)
	}
	value, err := strconv.Atoi(line[1])
	if err != nil {
		n.T.Fatal(err)
	}
	return value
}

// deliverEach delivers n activities to a healthy inbox, one after the other.
func (n *testNode) deliverEach(count int, inbox string) {
	n.T.Helper()
	for i := range count {
		if got := n.settled(n.deliver(like(fmt.Sprintf("healthy-%d", i)), inbox)); got.Delivered != 1 {
			n.T.Fatalf("healthy delivery %d: %+v", i, got)
		}
	}
}

// TestHostileInboxesHoldNoSlots checks that hosts that keep connections busy endlessly take no slots from others, give
// theirs back by the deadline of their attempts, and do not keep the node from stopping.
func TestHostileInboxesHoldNoSlots(t *testing.T) {
	t.Parallel()
	scripts := slices.DeleteFunc(testinbox.Scripts(), func(s testinbox.Script) bool {
		return s.Name != testinbox.WindowZero().Name && s.Name != "WINDOW_UPDATE beyond all bounds"
	})
	inboxes, roots := startHostile(t, 4, scripts...)
	healthy := startHost(t, testinbox.Options{})
	node := startProcess(t, "--ca-file", roots, "--concurrency", "32", "--attempt-timeout", "2s", "--shutdown-timeout", "2s",
		"--max-attempts", "1", "--breaker-threshold", "1000")
	var all []acceptedView
	for i := range 4 {
		all = append(all, node.accept(submission{activity: like(fmt.Sprintf("hostile-%d", i)), inboxes: inboxes}))
	}
	node.deliverEach(20, healthy.Inbox(0, "/inbox"))
	for _, a := range all {
		if got := node.settled(a); got.Delivered+got.Dead != len(inboxes) {
			t.Errorf("counts %+v", got)
		}
	}
	if got := node.metric("postrider_attempts_overdue"); got != 0 {
		t.Errorf("%d attempts are overdue", got)
	}
	node.Stop()
}

// TestEveryKindOfHostileInbox checks that a node that meets a host of every script serves others while attempts hang, stops
// without waiting for these attempts, and ends each of them by its deadline.
func TestEveryKindOfHostileInbox(t *testing.T) {
	t.Parallel()
	const stalling = 30 // scripts, or some more, hold an attempt until its deadline
	inboxes, roots := startHostile(t, 1, testinbox.Scripts()...)
	healthy := startHost(t, testinbox.Options{})
	node := startProcess(t, "--ca-file", roots, "--breaker-threshold", "1000", "--shutdown-timeout", "1s",
		"--attempt-timeout", "1h", "--connect-timeout", "1h")
	var all []acceptedView
	for i := range 2 {
		all = append(all, node.accept(submission{activity: like(fmt.Sprintf("hostile-%d", i)), inboxes: inboxes}))
	}
	held := func() bool { return node.metric("postrider_attempts_in_flight") >= stalling }
	harness.Eventually(t, "the stalling hosts hold attempts", held)
	node.deliverEach(20, healthy.Inbox(0, "/inbox"))
	if !held() {
		t.Error("the stalling hosts hold no attempts any more")
	}
	node.wantModest()
	node.Stop()
	node.Args = append(node.Args, "--attempt-timeout", "2s", "--connect-timeout", "2s", "--max-attempts", "1")
	node.Start()
	for _, a := range all {
		if got := node.settled(a); got.Delivered+got.Dead != len(inboxes) || got.Dead < stalling {
			t.Errorf("counts %+v", got)
		}
	}
	node.wantModest()
	if got := node.metric("postrider_attempts_overdue"); got != 0 {
		t.Errorf("%d attempts are overdue", got)
	}
	node.Stop()
}

// wantModest checks that the node has taken little memory, and written little to its log.
func (n *testNode) wantModest() {
	n.T.Helper()
	most := int64(160 << 20)
	if raceDetector() {
		most *= 3 // for the race detector's memory
	}
	if got := status(n.T, n.PID(), "VmHWM"); got > most {
		n.T.Errorf("the node grew to %d MiB, more than %d", got>>20, most>>20)
	}
	if got := len(n.Out.String()); got > 2<<20 {
		n.T.Errorf("the node wrote %d KiB to its log", got>>10)
	}
}
