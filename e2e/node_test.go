package e2e

import (
	"testing"

	"github.com/postrider/postrider/e2e/harness"
)

// testNode is a node that the tests of this package know how to ask.
type testNode struct{ *harness.Node }

// startNode starts a node in this process and gives it the key.
func startNode(t *testing.T, args ...string) *testNode {
	t.Helper()
	return newTestNode(t, false, args).begin()
}

// startProcess starts a node in a separate process, to be killed or measured, and gives it the key.
func startProcess(t *testing.T, args ...string) *testNode {
	t.Helper()
	return newTestNode(t, true, args).begin()
}

func newTestNode(t *testing.T, process bool, args []string) *testNode {
	t.Helper()
	n := &testNode{harness.NewNode(t, args...)}
	n.Process = process
	return n
}

func (n *testNode) begin() *testNode {
	n.T.Helper()
	n.Start()
	n.putKey(keyID)
	return n
}
