package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

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

// unhurried is a host that takes some time over everything, so that some is in flight at any moment.
func unhurried(int) testinbox.Options { return replies(testinbox.Reply{Delay: 100 * time.Millisecond}) }

// loud is how many lines a node may write about an outage of a few seconds, whatever it was doing.
const loud = 20

// notReady returns why a node says that it isn't ready, "" if it is.
func (n *testNode) notReady() string {
	n.t.Helper()
	a := n.call(http.MethodGet, "/readyz", "")
	if a.status == http.StatusOK {
		return ""
	}
	p, err := a.problem()
	if err != nil || a.status != http.StatusServiceUnavailable {
		n.t.Errorf("/readyz answers %d %s", a.status, a.body)
	}
	return p.Detail
}

// alive holds that a node says it lives.
func (n *testNode) alive() {
	n.t.Helper()
	if a := n.call(http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
		n.t.Errorf("/healthz answers %d %s", a.status, a.body)
	}
}

// TestScriptsAreLoadedAgain holds that nobody notices when Redis forgets its scripts.
func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	redis := durable(t)
	h := startHosts(t, 5, fine)
	node := onRedis(redis.URL()).startProcess(t, spending...)
	said := len(node.out.String())
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

// TestRedisIsKilled holds that two nodes live through the death of their Redis: what was accepted arrives, calls are
// refused in time with a reason, little is said about it, and when it is back all goes on by itself.
func TestRedisIsKilled(t *testing.T) {
	t.Parallel()
	redis := durable(t)
	h := startHosts(t, 20, unhurried)
	s := append(onRedis(redis.URL()), "--redis-partitions", "4") // so that calls are cut off half way
	nodes := []*testNode{s.startProcess(t, spending...), s.startProcess(t, spending...)}
	l := startLoad(t, h, nodes...)
	l.awaitMore(20)
	said := []int{len(nodes[0].out.String()), len(nodes[1].out.String())}
	redis.Kill()
	for _, node := range nodes {
		eventually(t, "the node says why it is not ready", func() bool { return strings.Contains(node.notReady(), "refused") })
		node.alive()
	}
	_, before := l.count()
	eventually(t, "calls are refused", func() bool { _, now := l.count(); return now >= before+loadApps })
	redis.Run()
	for i, node := range nodes {
		eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
		if lines := node.logged(said[i]); len(lines) > loud {
			t.Errorf("the node said %d lines about it:\n%s", len(lines), strings.Join(lines, ""))
		}
	}
	l.awaitMore(20)
	if repeats := l.check(); repeats > len(h.inboxes)*hostConcurrency {
		t.Errorf("%d deliveries were repeated, which is more than were in flight", repeats)
	}
}
