package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// historyView is the answer of GET /v1/stats/history, as far as it is checked.
type historyView struct {
	StepSeconds int `json:"step_seconds"`
	Items       []struct {
		At                                             time.Time
		Activities, Accepted, Delivered, Dead, Pending int
		Died, Attempts                                 map[string]int
		Latency                                        *struct{ P50, P95 int } `json:"latency_ms"`
	}
}

// past is the sum of a history.
type past struct {
	Activities, Accepted, Delivered, Dead int
	Died, Attempts                        map[string]int
	Steps                                 int // in which something was delivered
}

// past returns what a node says of the last hour.
func (n *testNode) past() past {
	n.T.Helper()
	sum := past{Died: map[string]int{}, Attempts: map[string]int{}}
	view := get[historyView](n, "/v1/stats/history")
	for _, step := range view.Items {
		sum.Activities += step.Activities
		sum.Accepted += step.Accepted
		sum.Delivered += step.Delivered
		sum.Dead += step.Dead
		for reason, count := range step.Died {
			sum.Died[reason] += count
		}
		for outcome, count := range step.Attempts {
			if count > 0 {
				sum.Attempts[outcome] += count
			}
		}
		if (step.Delivered > 0) != (step.Latency != nil) {
			n.T.Errorf("%d deliveries arrived at %s, with the latency %+v", step.Delivered, step.At, step.Latency)
		}
		if step.Delivered > 0 {
			sum.Steps++
		}
	}
	if view.StepSeconds != 60 || len(view.Items) != 60 {
		n.T.Errorf("%d steps of %d s", len(view.Items), view.StepSeconds)
	}
	return sum
}

// TestHistoryOfAFleet checks that the history is the sum of what all nodes did, also of those that have stopped.
func TestHistoryOfAFleet(t *testing.T) {
	t.Parallel()
	const each = 5
	server := testredis.StartAhead(t, 0)
	s := onRedis(server.URL())
	h := startHosts(t, 4, func(i int) testinbox.Options {
		if i == 0 {
			return replies(testinbox.Reply{Status: http.StatusGone})
		}
		return testinbox.Options{}
	})
	f := startNodes(t, s, 2)
	for i, n := range f.nodes {
		for j := range each {
			a := n.accept(submission{activity: like(fmt.Sprint(i, j)), inboxes: h.urls()})
			if got := n.settled(a); got.Delivered != 3 || got.Dead != 1 {
				t.Fatalf("counts %+v", got)
			}
		}
	}
	for _, n := range f.nodes {
		n.Stop()
	}
	server.Jump(90 * time.Second)
	f.nodes[1].Start()
	want := past{
		Activities: 2 * each, Accepted: 8 * each, Delivered: 6 * each, Dead: 2 * each, Died: map[string]int{"gone": 2 * each},
		Attempts: map[string]int{"delivered": 6 * each, "gone": 2 * each},
	}
	got := f.nodes[1].past()
	want.Steps = got.Steps // the minute may have ended meanwhile
	if diff := cmp.Diff(want, got); diff != "" || got.Steps < 1 {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}
