package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// durable is a Redis that loses nothing it has acknowledged.
func durable(t *testing.T, more ...string) *testredis.Server {
	t.Helper()
	return testredis.Start(t, append([]string{"--appendfsync", "always"}, more...)...)
}

// spending makes a dead letter of a delivery for which an attempt is counted that did not deliver it.
var spending = []string{"--max-attempts", "1", "--lease-ttl", "2s"}

// unhurried is a host that answers slowly, so that attempts are in flight at any moment.
func unhurried(int) testinbox.Options { return replies(testinbox.Reply{Delay: 100 * time.Millisecond}) }

// loud is the maximum of lines that a node may log about an outage of a few seconds.
const loud = 20

// notReady returns the node's reason for not being ready, "" if it is.
func (n *testNode) notReady() string {
	n.T.Helper()
	a := n.Call(http.MethodGet, "/readyz", "")
	if a.Status == http.StatusOK {
		return ""
	}
	p, err := problemOf(a)
	if err != nil || a.Status != http.StatusServiceUnavailable {
		n.T.Errorf("/readyz answers %d %s", a.Status, a.Body)
	}
	return p.Detail
}

// alive checks that a node answers that it lives.
func (n *testNode) alive() {
	n.T.Helper()
	if a := n.Call(http.MethodGet, "/healthz", ""); a.Status != http.StatusOK {
		n.T.Errorf("/healthz answers %d %s", a.Status, a.Body)
	}
}

// TestScriptsAreLoadedAgain checks that no caller notices when Redis loses its scripts.
func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	redis := durable(t)
	h := startHosts(t, 5, fine)
	node := onRedis(redis.URL()).startProcess(t, spending...)
	said := len(node.Out.String())
	l := startLoad(t, h, node)
	for range 3 {
		l.awaitMore(10)
		redis.Must("SCRIPT", "FLUSH")
	}
	l.awaitMore(10)
	repeats := l.check()
	if _, refused := l.count(); refused > 0 || repeats > 0 || len(node.complaints(said)) > 0 {
		t.Errorf("%d calls were refused, %d deliveries repeated, and the node said %s", refused, repeats, node.complaints(said))
	}
}

// TestRedisIsKilled checks that two nodes survive the death of their Redis: accepted activities arrive, calls are refused
// in time with a reason, few lines are logged, and the work goes on when Redis is back.
func TestRedisIsKilled(t *testing.T) {
	t.Parallel()
	redis := durable(t)
	h := startHosts(t, 20, unhurried)
	s := append(onRedis(redis.URL()), "--redis-partitions", "4") // so that calls are cut off half way
	nodes := []*testNode{s.startProcess(t, spending...), s.startProcess(t, spending...)}
	l := startLoad(t, h, nodes...)
	l.awaitMore(20)
	said := []int{len(nodes[0].Out.String()), len(nodes[1].Out.String())}
	redis.Kill()
	for _, node := range nodes {
		harness.Eventually(t, "the node says why it is not ready", func() bool { return strings.Contains(node.notReady(), "refused") })
		node.alive()
	}
	_, before := l.count()
	harness.Eventually(t, "calls are refused", func() bool { _, now := l.count(); return now >= before+loadApps })
	redis.Run()
	for i, node := range nodes {
		harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
		if lines := node.logged(said[i]); len(lines) > loud {
			t.Errorf("the node said %d lines about it:\n%s", len(lines), strings.Join(lines, ""))
		}
	}
	l.awaitMore(20)
	if repeats := l.check(); repeats > len(h.inboxes)*hostConcurrency {
		t.Errorf("%d deliveries were repeated, which is more than were in flight", repeats)
	}
}
