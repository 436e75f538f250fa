package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testredis"
)

// Redis answers before its replicas have the write. Writes that a master did not replicate before it died are lost, for
// every client of Redis: an activity whose app got the 202, or a settlement, whose delivery is then repeated. So in these
// tests a master dies between two calls, when its replica has everything that was accepted; deliveries in flight at that
// moment may be repeated.

// TestSentinelFailsOver kills a master under load. Two nodes find the new one.
func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	c := testredis.StartSentinel(t)
	h := startHosts(t, 10, unhurried)
	s := onRedis(c.URL())
	nodes := []*testNode{s.startProcess(t, spending...), s.startProcess(t, spending...)}
	l := startLoad(t, h, nodes...)
	l.awaitMore(20)
	said := []int{len(nodes[0].Out.String()), len(nodes[1].Out.String())}
	l.between(func() {
		c.Master.CaughtUp(c.Replica)
		c.Master.Kill()
	})
	c.AwaitFailover()
	goesOn(t, l, said)
}

// TestClusterFailsOver kills one of three masters under load.
func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	c := testredis.StartReplicatedCluster(t, 3)
	h := startHosts(t, 10, unhurried)
	s := append(onRedis(c.URL()), "--redis-partitions", "8")
	nodes := []*testNode{s.startProcess(t, spending...), s.startProcess(t, spending...)}
	l := startLoad(t, h, nodes...)
	l.awaitMore(20)
	said := []int{len(nodes[0].Out.String()), len(nodes[1].Out.String())}
	l.between(func() {
		c.Nodes[0].CaughtUp(c.Replicas[0])
		c.Nodes[0].Kill()
	})
	c.AwaitFailover(0)
	goesOn(t, l, said)
}

// goesOn checks that after a failover all nodes of a load are ready again, that nothing was lost, and that they logged
// few lines about it since the lengths given.
func goesOn(t *testing.T, l *load, said []int) {
	t.Helper()
	for _, node := range l.nodes {
		harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
	}
	l.awaitMore(20)
	if repeats := l.check(); repeats > len(l.hosts.inboxes)*hostConcurrency {
		t.Errorf("%d deliveries were repeated, which is more than were in flight", repeats)
	}
	for i, node := range l.nodes {
		if lines := node.logged(said[i]); len(lines) > loud {
			t.Errorf("node %d said %d lines about it:\n%s", i, len(lines), strings.Join(lines, ""))
		}
	}
}

// TestSlotsAreMoved moves the slots of all partitions to other masters while two nodes work: a cluster is resharded.
func TestSlotsAreMoved(t *testing.T) {
	t.Parallel()
	const partitions = 6
	c := testredis.StartCluster(t, 3)
	h := startHosts(t, 20, unhurried)
	s := append(onRedis(c.URL()), "--redis-partitions", fmt.Sprint(partitions))
	nodes := []*testNode{s.startProcess(t, spending...), s.startProcess(t, spending...)}
	l := startLoad(t, h, nodes...)
	l.awaitMore(10)
	said := []int{len(nodes[0].Out.String()), len(nodes[1].Out.String())}
	for p := range partitions {
		slot := c.Slot(fmt.Sprintf("postrider:{p%d}:meta", p))
		from := c.Home(slot)
		c.Migrate(slot, c.Nodes[from], c.Nodes[(from+1)%3], func() { time.Sleep(10 * time.Millisecond) }) // with calls in between
	}
	goesOn(t, l, said)
}
