package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// heard returns the activities that arrived at a host, by the last parts of their ids.
func (h *hosts) heard(i int) (ids []string) {
	for _, r := range h.inboxes[i].Received() {
		ids = append(ids, lastPart(r.ActivityID))
	}
	return ids
}

// TestDeletedMeanwhile checks that the activities for a paused host arrive in the order accepted, also if the Delete has
// its Create's id.
func TestDeletedMeanwhile(t *testing.T) { onBothStores(t, testDeletedMeanwhile) }

func testDeletedMeanwhile(t *testing.T, s store) {
	const note = "https://app.example/notes/1"
	for name, ids := range map[string][]string{
		"ids of their own": {"1", "2", "3"},
		"the Create's id":  {"1", "1", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, fine(0))
			node := s.startNode(t, "--host-concurrency", "1")
			node.act(h.Host(0), "pause")
			var all []acceptedView
			for i, kind := range []string{"Create", "Update", "Delete"} {
				all = append(all, node.deliver(about(kind, ids[i], note), h.Inbox(0, "/inbox")))
			}
			node.Restart()
			node.act(h.Host(0), "resume")
			for i, a := range all {
				if got := node.settled(a); a.Accepted != 1 || got.Delivered != 1 {
					t.Errorf("%d: accepted %+v, counts %+v", i+1, a, got)
				}
			}
			if diff := cmp.Diff(ids, h.heard(0)); diff != "" {
				t.Error(diff)
			}
			var sizes []int
			for _, r := range h.inboxes[0].Received() {
				sizes = append(sizes, r.BodySize)
			}
			want := []int{len(about("Create", "1", note)), len(about("Update", "2", note)), len(about("Delete", "3", note))}
			if diff := cmp.Diff(want, sizes); diff != "" {
				t.Errorf("sizes of the bodies: %s", diff)
			}
		})
	}
}

// TestDeletedLettersStayDead checks that a dead letter is not retried after its object was deleted, which the answer says, and
// that it is once that Delete is undone.
func TestDeletedLettersStayDead(t *testing.T) { onBothStores(t, testDeletedLettersStayDead) }

func testDeletedLettersStayDead(t *testing.T, s store) {
	const note = "https://app.example/notes/1"
	deletion := about("Delete", "3", note)
	for name, undone := range map[string]string{
		"undone with the Delete inside": deletion,
		"undone by its id":              `"https://app.example/steps/3"`,
	} {
		t.Run(name, func(t *testing.T) {
			var strict atomic.Bool
			strict.Store(true)
			h := startHosts(t, 2, func(i int) testinbox.Options {
				return scripted(func(testinbox.Request) testinbox.Reply {
					if i == 0 && strict.Load() {
						return testinbox.Reply{Status: http.StatusForbidden}
					}
					return testinbox.Reply{}
				})
			})
			node := s.startNode(t)
			for i, kind := range []string{"Create", "Update"} {
				a := node.deliver(about(kind, []string{"1", "2"}[i], note), h.Inbox(0, "/inbox"))
				if got := node.settled(a); got.Dead != 1 {
					t.Fatalf("counts of the %s: %+v", kind, got)
				}
			}
			strict.Store(false)
			before := h.inboxes[0].Count()
			node.settled(node.deliver(deletion, h.Inbox(1, "/inbox")))
			node.Restart()
			if diff := cmp.Diff(lettersView{Matched: 2, Superseded: 2}, node.letters(http.MethodPost, "/retry", "")); diff != "" {
				t.Error(diff)
			}
			undo := strings.Replace(about("Undo", "4", ""), `{"id":"","type":"Note"}`, undone, 1)
			node.settled(node.deliver(undo, h.Inbox(1, "/inbox")))
			if diff := cmp.Diff(lettersView{Matched: 2, Retried: 2}, node.letters(http.MethodPost, "/retry", "")); diff != "" {
				t.Error(diff)
			}
			harness.Eventually(t, "both arrive", func() bool { return h.inboxes[0].Count() == before+2 })
			if diff := cmp.Diff([]string{"1", "2"}, h.heard(0)[before:]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
