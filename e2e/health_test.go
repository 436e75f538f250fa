package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// startModerate starts a host that answers as the test sets it.
func startModerate(t *testing.T) (h *hosts, status *atomic.Int64) {
	t.Helper()
	status = new(atomic.Int64)
	status.Store(http.StatusAccepted)
	return startHost(t, scripted(func(testinbox.Request) testinbox.Reply {
		return testinbox.Reply{Status: int(status.Load()), Header: http.Header{"Retry-After": {"7200"}}}
	})), status
}

// inState lists the hosts in a state.
func (n *testNode) inState(state string) (names []string) {
	n.T.Helper()
	for _, h := range get[page[hostView]](n, "/v1/hosts?state="+state).Items {
		names = append(names, h.Host)
	}
	return names
}

// attempted delivers an activity and returns the host once it was attempted.
func (n *testNode) attempted(h *hosts, id string) hostView {
	n.T.Helper()
	before := h.count()
	a := n.deliver(like(id), h.Inbox(0, "/inbox"))
	harness.Eventually(n.T, "an attempt at "+id, func() bool {
		if h.count() == before {
			return false
		}
		ds := n.deliveries(a) // those delivered are not listed
		return len(ds) == 0 && n.activity(a).Counts.Delivered == 1 || len(ds) == 1 && ds[0].LastAttempt.Status != 0
	})
	return n.host(h.Host(0))
}

// TestHostsThatRefuse checks that a host which only refuses is shown so from the tenth refusal on, though its node is
// restarted in between, and no longer once it accepts something.
func TestHostsThatRefuse(t *testing.T) { onBothStores(t, testHostsThatRefuse) }

func testHostsThatRefuse(t *testing.T, s store) {
	const refusals = 10
	for _, status := range []int{302, 401, 403, 413} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			h, answer := startModerate(t)
			node := s.startNode(t, "--retry-base", "1h")
			defer node.Stop()
			events := node.events("?type=host_state")
			name := func(i int) string { return fmt.Sprint(status, "-", i) }
			good := node.attempted(h, name(0))
			answer.Store(int64(status))
			for i := range refusals - 1 {
				if got := node.attempted(h, name(i+1)); got.State != "healthy" || got.Refusals != i+1 {
					t.Fatalf("after %d refusals: %+v", i+1, got)
				}
				if i == refusals/2 {
					node.Restart()
					events = node.events("?type=host_state")
				}
			}
			got := node.attempted(h, name(refusals))
			if got.State != "refusing" || got.Refusals != refusals || got.LastError.Status != status || !got.LastAnswerAt.After(good.LastAnswerAt) ||
				!got.LastSuccessAt.Equal(good.LastSuccessAt) || !good.LastSuccessAt.Equal(good.LastAnswerAt) || good.LastSuccessAt.IsZero() {
				t.Errorf("after ten refusals: %+v, before them %+v", got, good)
			}
			if got := node.inState("refusing"); !slices.Equal(got, []string{h.Host(0)}) {
				t.Errorf("hosts that refuse: %v", got)
			}
			if got := node.Call(http.MethodGet, "/metrics", "").Body; !strings.Contains(got, `postrider_hosts{state="refusing"} 1`) {
				t.Error("no metric tells of it")
			}
			is := func(state string) func(heard) bool {
				return func(e heard) bool { return e.Host == h.Host(0) && e.State == state }
			}
			events.awaitEvent(t, "the host refuses", is("refusing"))
			answer.Store(http.StatusOK)
			if got := node.attempted(h, name(refusals+1)); got.State != "healthy" || got.Refusals != 0 || !got.LastSuccessAt.After(good.LastSuccessAt) ||
				got.LastError.Status != status {
				t.Errorf("once it accepts: %+v", got)
			}
			events.awaitEvent(t, "the host is healthy", is("healthy"))
		})
	}
}

// TestThrottledHost checks that a host that asked to wait is shown so for as long as it waits.
func TestThrottledHost(t *testing.T) { onBothStores(t, testThrottledHost) }

func testThrottledHost(t *testing.T, s store) {
	h, answer := startModerate(t)
	node := s.startNode(t)
	answer.Store(http.StatusTooManyRequests)
	got := node.attempted(h, "1")
	if wait := time.Until(got.Breaker.RetryAt); got.State != "throttled" || got.Refusals != 0 || wait < 119*time.Minute || wait > 2*time.Hour ||
		got.LastAnswerAt.IsZero() || !got.LastSuccessAt.IsZero() || got.LastError.Status != http.StatusTooManyRequests {
		t.Errorf("throttled: %+v", got)
	}
	node.Restart()
	if got := node.inState("throttled"); !slices.Equal(got, []string{h.Host(0)}) {
		t.Errorf("throttled hosts: %v", got)
	}
	answer.Store(http.StatusOK)
	if got := node.act(h.Host(0), "probe"); got.State != "healthy" {
		t.Errorf("after its wait was ended: %+v", got)
	}
	harness.Eventually(t, "it is served", func() bool { return node.host(h.Host(0)).Pending == 0 })
	if got := node.inState("healthy"); !slices.Equal(got, []string{h.Host(0)}) {
		t.Errorf("healthy hosts: %v", got)
	}
}

// TestThrottledEnds checks that a host is not listed as throttled any more soon after its wait, though it gets nothing.
func TestThrottledEnds(t *testing.T) { onBothStores(t, testThrottledEnds) }

func testThrottledEnds(t *testing.T, s store) {
	h := startHost(t, replies(testinbox.Reply{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"3"}}}))
	node := s.startNode(t)
	a := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	harness.Eventually(t, "it is throttled", func() bool { return slices.Equal(node.inState("throttled"), []string{h.Host(0)}) })
	node.Call(http.MethodDelete, a.URL, "")
	harness.Eventually(t, "it is healthy", func() bool { return slices.Equal(node.inState("healthy"), []string{h.Host(0)}) })
	if got := node.inState("throttled"); len(got) != 0 || h.count() != 1 {
		t.Errorf("throttled hosts: %v after %d requests", got, h.count())
	}
}

// statsView is the part of the totals that the tests check.
type statsView struct {
	Fleet    struct{ Pending int }
	Warnings []struct{ Code, Message string }
}

// TestKeyThatNobodyFetches checks that a node warns when every host answers 401, in the totals and the log, and not if one
// accepts.
func TestKeyThatNobodyFetches(t *testing.T) { onBothStores(t, testKeyThatNobodyFetches) }

func testKeyThatNobodyFetches(t *testing.T, s store) {
	const n = 3
	var accepts atomic.Bool
	h := startHosts(t, n, func(i int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply {
			if i == 0 && accepts.Load() {
				return testinbox.Reply{}
			}
			return testinbox.Reply{Status: http.StatusUnauthorized, Body: "who are you?"}
		})
	})
	node := s.startNode(t)
	if got := node.Call(http.MethodGet, "/v1/stats", "").Body; !strings.Contains(got, `"warnings":[]`) {
		t.Errorf("a new node warns: %s", got)
	}
	node.accept(submission{activity: like("1"), inboxes: h.urls()})
	warned := func() bool { return len(get[statsView](node, "/v1/stats").Warnings) > 0 }
	harness.Eventually(t, "the totals warn", warned)
	if got := get[statsView](node, "/v1/stats").Warnings[0]; got.Code != "most_hosts_unauthorized" || !strings.Contains(got.Message, "public key") {
		t.Errorf("warning %+v", got)
	}
	harness.Eventually(t, "the log warns", func() bool { return strings.Contains(node.Out.String(), `"code":"most_hosts_unauthorized"`) })
	accepts.Store(true)
	harness.Eventually(t, "the totals warn no more", func() bool { return !warned() })
}
