package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testredis"
)

// startUnready starts the program on the address that it had, and waits until it answers, though it may not be able to work.
func (n *testNode) startUnready() {
	n.T.Helper()
	n.Launch()
	harness.Eventually(n.T, "the node answers", func() bool {
		if n.Ended() {
			n.T.Fatalf("the node ended at once:\n%s", n.Out)
		}
		_, err := n.Try(http.MethodGet, "/healthz", strings.NewReader(""))
		return err == nil
	})
}

// withWork returns a node on a Redis that was stopped with a delivery pending.
func withWork(t *testing.T, redis *testredis.Server, inbox, host string) (*testNode, acceptedView) {
	t.Helper()
	node := onRedis(redis.URL()).startNode(t)
	node.act(host, "pause")
	a := node.deliver(like("1"), inbox)
	node.Stop()
	return node, a
}

// goesOn resumes the host of a node that has become ready, and checks that the pending delivery arrives.
func (n *testNode) goesOn(host string, a acceptedView) {
	n.T.Helper()
	harness.Eventually(n.T, "the node is ready", func() bool { return n.notReady() == "" })
	n.act(host, "resume")
	if got := n.settled(a); got.Delivered != 1 {
		n.T.Errorf("counts %+v", got)
	}
}

// TestWaitsForRedis starts nodes whose Redis is down or loading: they live, are not ready and answer why, and work as soon
// as it is available.
func TestWaitsForRedis(t *testing.T) {
	t.Parallel()
	t.Run("away", func(t *testing.T) {
		t.Parallel()
		redis, h := durable(t), startHosts(t, 1, fine)
		node, a := withWork(t, redis, h.Inbox(0, "/inbox"), h.Host(0))
		redis.Stop()
		said := len(node.Out.String())
		node.startUnready()
		harness.Eventually(t, "the node says why it is not ready", func() bool { return strings.Contains(node.notReady(), "refused") })
		node.alive()
		if got := node.Call(http.MethodGet, "/v1/stats", ""); got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
			t.Errorf("a call gets %d %s", got.Status, got.Body)
		}
		if log := node.Out.String()[said:]; !strings.Contains(log, "node.waiting") || strings.Contains(log, "node.start") {
			t.Errorf("the log says:\n%s", log)
		}
		redis.Run()
		node.goesOn(h.Host(0), a)
	})
	t.Run("loading", func(t *testing.T) {
		t.Parallel()
		redis, h := durable(t), startHosts(t, 1, fine)
		node, a := withWork(t, redis, h.Inbox(0, "/inbox"), h.Host(0))
		redis.Must("EVAL", "for i = 1, 1000 do redis.call('SET', 'k' .. i, i) end", "0")
		redis.RestartLoading(10 * time.Millisecond)
		node.startUnready()
		harness.Eventually(t, "the node says why it is not ready", func() bool { return strings.Contains(node.notReady(), "LOADING") })
		node.goesOn(h.Host(0), a)
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		redis, h := durable(t), startHosts(t, 1, fine)
		node, _ := withWork(t, redis, h.Inbox(0, "/inbox"), h.Host(0))
		redis.Stop()
		node.startUnready()
		node.Stop() // checks that this is no fault
	})
}

// TestEndsAtOnce checks that a node does not wait if waiting can't help; see TestRedisIsRefused too.
func TestEndsAtOnce(t *testing.T) {
	t.Parallel()
	open := durable(t)
	onRedis(open.URL()).startNode(t).Stop()
	for _, c := range []struct {
		says string
		args []string
	}{
		{"set redis-partitions to 1", append(onRedis(open.URL()), "--redis-partitions", "3")},
		{"does not open the private keys", []string{"--store", open.URL(), "--master-key", otherMasterKey}},
	} {
		code, _, stderr := harness.RunOnce(t, nil, append([]string{"serve", "--listen", "127.0.0.1:0"}, c.args...)...)
		if code != 1 || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: ended with %d, want %q:\n%s", c.args, code, c.says, stderr)
		}
	}
}

// TestFullRedisDrains starts a node on a full Redis: its deliveries are delivered.
func TestFullRedisDrains(t *testing.T) {
	t.Parallel()
	redis, h := durable(t), startHosts(t, 20, fine)
	node := onRedis(redis.URL()).startNode(t)
	for i := range h.inboxes {
		node.act(h.Host(i), "pause")
	}
	a := node.accept(submission{activity: like("1"), inboxes: h.urls()})
	node.Stop()
	redis.Must("CONFIG", "SET", "maxmemory", "1")
	node.Start()
	if why := node.notReady(); !strings.Contains(why, "full") {
		t.Errorf("not ready for %q", why)
	}
	for i := range h.inboxes {
		node.act(h.Host(i), "resume")
	}
	if got := node.settled(a); got.Delivered != len(h.inboxes) {
		t.Errorf("counts %+v", got)
	}
	redis.Must("CONFIG", "SET", "maxmemory", "0")
	harness.Eventually(t, "the node is ready", func() bool { return node.notReady() == "" })
}

// TestDeliversNothing checks that a node with deliver=false accepts calls, and that another run delivers the activities.
func TestDeliversNothing(t *testing.T) {
	t.Parallel()
	h := startHosts(t, 50, fine)
	node := newTestNode(t, false, []string{"--deliver=false"})
	node.begin()
	for i := range h.inboxes {
		node.deliver(like(strconv.Itoa(i)), h.Inbox(i, "/inbox"))
	}
	if why := node.notReady(); why != "" || h.count() != 0 {
		t.Errorf("%d requests came, not ready for %q", h.count(), why)
	}
	node.Stop()
	node.Args = nil
	node.Start()
	harness.Eventually(t, "all is delivered", func() bool { return h.count() == len(h.inboxes) })
}
