package e2e

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
)

// store is the flags for the store of a test's nodes. None is the embedded store in the node's own folder.
type store []string

// onBothStores runs a test on the embedded store and on a new Redis.
func onBothStores(t *testing.T, test func(t *testing.T, s store)) {
	t.Helper()
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, nil)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, onRedis(testredis.Start(t).URL()))
	})
}

// onRedis is the store of a fleet. A node that was killed keeps its hosts for a few seconds only.
func onRedis(url string) store {
	return store{"--store", url, "--master-key", strings.Repeat("A", 43) + "=", "--lease-ttl", "3s"}
}

// startNode is startNode for a node on the store.
func (s store) startNode(t *testing.T, args ...string) *testNode {
	t.Helper()
	return startNode(t, append(s[:len(s):len(s)], args...)...)
}

// startProcess is startProcess for a node on the store.
func (s store) startProcess(t *testing.T, args ...string) *testNode {
	t.Helper()
	return startProcess(t, append(s[:len(s):len(s)], args...)...)
}
