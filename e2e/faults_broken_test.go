package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestKeysAreOverwritten checks that a key of the store that another program has overwritten stops only the work that needs
// it, that the node logs its name, and that all work goes on when the key is deleted.
func TestKeysAreOverwritten(t *testing.T) {
	t.Parallel()
	redis := durable(t)
	h := startHosts(t, 5, fine)
	bad := startHost(t, testinbox.Options{})
	node := onRedis(redis.URL()).startProcess(t, spending...)
	said := len(node.Out.String())
	lane := "postrider:{p0}:h:" + bad.Host(0)
	redis.Must("SET", lane, "ours")
	l := startLoad(t, h, node)
	l.awaitMore(10)
	call := submission{activity: like("bad"), inboxes: bad.urls()}
	if a := node.Call(http.MethodPost, "/v1/activities", call.String()); a.Status != http.StatusServiceUnavailable {
		t.Errorf("a call to the host whose lane is broken is answered %d %s", a.Status, a.Body)
	}
	harness.Eventually(t, "the log names the key", func() bool { return strings.Contains(node.Out.String()[said:], lane) })
	if why := node.notReady(); why != "" {
		t.Errorf("because of one lane the node is not ready: %s", why)
	}
	l.awaitMore(10)
	redis.Must("DEL", lane)
	if got := node.settled(node.accept(call)); got.Delivered != 1 {
		t.Errorf("once the lane is whole, counts are %+v", got)
	}

	const set = "postrider:{p0}:due2" // of low priority, so there is none
	redis.Must("SET", set, "ours")
	harness.Eventually(t, "the node says what is broken", func() bool { return strings.Contains(node.notReady(), set) })
	node.alive()
	redis.Must("DEL", set)
	harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
	l.awaitMore(10)
	l.check()
	if lines := node.logged(said); len(lines) > loud {
		t.Errorf("the node said %d lines about it:\n%s", len(lines), strings.Join(lines, ""))
	}
}

// TestRedisIsEmptied starts Redis again without its data. The accepted deliveries are lost, but two nodes log that, take it
// for a new store, and go on once they have their keys.
func TestRedisIsEmptied(t *testing.T) {
	t.Parallel()
	redis := durable(t)
	h := startHosts(t, 10, unhurried)
	s := append(onRedis(redis.URL()), "--redis-partitions", "4")
	nodes := []*testNode{s.startProcess(t, spending...), s.startProcess(t, spending...)}
	for i := range 20 {
		nodes[i%2].accept(submission{activity: like(fmt.Sprint("before", i)), inboxes: h.urls()})
	}
	harness.Eventually(t, "some has arrived", func() bool { return h.count() > 0 })
	said := []int{len(nodes[0].Out.String()), len(nodes[1].Out.String())}
	redis.Lose()
	told := func() (n int) {
		for i, node := range nodes {
			n += strings.Count(node.Out.String()[said[i]:], "store.emptied")
		}
		return n
	}
	harness.Eventually(t, "a node says what happened", func() bool { return told() > 0 })
	if a := nodes[0].Call(http.MethodPost, "/v1/activities", submission{activity: like("early"), inboxes: h.urls()}.String()); !strings.Contains(a.Body, "there is no such key") {
		t.Errorf("a call is answered %d %s", a.Status, a.Body)
	}
	nodes[0].putKey(keyID)
	for i, node := range nodes {
		harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
		for n := range 10 {
			a := node.accept(submission{activity: like(fmt.Sprint("after", i, "-", n)), inboxes: h.urls()})
			if got := node.settled(a); got != (countsView{Total: 10, Delivered: 10}) {
				t.Errorf("counts %+v", got)
			}
		}
		if lines := node.logged(said[i]); len(lines) > loud {
			t.Errorf("the node said %d lines about it:\n%s", len(lines), strings.Join(lines, ""))
		}
	}
	nodes[0].holdsNothingAgainst(h)
	if n := told(); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	args := append([]string{"serve", "--listen", "127.0.0.1:0"}, append(s, "--redis-partitions", "8")...)
	if code, _, stderr := harness.RunOnce(t, nil, args...); code != 1 || !strings.Contains(stderr, "was made with 4 partitions, not 8") {
		t.Errorf("a node with other partitions ends with %d: %s", code, stderr)
	}
}
