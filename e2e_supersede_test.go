package main

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testinbox"
)

// TestDeletedUnheard holds that hosts that hear nothing for a while never hear of a note that was deleted meanwhile but its
// end, that the others hear all of it in order, and that what was cancelled is told and counted.
func TestDeletedUnheard(t *testing.T) { onBothStores(t, testDeletedUnheard) }

func testDeletedUnheard(t *testing.T, s store) {
	const paused, open, busy = 0, 1, 2
	var sick atomic.Bool
	sick.Store(true)
	busied := make(chan struct{})
	free := sync.OnceFunc(func() { close(busied) })
	h := startHosts(t, 3, func(i int) testinbox.Options {
		return scripted(func(r testinbox.Request) testinbox.Reply {
			switch {
			case i == open && sick.Load():
				return testinbox.Reply{Status: http.StatusInternalServerError}
			case i == busy && lastPart(r.ActivityID) == "before":
				<-busied
			}
			return testinbox.Reply{}
		})
	})
	t.Cleanup(free)
	node := s.startNode(t, "--host-concurrency", "1", "--breaker-threshold", "1", "--breaker-cool-off", "1h",
		"--breaker-cool-off-max", "1h", "--retry-base", "1h")
	node.act(h.Host(paused), "pause")
	before := node.accept(submission{activity: like("before"), inboxes: []string{h.Inbox(open, "/inbox"), h.Inbox(busy, "/inbox")}})
	eventually(t, "the breaker opens and the busy one is busy", func() bool {
		return node.host(h.Host(open)).State == "open" && h.inboxes[busy].Count() == 1
	})
	all := node.post(h, "Create", "Update", "Delete")
	free()
	for i, want := range []int{0, 0, 2} {
		if all[i].Superseded != want {
			t.Errorf("%d: superseded %d, want %d", i+1, all[i].Superseded, want)
		}
	}
	eventually(t, "the busy one has all", func() bool { return node.activity(all[2]).Counts.Delivered == 1 })
	if got := node.host(h.Host(paused)); got.Pending != 2 {
		t.Errorf("the paused host: %+v, want the Update and the Delete pending", got)
	}
	node.restart()
	sick.Store(false)
	node.act(h.Host(paused), "resume")
	node.act(h.Host(open), "reset")
	wantCounts := []countsView{{Total: 3, Delivered: 1, Cancelled: 2}, {Total: 3, Delivered: 3}, {Total: 3, Delivered: 3}, {Total: 2, Delivered: 2}}
	for i, a := range append(all, before) {
		if got := node.settled(a); got != wantCounts[i] {
			t.Errorf("%d: counts %+v, want %+v", i+1, got, wantCounts[i])
		}
	}
	if got := node.activity(all[0]).State; got != "cancelled" {
		t.Errorf("the Create is %s", got)
	}
	if got := get[capsView](node, "/v1/stats").Fleet; got.Pending != 0 || got.Dead != 0 {
		t.Errorf("stats %+v", got)
	}
	for i, want := range [][]string{{"2", "3"}, {"2", "3"}, {"1", "2", "3"}} {
		if diff := cmp.Diff(want, h.heard(i)); diff != "" {
			t.Errorf("host %d: %s", i, diff)
		}
	}
}

// post accepts what happens to a note, for all hosts.
func (n *testNode) post(h *hosts, kinds ...string) (all []acceptedView) {
	n.t.Helper()
	for i, kind := range kinds {
		activity := about(kind, string(rune('1'+i)), "https://app.example/notes/1")
		all = append(all, n.accept(submission{activity: activity, inboxes: h.urls()}))
	}
	return all
}

// heard is what arrived at a host of what happened to the note.
func (h *hosts) heard(i int) (steps []string) {
	for _, r := range h.inboxes[i].Received() {
		if id := lastPart(r.ActivityID); len(id) == 1 {
			steps = append(steps, id)
		}
	}
	return steps
}
