package e2e

import (
	"strconv"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// TestFleetOutlivesANode kills one of three nodes in the middle of its work. All activities arrive, two nodes never work
// on one host, and those that arrive twice were in flight on the node that was killed.
func TestFleetOutlivesANode(t *testing.T) {
	t.Parallel()
	const hosts, activities, concurrency, hostConcurrency = 60, 30, 32, 4
	h, w := startWatched(t, hosts, slowly())
	redis := testredis.Start(t)
	f := startNodes(t, onRedis(redis.URL()), 3, "--redis-prefix", "fleet-a",
		"--concurrency", strconv.Itoa(concurrency), "--host-concurrency", strconv.Itoa(hostConcurrency))
	posted := f.post(h.urls(), activities)
	victim := f.nodes[1]
	harness.Eventually(t, "a third is delivered, and the victim at work", func() bool {
		return h.count() >= hosts*activities/3 && w.inFlight("node-1") > 0
	})
	died := time.Now()
	victim.Crash()
	allDelivered(t, f.nodes[0], <-posted, activities, hosts)
	if list := w.overlaps(map[string]time.Time{"node-1": died}); len(list) > 0 {
		t.Errorf("%d overlaps: %v", len(list), list)
	}
	for i, in := range h.inboxes {
		if got := in.MaxInFlight()[h.Host(i)]; got > hostConcurrency {
			t.Errorf("%d requests to host %d were in flight at once", got, i)
		}
	}
	repeats := again(t, h, activities, func(node string) {
		if node != "node-1" {
			t.Errorf("what %s delivered was repeated", node)
		}
	})
	t.Logf("%d deliveries, %d repeats; %v", hosts*activities, repeats, h.shares())
	if repeats > concurrency {
		t.Errorf("%d repeats with %d attempts in flight at most", repeats, concurrency)
	}
	checkPrefix(t, redis, "fleet-a")
}

// TestFleetOutlivesANodeThatJustAnswered kills a node that has accepted a fan-out and is still moving it into the lanes.
// The others do the rest, and all deliveries arrive.
func TestFleetOutlivesANodeThatJustAnswered(t *testing.T) {
	t.Parallel()
	const hosts, inboxes, prefix = 20, 300, "fleet-r"
	h := startHosts(t, hosts, fine)
	redis := testredis.Start(t)
	f := startNodes(t, onRedis(redis.URL()), 3, "--redis-prefix", prefix)
	var urls []string
	for i := range hosts * inboxes {
		urls = append(urls, h.Inbox(i%hosts, "/users/"+strconv.Itoa(i)+"/inbox"))
	}
	victim := f.nodes[1]
	var accepted acceptedView
	for try := 1; ; try++ {
		accepted = victim.accept(submission{activity: like(strconv.Itoa(try)), inboxes: urls})
		victim.Crash()
		if redis.Must("ZCARD", rediskeys.Scheme{Prefix: prefix}.Partition(0).Key(rediskeys.Staged)) != "0" {
			break
		}
		if try == 10 {
			t.Fatal("each time all was in the lanes before the node was dead")
		}
		victim.Start()
	}
	began := time.Now()
	if got := f.nodes[0].settled(accepted); got != (countsView{Total: len(urls), Delivered: len(urls)}) {
		t.Errorf("counts %+v", got)
	}
	t.Logf("all delivered after %s", time.Since(began))
}

// TestRollingRestart restarts each of three nodes under load, with attempts in flight each time. With enough time
// to finish them nothing is repeated; without, those that were cut off are. Neither spends an attempt: each delivery has
// only one.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		timeout string
		cutOff  bool
	}{
		"in peace": {"20s", false},
		"cut off":  {"50ms", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rollingRestart(t, c.timeout, c.cutOff)
		})
	}
}

func rollingRestart(t *testing.T, timeout string, cutOff bool) {
	t.Helper()
	const hosts, activities, concurrency = 30, 40, 16
	h, w := startWatched(t, hosts, func() testinbox.Reply { return testinbox.Reply{Delay: 300 * time.Millisecond} })
	f := startNodes(t, onRedis(testredis.Start(t).URL()), 3, "--max-attempts", "1",
		"--concurrency", strconv.Itoa(concurrency), "--shutdown-timeout", timeout)
	posted := f.post(h.urls(), activities)
	for i, n := range f.nodes {
		agent := "node-" + strconv.Itoa(i)
		harness.Eventually(t, "some of its attempts are in flight", func() bool { return w.inFlight(agent) >= concurrency/4 })
		n.Restart()
	}
	allDelivered(t, f.nodes[0], <-posted, activities, hosts)
	repeats := again(t, h, activities, func(string) {})
	t.Logf("%d deliveries, %d repeats; %v", hosts*activities, repeats, h.shares())
	if repeats > 0 != cutOff || repeats > len(f.nodes)*concurrency {
		t.Errorf("%d repeats", repeats)
	}
	for i := range hosts {
		if got := f.nodes[0].host(h.Host(i)); got.State != "healthy" || got.Breaker.Failures != 0 || got.FailureDays != 0 || got.LastError.Outcome != "" {
			t.Errorf("host %+v", got)
		}
	}
	if list := w.overlaps(nil); len(list) > 0 && !cutOff { // a host notices late that a request was cut off
		t.Errorf("%d overlaps: %v", len(list), list)
	}
}
