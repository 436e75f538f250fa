package e2e

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestWorkSpreads checks that nodes share a backlog, and that one that joins late helps at once: the inboxes answer only
// when each node uses all the slots that suspect hosts may have.
func TestWorkSpreads(t *testing.T) {
	t.Parallel()
	const hosts, activities, slots = 40, 20, 16
	open := make(chan struct{})
	h, w := startWatched(t, hosts, func() testinbox.Reply {
		<-open
		return testinbox.Reply{}
	})
	s := onRedis(testredis.Start(t).URL())
	args := []string{"--concurrency", fmt.Sprint(slots), "--host-concurrency", "4", "--attempt-timeout", "2m", "--lease-ttl", "1m"}
	f := startNodes(t, s, 2, args...)
	posted := f.post(h.urls(), activities)
	busy := func(name string) {
		harness.Eventually(t, name+" is at work", func() bool { return w.inFlight(name) == slots/2 })
	}
	busy("node-0")
	busy("node-1")
	late := f.join(t, s, args...)
	busy("node-2")
	close(open)
	all := <-posted
	allDelivered(t, late, all, activities, hosts)
	if repeats := again(t, h, activities, func(string) {}); repeats > 0 {
		t.Errorf("%d repeats; shares %v", repeats, h.shares())
	}
	if list := w.overlaps(nil); len(list) > 0 {
		t.Errorf("%d overlaps: %v", len(list), list)
	}
}

// TestIdleFleet measures the commands of idle nodes to Redis, and how long a delivery takes that any of them accepts. They
// wake one another: otherwise they would sleep for queue.MaxIdle.
func TestIdleFleet(t *testing.T) {
	t.Parallel()
	const nodes, deliveries, rest, most = 3, 20, 3 * time.Second, 8 // commands a second and node
	h := startHost(t, fine(0))
	redis := testredis.Start(t)
	f := startNodes(t, onRedis(redis.URL()), nodes)
	var took []time.Duration
	for i := range deliveries {
		a := f.nodes[i%nodes].deliver(like(fmt.Sprint(i)), h.Inbox(0, "/inbox"))
		accepted := time.Now()
		noticed, cancel := context.WithTimeout(t.Context(), queue.MaxIdle/6)
		if err := h.inboxes[0].Wait(noticed, i+1); err != nil {
			t.Fatal(err)
		}
		cancel()
		took = append(took, h.inboxes[0].Received()[i].At.Sub(accepted))
		f.nodes[(i+1)%nodes].settled(a)
	}
	slices.Sort(took)
	t.Logf("median %s, the slowest of %d %s; %v", took[deliveries/2], deliveries, took[deliveries-1], h.shares())
	<-time.After(2 * queue.OfferTTL) // until then they may check whether an offered lane was taken
	before := commands(t, redis)
	<-time.After(rest)
	used := commands(t, redis) - before - 1 // the one that asked
	t.Logf("%d commands in %s by %d nodes", used, rest, nodes)
	if used > most*nodes*int(rest/time.Second) {
		t.Errorf("%d commands", used)
	}
}

// commands is how many commands a Redis has run, in scripts too.
func commands(t *testing.T, r *testredis.Server) int {
	t.Helper()
	_, text, _ := strings.Cut(r.Must("INFO", "stats"), "total_commands_processed:")
	text, _, _ = strings.Cut(text, "\r")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFleetsWithOtherPrefixes checks that two fleets on one Redis do not see each other's data.
func TestFleetsWithOtherPrefixes(t *testing.T) {
	t.Parallel()
	const hosts, activities = 5, 5
	h := startHosts(t, hosts, fine)
	redis := testredis.Start(t)
	s := onRedis(redis.URL())
	one := s.startNode(t, "--redis-prefix", "fleet-a", "--user-agent", "a")
	other := s.startNode(t, "--redis-prefix", "fleet-b", "--user-agent", "b")
	one.putKey("https://app.example/users/bob#main-key")
	for _, n := range []*testNode{one, other} { // the same calls: neither knows that the other got them
		for i := range activities {
			n.settled(n.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls()}))
		}
	}
	a := one.deliver(like("mine"), nobody)
	if got := other.Call(http.MethodGet, a.URL, ""); got.Status != http.StatusNotFound {
		t.Errorf("an activity of the other fleet's: %d %s", got.Status, got.Body)
	}
	if got := get[page[keyView]](other, "/v1/keys").Items; len(got) != 1 {
		t.Errorf("keys %+v", got)
	}
	if got := get[page[hostView]](other, "/v1/hosts").Items; len(got) != hosts {
		t.Errorf("%d hosts", len(got))
	}
	if got := h.shares(); got["a"] != hosts*activities || got["b"] != hosts*activities {
		t.Errorf("requests %v", got)
	}
	checkPrefix(t, redis, "fleet-a", "fleet-b")
}

// TestKeyIsReplacedOnAllNodes checks that a key put on one node signs on all of them from then on, also in place of
// another.
func TestKeyIsReplacedOnAllNodes(t *testing.T) {
	t.Parallel()
	const hosts, nodes = 12, 3
	var current atomic.Pointer[rsa.PrivateKey]
	h := startHosts(t, hosts, func(int) testinbox.Options {
		o := replies(testinbox.Reply{Delay: 20 * time.Millisecond})
		o.Keys = func(string) crypto.PublicKey { return current.Load().Public() }
		return o
	})
	f := startNodes(t, onRedis(testredis.Start(t).URL()), nodes, "--concurrency", "4", "--max-attempts", "1")
	for round := range nodes {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		current.Store(key)
		f.nodes[round].PutKey(keyID, pemOf(key))
		before, posted := h.shares(), 0
		harness.Eventually(t, "each node has signed", func() bool {
			posted++
			a := f.nodes[posted%nodes].accept(submission{activity: like(fmt.Sprintf("%d-%d", round, posted)), inboxes: h.urls()})
			if got := f.nodes[0].settled(a); got.Delivered != hosts {
				t.Fatalf("counts %+v, dead letters %+v", got, f.nodes[0].deadLetters("limit=1"))
			}
			signed := h.shares()
			return signed["node-0"] > before["node-0"] && signed["node-1"] > before["node-1"] && signed["node-2"] > before["node-2"]
		})
	}
	for _, in := range h.inboxes {
		schemes(t, in.Received())
	}
}
