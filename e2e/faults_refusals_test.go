package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// settleSoFar waits until nothing that was accepted so far is pending.
func (l *load) settleSoFar() {
	l.t.Helper()
	l.mu.Lock()
	all := slices.Collect(maps.Values(l.accepted))
	l.mu.Unlock()
	for _, a := range all {
		l.nodes[0].settled(a)
	}
}

// TestRedisIsFull checks that a Redis without room for more refuses calls, while accepted activities are delivered, and
// that this makes room.
func TestRedisIsFull(t *testing.T) {
	t.Parallel()
	redis := durable(t)
	h := startHosts(t, 10, unhurried)
	node := onRedis(redis.URL()).startProcess(t, spending...)
	said := len(node.Out.String())
	l := startLoad(t, h, node)
	l.awaitMore(20)
	redis.Must("CONFIG", "SET", "maxmemory", "1")
	_, before := l.count()
	harness.Eventually(t, "calls are refused", func() bool { _, now := l.count(); return now >= before+loadApps })
	harness.Eventually(t, "the node says that it is full", func() bool { return strings.Contains(node.notReady(), "store is full") })
	l.settleSoFar()
	redis.Must("CONFIG", "SET", "maxmemory", "0")
	harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
	l.awaitMore(20)
	if repeats := l.check(); repeats > 0 {
		t.Errorf("%d deliveries were repeated", repeats)
	}
	if lines := node.logged(said); len(lines) > loud {
		t.Errorf("the node said %d lines about it:\n%s", len(lines), strings.Join(lines, ""))
	}
}

// TestRedisIsRefused checks that a node does not start on a Redis that it can't work with, and logs why in one line,
// without the password.
func TestRedisIsRefused(t *testing.T) {
	t.Parallel()
	const secret = "sesame-open"
	protected := durable(t, "--requirepass", secret)
	evicting := durable(t, "--maxmemory-policy", "allkeys-lru")
	for name, c := range map[string]struct{ url, want string }{
		"a wrong password":       {"redis://:" + secret + "1@" + protected.Addr, "user or password is wrong"},
		"a wrong user":           {"redis://somebody:" + secret + "@" + protected.Addr, "user or password is wrong"},
		"no password":            {protected.URL(), "it wants a password"},
		"a Redis that evicts":    {evicting.URL(), "set it to noeviction"},
		"a database that is not": {"redis://:" + secret + "@" + protected.Addr + "/77", "DB index is out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"serve", "--listen", "127.0.0.1:0"}, onRedis(c.url)...)
			code, stdout, stderr := harness.RunOnce(t, nil, args...)
			if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, it said %q%q, want one line with %q", code, stdout, stderr, c.want)
			}
			if strings.Contains(stderr, secret) {
				t.Errorf("the password is in %q", stderr)
			}
		})
	}
}

// TestRedisThatForgetsIsWarnedOf checks that a node warns of a Redis that would lose its data.
func TestRedisThatForgetsIsWarnedOf(t *testing.T) {
	t.Parallel()
	node := onRedis(testredis.Start(t, "--appendonly", "no").URL()).startNode(t)
	if !strings.Contains(node.Out.String(), "appendonly is off") {
		t.Errorf("it said only %s", node.Out)
	}
}

// TestPasswordIsChanged checks that a node whose password is no longer accepted is not ready, and recovers when it is
// accepted again.
func TestPasswordIsChanged(t *testing.T) {
	t.Parallel()
	const secret, other = "sesame-open", "sesame-shut"
	redis := durable(t)
	redis.Must("ACL", "SETUSER", "app", "on", ">"+secret, "~*", "&*", "+@all")
	h := startHosts(t, 5, func(int) testinbox.Options { return testinbox.Options{} })
	node := onRedis("redis://app:"+secret+"@"+redis.Addr).startProcess(t, spending...)
	l := startLoad(t, h, node)
	l.awaitMore(10)
	said := len(node.Out.String())
	redis.Must("ACL", "SETUSER", "app", "resetpass", ">"+other)
	redis.Must("CLIENT", "KILL", "USER", "app")
	harness.Eventually(t, "the node says why it is not ready", func() bool { return strings.Contains(node.notReady(), "WRONGPASS") })
	node.alive()
	_, before := l.count()
	harness.Eventually(t, "calls are refused", func() bool { _, now := l.count(); return now >= before+loadApps })
	redis.Must("ACL", "SETUSER", "app", "resetpass", ">"+secret)
	harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
	l.awaitMore(10)
	l.check()
	if lines := node.logged(said); len(lines) > loud {
		t.Errorf("the node said %d lines about it:\n%s", len(lines), strings.Join(lines, ""))
	}
	if strings.Contains(node.Out.String(), secret) {
		t.Error("the password is in the log")
	}
}
