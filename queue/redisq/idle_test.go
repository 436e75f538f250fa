package redisq

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// TestIdleSweepAsksForNothing checks that a node which sweeps every second, as the pool does, bothers Redis only when
// there may be something to sweep, also where there are many partitions.
func TestIdleSweepAsksForNothing(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 64})
	enqueue(t, s, submission("1", 100, manyHosts(10)...)) // lasts for longer
	if next, err := s.Sweep(t.Context()); err != nil || next != queue.MaxIdle {
		t.Fatalf("the first sweep gave %s, %v", next, err)
	}
	before := commands(t, server)
	for range 10 {
		if next, err := s.Sweep(t.Context()); err != nil || next <= 0 || next > queue.MaxIdle {
			t.Errorf("a sweep with nothing to do gave %s, %v", next, err)
		}
	}
	if n := commands(t, server) - before - 1; n != 0 { // but for the one that asked
		t.Errorf("ten sweeps with nothing to do took %d commands", n)
	}
}

// commands is how many commands a Redis has run, in scripts too.
func commands(t *testing.T, server *testredis.Server) int {
	t.Helper()
	_, text, _ := strings.Cut(server.Must("INFO", "stats"), "total_commands_processed:")
	text, _, _ = strings.Cut(text, "\r")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSweepComesWhenAHostHasWaited checks that a host which was throttled is listed as it is soon after, though nothing
// is pending for it: whichever nodes are left know when to look at it.
func TestSweepComesWhenAHostHasWaited(t *testing.T) {
	const host, wait = "a.example", queue.MaxIdle / 6
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	enqueue(t, s, submission("1", 10, host))
	sweepAll(t, s)
	l := lockmgr.Lease{Host: host, Token: 1, TTL: time.Minute}
	if _, err := s.Take(t.Context(), []lockmgr.Lease{l}, 0); err != nil {
		t.Fatal(err)
	}
	st := queue.Settlement{Host: &queue.HostRecord{Throttles: 1}, Wait: wait, Asked: wait, Release: true}
	if _, err := s.Settle(t.Context(), l, st, 0); err != nil {
		t.Fatal(err)
	}
	for name, node := range map[string]*Store{"the node that heard of it": s, "another": openStore(t, Options{URL: server.URL(), Prefix: "p"})} {
		if next, err := node.Sweep(t.Context()); err != nil || next > wait {
			t.Errorf("%s looks after %s, %v, want it within %s", name, next, err, wait)
		}
	}
}
