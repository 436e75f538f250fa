package e2e

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestNothingIsLostWhenKilled kills the node three times while it takes activities in and delivers them. All
// accepted activities arrive, and those that arrive twice were in flight at a kill.
func TestNothingIsLostWhenKilled(t *testing.T) { onBothStores(t, testNothingIsLostWhenKilled) }

func testNothingIsLostWhenKilled(t *testing.T, s store) {
	const hosts, activities, concurrency, hostConcurrency = 30, 36, 16, 4
	h := startHosts(t, hosts, fine)
	node := s.startProcess(t, "--concurrency", strconv.Itoa(concurrency), "--host-concurrency", strconv.Itoa(hostConcurrency))
	posted := make(chan []acceptedView, 1)
	go func() { posted <- postUntilAccepted(node.Try, h.urls(), activities) }()
	kills := 0
	for ; kills < 3; kills++ {
		harness.Eventually(t, "a quarter more is delivered", func() bool { return h.count() >= (kills+1)*hosts*activities/4 })
		node.Kill()
	}
	all := <-posted
	if len(all) != activities {
		t.Fatalf("only %d activities were accepted", len(all))
	}
	for _, a := range all {
		if got := node.settled(a); got != (countsView{Total: hosts, Delivered: hosts}) {
			t.Errorf("counts %+v", got)
		}
	}
	repeats := 0
	for i, in := range h.inboxes {
		got := arrivals(t, in)
		if len(got) != activities {
			t.Errorf("host %d got %d activities", i, len(got))
		}
		if again := in.Count() - activities; again > kills*hostConcurrency {
			t.Errorf("host %d got %d requests again", i, again)
		}
		repeats += in.Count() - activities
	}
	t.Logf("%d deliveries, %d kills, %d repeats", hosts*activities, kills, repeats)
	if repeats > kills*concurrency {
		t.Errorf("%d repeats after %d kills with %d attempts in flight at most", repeats, kills, concurrency)
	}
}

// postUntilAccepted posts activities as an app does: without an answer, it repeats the call with the same Idempotency-Key. It
// returns the activities that were accepted before the first refusal.
func postUntilAccepted(try tryFunc, inboxes []string, n int) (all []acceptedView) {
	for i := range n {
		call := submission{activity: like(fmt.Sprint(i)), inboxes: inboxes}.String()
		a, err := try(http.MethodPost, "/v1/activities", strings.NewReader(call), "Idempotency-Key", fmt.Sprint(i))
		for err != nil {
			a, err = try(http.MethodPost, "/v1/activities", strings.NewReader(call), "Idempotency-Key", fmt.Sprint(i))
		}
		view, err := decode[acceptedView](a.Body)
		if a.Status != http.StatusAccepted || err != nil || view.Accepted != len(inboxes) {
			return all
		}
		all = append(all, view)
	}
	return all
}

// arrivals returns how often each activity came to an inbox, each time with a good signature.
func arrivals(t *testing.T, in *testinbox.Inbox) map[string]int {
	t.Helper()
	got, bodies := map[string]int{}, map[string][sha256.Size]byte{}
	for _, r := range in.Received() {
		id := lastPart(r.ActivityID)
		got[id]++
		bodies[id] = r.BodyHash
		if !r.Valid || r.BodyHash != sha256.Sum256([]byte(like(id))) {
			t.Errorf("%s came broken: %+v", id, r)
		}
	}
	return got
}

// TestStopInMidFlight checks that a node which is stopped finishes the attempts in flight, and that the
// deliveries that it leaves are not lost or repeated, and cost no attempt.
func TestStopInMidFlight(t *testing.T) { onBothStores(t, testStopInMidFlight) }

func testStopInMidFlight(t *testing.T, s store) {
	const hosts, activities, concurrency, passed = 10, 20, 16, 30
	gate := make(chan struct{}, hosts*activities)
	h := startHosts(t, hosts, func(int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply {
			<-gate
			return testinbox.Reply{}
		})
	})
	node := s.startProcess(t, "--concurrency", strconv.Itoa(concurrency), "--shutdown-timeout", "1m")
	var all []acceptedView
	for i := range activities {
		all = append(all, node.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls()}))
	}
	harness.Eventually(t, "some are in flight", func() bool { return h.count() >= hosts/2 })
	for range passed {
		gate <- struct{}{}
	}
	harness.Eventually(t, "some are done", func() bool { return h.count() >= passed })
	node.Signal(harness.Terminate)
	harness.Eventually(t, "no more calls are answered", func() bool {
		_, err := node.Try(http.MethodGet, "/healthz", nil)
		return err != nil
	})
	close(gate)
	node.Wait()
	if node.Code() != 0 {
		t.Errorf("exit code %d", node.Code())
	}
	if got := h.count(); got > passed+concurrency {
		t.Errorf("%d attempts were begun; %d could pass, and %d be in flight when the node was told to stop", got, passed, concurrency)
	}
	node.Start()
	for _, a := range all {
		if got := node.settled(a); got != (countsView{Total: hosts, Delivered: hosts}) {
			t.Errorf("counts %+v", got)
		}
	}
	want := map[string]int{}
	for i := range activities {
		want[fmt.Sprint(i)] = 1
	}
	for i, in := range h.inboxes {
		if diff := cmp.Diff(want, arrivals(t, in)); diff != "" {
			t.Errorf("host %d: %s", i, diff)
		}
	}
}

// TestStopCutsOffWhatHangs checks that a delivery cut off by a stop is given back as if no attempt had been made.
func TestStopCutsOffWhatHangs(t *testing.T) { onBothStores(t, testStopCutsOffWhatHangs) }

func testStopCutsOffWhatHangs(t *testing.T, s store) {
	var healed atomic.Bool
	h := startHost(t, scripted(func(testinbox.Request) testinbox.Reply { return testinbox.Reply{Hang: !healed.Load()} }))
	node := s.startNode(t, "--shutdown-timeout", "300ms", "--max-attempts", "1")
	a := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	harness.Eventually(t, "it is in flight", func() bool { return h.count() == 1 })
	node.Stop()
	healed.Store(true)
	node.Start()
	if got := node.settled(a); got.Delivered != 1 {
		t.Errorf("counts %+v, dead letters %+v", got, node.deadLetters(""))
	}
	if got := node.host(h.Host(0)); got.Breaker.Failures != 0 || got.FailureDays != 0 || got.LastError.Outcome != "" || h.count() != 2 {
		t.Errorf("%d requests, host %+v", h.count(), got)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) { onBothStores(t, testSecondSignalEndsAtOnce) }

func testSecondSignalEndsAtOnce(t *testing.T, s store) {
	h := startHost(t, replies(testinbox.Reply{Hang: true}))
	node := s.startProcess(t, "--shutdown-timeout", "24h", "--attempt-timeout", "24h")
	a := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	harness.Eventually(t, "it is in flight", func() bool { return h.count() == 1 })
	node.Signal(harness.Terminate)
	harness.Eventually(t, "no more calls are answered", func() bool {
		_, err := node.Try(http.MethodGet, "/healthz", nil)
		return err != nil
	})
	if node.Ended() {
		t.Fatal("the node did not wait for what is in flight")
	}
	harness.Eventually(t, "another signal ends it", func() bool {
		node.Signal(harness.Terminate)
		return node.Ended()
	})
	node.Wait()
	if node.Code() == 0 {
		t.Error("exit code 0 though it was cut off")
	}
	node.Start()
	if got := node.deliveries(a); len(got) != 1 || got[0].Attempts != 0 {
		t.Errorf("deliveries %+v", got)
	}
	node.Signal(harness.Terminate) // the one in flight can still finish
	harness.Eventually(t, "another signal ends it", func() bool {
		node.Signal(harness.Terminate)
		return node.Ended()
	})
	node.Wait()
}
