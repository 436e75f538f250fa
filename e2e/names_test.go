package e2e

import (
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testdns"
	"github.com/postrider/postrider/internal/testredis"
)

// namedHosts are hosts whose names have to be looked up, each of a domain of its own.
type namedHosts struct {
	*hosts
	names map[string]testdns.Reply
}

func startNamedHosts(t *testing.T, n int) *namedHosts {
	t.Helper()
	h := &namedHosts{startHosts(t, n, fine), map[string]testdns.Reply{}}
	for i := range n {
		address, _, err := net.SplitHostPort(h.Host(i))
		if err != nil {
			t.Fatal(err)
		}
		h.names[h.name(i)] = testdns.Reply{Addrs: []string{address}}
	}
	return h
}

func (h *namedHosts) name(i int) string { return fmt.Sprintf("host%d.example", i) }

// lane is a host with its port.
func (h *namedHosts) lane(i int) string {
	_, port, _ := strings.Cut(h.Host(i), ":")
	return h.name(i) + ":" + port
}

// named returns the inboxes of some hosts, by name.
func (h *namedHosts) named(from, to int) (urls []string) {
	for i := from; i < to; i++ {
		urls = append(urls, "http://"+h.lane(i)+"/inbox")
	}
	return urls
}

// script is that of a name server that knows all the hosts but for one.
func (h *namedHosts) script(other string, r testdns.Reply) testdns.Script {
	names := maps.Clone(h.names)
	names[other] = r
	return testdns.Names(names, testdns.NoName)
}

// unharmed checks that nothing is counted against some hosts.
func (h *namedHosts) unharmed(node *testNode, from, to int) {
	node.T.Helper()
	for i := from; i < to; i++ {
		if v := node.host(h.lane(i)); v.State != "healthy" || v.Breaker.Failures != 0 || v.FailureDays != 0 || v.LastError.Outcome != "" {
			node.T.Errorf("a fault of ours is counted against host %d: %+v", i, v)
		}
	}
}

// startAsking starts a node in a separate process that asks these name servers. An attempt that is spent without
// success makes a dead letter.
func (s store) startAsking(t *testing.T, servers []*testdns.Server, args ...string) *testNode {
	t.Helper()
	n := newTestNode(t, true, append(append(s[:len(s):len(s)], "--max-attempts", "1"), args...))
	var addrs []string
	for _, server := range servers {
		addrs = append(addrs, server.Addr)
	}
	n.Environ = []string{harness.NameServers(addrs...)}
	return n.begin()
}

// TestOneNameServerIsSilent checks that a node asks the next one in time, though connecting and attempts have little of it.
func TestOneNameServerIsSilent(t *testing.T) {
	t.Parallel()
	const n = 20
	h := startNamedHosts(t, n)
	mute, good := testdns.Start(t, testdns.Always(testdns.Silent)), testdns.Start(t, h.script("", testdns.NoName))
	node := store(nil).startAsking(t, []*testdns.Server{mute, good}, "--connect-timeout", "1500ms", "--attempt-timeout", "1500ms")
	if got := node.settled(node.accept(submission{activity: like("1"), inboxes: h.named(0, n)})); got.Delivered != n {
		t.Errorf("counts %+v, dead letters %+v", got, node.deadLetters(""))
	}
	h.unharmed(node, 0, n)
	if got, want := h.inboxes[0].Received()[0].Host, h.lane(0); got != want {
		t.Errorf("Host %s, want %s", got, want)
	}
	if mute.Asked(h.name(0))+mute.Asked(h.name(n-1)) == 0 {
		t.Error("the silent server was never asked")
	}
	if why := node.notReady(); why != "" {
		t.Errorf("not ready: %s", why)
	}
}

// TestNameServersAreAway checks that an outage of the name servers, of any kind, counts against no host and no delivery, and
// that a node logs it, works on hosts that are addresses, and recovers.
func TestNameServersAreAway(t *testing.T) { onBothStores(t, testNameServersAreAway) }

func testNameServersAreAway(t *testing.T, s store) {
	const each = 4 // hosts that are not known before, so that they are looked up
	h := startNamedHosts(t, 3*each)
	server := testdns.Start(t, h.script("", testdns.NoName))
	node := s.startAsking(t, []*testdns.Server{server}, "--dns-timeout", "2s")
	first := node.accept(submission{activity: like("first"), inboxes: h.named(0, each)})
	if got := node.settled(first); got.Delivered != each {
		t.Fatalf("counts %+v", got)
	}
	for i, reply := range []testdns.Reply{testdns.Silent, testdns.Fail} {
		server.Do(testdns.Always(reply))
		waits := node.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.named((i+1)*each, (i+2)*each)})
		harness.Eventually(t, "the node says that it is not ready", func() bool {
			return strings.Contains(node.notReady(), "no host name can be looked up")
		})
		address := node.deliver(like(fmt.Sprint("to an address ", i)), h.Inbox(0, "/inbox"))
		if got := node.settled(address); got.Delivered != 1 {
			t.Errorf("to an address: %+v", got)
		}
		for _, d := range node.deliveries(waits) {
			if o := d.LastAttempt.Outcome; d.State != "pending" || d.Attempts != 0 || o != "" && o != "fault" {
				t.Errorf("delivery %+v", d)
			}
		}
		h.unharmed(node, 0, 3*each)
		server.Do(h.script("", testdns.NoName))
		harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
		if got := node.settled(waits); got.Delivered != each {
			t.Errorf("counts %+v, dead letters %+v", got, node.deadLetters(""))
		}
		h.unharmed(node, 0, 3*each)
	}
}

// TestOneHostHasBrokenNameServers checks that this counts against the host, as does a name that does not exist.
func TestOneHostHasBrokenNameServers(t *testing.T) {
	t.Parallel()
	const n = 4
	for name, reply := range map[string]testdns.Reply{"SERVFAIL": testdns.Fail, "silence": testdns.Silent, "NXDOMAIN": testdns.NoName} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startNamedHosts(t, n)
			server := testdns.Start(t, h.script(h.name(0), reply))
			node := store(nil).startAsking(t, []*testdns.Server{server}, "--dns-timeout", "2s", "--max-attempts", "2", "--retry-base", "1h")
			good := node.accept(submission{activity: like("good"), inboxes: h.named(1, n)})
			if got := node.settled(good); got.Delivered != n-1 {
				t.Errorf("counts %+v", got)
			}
			bad := node.deliver(like("bad"), h.named(0, 1)[0])
			harness.Eventually(t, "the attempt is spent", func() bool { return node.deliveries(bad)[0].Attempts == 1 })
			if d := node.deliveries(bad)[0]; d.LastAttempt.Outcome != "unreachable" || !strings.Contains(d.LastAttempt.Error, h.name(0)) {
				t.Errorf("delivery %+v", d)
			}
			if v := node.host(h.lane(0)); v.Breaker.Failures != 1 || v.State != "failing" {
				t.Errorf("host %+v", v)
			}
			if why := node.notReady(); why != "" {
				t.Errorf("not ready: %s", why)
			}
			h.unharmed(node, 1, n)
		})
	}
}

// TestFleetNodeWithoutNameServers checks that such a node leaves the work to the others, and takes its share again when it
// can look names up.
func TestFleetNodeWithoutNameServers(t *testing.T) {
	t.Parallel()
	const n, activities = 10, 10
	h := startNamedHosts(t, n)
	s := onRedis(testredis.Start(t).URL())
	well := testdns.Start(t, h.script("", testdns.NoName))
	sick := testdns.Start(t, testdns.Always(testdns.Fail))
	f := &fleet{nodes: []*testNode{
		s.startAsking(t, []*testdns.Server{well}, "--user-agent", "well"),
		s.startAsking(t, []*testdns.Server{sick}, "--user-agent", "sick", "--dns-timeout", "2s"),
	}}
	all := <-f.post(h.named(0, n), activities)
	allDelivered(t, f.nodes[0], all, activities, n)
	h.unharmed(f.nodes[0], 0, n)
	if shares := h.shares(); shares["sick"] > 0 {
		t.Errorf("shares %v", shares)
	}
	sick.Do(h.script("", testdns.NoName))
	harness.Eventually(t, "the sick node is ready", func() bool { return f.nodes[1].notReady() == "" })
	f.nodes[0].Stop()
	a := f.nodes[1].accept(submission{activity: like("by the other"), inboxes: h.named(0, n)})
	if got := f.nodes[1].settled(a); got.Delivered != n {
		t.Errorf("counts %+v", got)
	}
}
