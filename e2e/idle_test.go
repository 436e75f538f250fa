package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestIdleNodeCostsNothing measures the processor time of a node whose work has to wait: hosts whose breakers are open,
// and deliveries whose retry is far away.
func TestIdleNodeCostsNothing(t *testing.T) {
	t.Parallel()
	const n, rest, most = 20, 3 * time.Second, 2 // ticks of a hundredth of a second
	h := startHosts(t, n, func(int) testinbox.Options { return replies(testinbox.Reply{Status: 500}) })
	node := startProcess(t, "--retry-base", "1h", "--breaker-threshold", "2", "--breaker-cool-off", "1h", "--breaker-cool-off-max", "1h")
	for i := range 5 {
		node.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls()})
	}
	harness.Eventually(t, "all breakers are open", func() bool {
		return len(get[page[hostView]](node, "/v1/hosts?state=open").Items) == n
	})
	began := ticks(t, node.PID())
	<-time.After(rest)
	used := ticks(t, node.PID()) - began
	t.Logf("%d ticks in %s", used, rest)
	if used > most {
		t.Errorf("an idle node used %d ticks in %s", used, rest)
	}
}

// ticks returns the processor time that a process has used.
func ticks(t *testing.T, pid int) (sum int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold anything
	fields := strings.Fields(rest)
	for _, field := range fields[11:13] { // utime and stime, the 14th and 15th of all
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// TestIdleNodeDeliversAtOnce measures the time from the answer of a call until the inbox has the activity.
func TestIdleNodeDeliversAtOnce(t *testing.T) {
	t.Parallel()
	const n = 50
	h := startHost(t, testinbox.Options{})
	node := startNode(t)
	var took []time.Duration
	for i := range n {
		a := node.deliver(like(fmt.Sprint(i)), h.Inbox(0, "/inbox"))
		accepted := time.Now()
		if err := h.inboxes[0].Wait(t.Context(), i+1); err != nil {
			t.Fatal(err)
		}
		took = append(took, h.inboxes[0].Received()[i].At.Sub(accepted))
		node.settled(a)
	}
	slices.Sort(took)
	t.Logf("median %s, the slowest of %d %s", took[n/2], n, took[n-1])
}
