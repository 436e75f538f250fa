package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// inFlight returns how many requests all hosts are answering now.
func (h *hosts) inFlight() (n int) {
	for _, in := range h.inboxes {
		n += in.InFlight()
	}
	return n
}

// TestRedisStalls stops Redis for longer than a lease lasts while two nodes have attempts in flight. They abort
// these before the leases can lapse, so that two nodes never work on one host; that counts against no host; and all is
// delivered once Redis goes on.
func TestRedisStalls(t *testing.T) {
	t.Parallel()
	const n, activities, ttl = 10, 5, 4 * time.Second
	var healed atomic.Bool
	h := startHosts(t, n, func(int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply { return testinbox.Reply{Hang: !healed.Load()} })
	})
	redis := durable(t)
	s := onRedis(redis.URL())
	args := append(spending[:len(spending):len(spending)], "--host-concurrency", "1", "--lease-ttl", ttl.String())
	nodes := []*testNode{s.startProcess(t, args...), s.startProcess(t, args...)}
	var all []acceptedView
	for i := range activities {
		all = append(all, nodes[i%2].accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls()}))
	}
	harness.Eventually(t, "all hosts have one in flight", func() bool { return h.inFlight() == n })
	thaw := redis.Freeze()
	defer thaw()
	frozen := time.Now()
	harness.Eventually(t, "all leases have lapsed", func() bool { return time.Since(frozen) > ttl })
	if n := h.inFlight(); n > 0 {
		t.Errorf("%d attempts are in flight that no lease covers", n)
	}
	healed.Store(true)
	for _, node := range nodes {
		node.alive()
		if node.notReady() == "" {
			t.Error("a node whose Redis does not answer is ready")
		}
	}
	thaw()
	for _, a := range all {
		if got := nodes[0].settled(a); got != (countsView{Total: n, Delivered: n}) {
			t.Errorf("counts %+v, dead letters %+v", got, nodes[0].deadLetters(""))
		}
	}
	nodes[0].holdsNothingAgainst(h)
	for i, in := range h.inboxes {
		if most := in.MaxInFlight()[h.Host(i)]; most > 1 {
			t.Errorf("%d attempts were in flight to host %d at one time", most, i)
		}
		if got := in.Count(); got != activities+1 { // with those that were aborted
			t.Errorf("host %d got %d requests, want %d", i, got, activities+1)
		}
	}
	for i, node := range nodes {
		harness.Eventually(t, "the node is ready again", func() bool { return node.notReady() == "" })
		if strings.Contains(node.Out.String(), `"outcome":"unreachable"`) {
			t.Errorf("node %d takes what it gave up for a failure of the host:\n%s", i, node.Out)
		}
	}
}

// TestNodeStalls stops one of two nodes for longer than its leases last, while it has attempts in flight that fail. The
// other takes its hosts over. The writes of the first are then refused, and it goes on working.
func TestNodeStalls(t *testing.T) {
	t.Parallel()
	const n = 10
	release := make(chan struct{})
	var asked atomic.Int64
	h := startHosts(t, n, func(int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply {
			if asked.Add(1) > n {
				return testinbox.Reply{}
			}
			<-release
			return testinbox.Reply{Status: http.StatusInternalServerError}
		})
	})
	redis := durable(t)
	s := onRedis(redis.URL())
	stalled := s.startProcess(t, spending...)
	var all []acceptedView
	for i := range 2 {
		all = append(all, stalled.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls(), more: `,"ordering_key":"1"`}))
	}
	harness.Eventually(t, "all hosts have one in flight", func() bool { return h.inFlight() == n })
	other := s.startProcess(t, spending...)
	stalled.Signal(syscall.SIGSTOP)
	harness.Eventually(t, "no thread of it runs", func() bool { return threadsStand(t, stalled.PID()) })
	defer stalled.Signal(syscall.SIGCONT)
	close(release) // the answers wait for the node to go on
	want := countsView{Total: n, Delivered: n}
	for _, a := range all {
		if got := other.settled(a); got != want {
			t.Errorf("the other node delivered %+v", got)
		}
	}
	stalled.Signal(syscall.SIGCONT)
	harness.Eventually(t, "the late writes are refused", func() bool { return strings.Contains(stalled.Out.String(), `"turn.lost"`) })
	other.Stop() // so that the first has to do the rest
	all = append(all, stalled.accept(submission{activity: like("3"), inboxes: h.urls()}))
	for _, a := range all {
		if got := stalled.settled(a); got != want {
			t.Errorf("after the node went on, counts are %+v, dead letters %+v", got, stalled.deadLetters(""))
		}
	}
	stalled.holdsNothingAgainst(h)
	if why := stalled.notReady(); why != "" {
		t.Errorf("it is not ready: %s", why)
	}
	if got := h.count(); got != 4*n {
		t.Errorf("%d requests were made, want %d: two activities of which one was in flight, and one more", got, 4*n)
	}
}

// threadsStand reports whether all threads of a stopped process have stopped: on a busy machine they run on for a moment.
func threadsStand(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, threads, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if _, state, _ := strings.Cut(string(text), ") "); err == nil && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}
