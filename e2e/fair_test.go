package e2e

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testdns"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestManyNamesAtOneAddress checks that a thousand names, each of a domain of its own, at one address that hangs hold only
// their share of the slots, and that a healthy host and hosts never reached are served meanwhile.
func TestManyNamesAtOneAddress(t *testing.T) { onBothStores(t, testManyNamesAtOneAddress) }

func testManyNamesAtOneAddress(t *testing.T, s store) {
	const names, concurrency, part = 1000, 64, 8
	h := startHosts(t, 2, func(i int) testinbox.Options { return replies(testinbox.Reply{Hang: i == 1}) })
	good, bad := h.Host(0), h.Host(1)
	asked := map[string]bool{}
	var evil atomic.Int32 // names that were looked up
	server := testdns.Start(t, func(q testdns.Query) testdns.Reply {
		if !strings.HasPrefix(q.Name, "evil") {
			return addressOf(good)
		}
		if !asked[q.Name] {
			asked[q.Name] = true
			evil.Add(1)
		}
		return addressOf(bad)
	})
	node := s.startAsking(t, []*testdns.Server{server}, "--concurrency", strconv.Itoa(concurrency), "--host-concurrency", "1",
		"--attempt-timeout", "1h", "--shutdown-timeout", "100ms")
	well := func(int) string { return "well.example" }
	healthy, first := node.delays(good, well), node.delays(good, numbered("new"))
	all := make([]string, names)
	for i := range all {
		all[i] = inboxAt(bad, numbered("evil")(i))
	}
	a := node.accept(submission{activity: like("evil"), inboxes: all})
	harness.Eventually(t, "each name is looked up", func() bool { return evil.Load() == names })
	healthyBeside, firstBeside := node.delays(good, well), node.delays(good, numbered("newer"))
	t.Logf("median time of a delivery to a healthy host and to one never reached: %s and %s; beside %d names that hang: %s and %s",
		healthy, first, names, healthyBeside, firstBeside)
	if got := h.inboxes[1].Count(); got != part {
		t.Errorf("%d attempts are made at the address that hangs, want %d of %d", got, part, concurrency)
	}
	if got := node.activity(a).Counts; got.Pending != names {
		t.Errorf("names that wait for their address: %+v", got)
	}
}

// numbered returns names, each of a domain of its own.
func numbered(begin string) func(int) string {
	return func(i int) string { return fmt.Sprintf("%s%d.example", begin, i) }
}

// addressOf is a name server's reply: the address of host:port.
func addressOf(host string) testdns.Reply {
	address, _, _ := net.SplitHostPort(host)
	return testdns.Reply{Addrs: []string{address}}
}

// inboxAt returns the URL of an inbox by a name that leads to host:port.
func inboxAt(host, name string) string {
	_, port, _ := net.SplitHostPort(host)
	return "http://" + net.JoinHostPort(name, port) + "/inbox"
}

// delays delivers to names that lead to host:port, one after the other, and returns the median of the times that took.
func (n *testNode) delays(host string, name func(i int) string) time.Duration {
	n.T.Helper()
	took := make([]time.Duration, 30)
	for i := range took {
		began := time.Now()
		if got := n.settled(n.deliver(like(fmt.Sprint(name(i), began.UnixNano())), inboxAt(host, name(i)))); got.Delivered != 1 {
			n.T.Errorf("%s: %+v", name(i), got)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[len(took)/2]
}
