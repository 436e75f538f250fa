package e2e

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testinbox"
)

// step is one activity of a chain that has to arrive in order.
type step struct{ activity, more string }

// about makes an activity of a chain. Its object is written as an object with an id.
func about(kind, id, object string) string {
	return fmt.Sprintf(`{"id":"https://app.example/steps/%s","type":%q,"actor":"https://app.example/users/alice",`+
		`"object":{"id":%q,"type":"Note"}}`, id, kind, object)
}

func chains() map[string][]step {
	const note, follow = "https://app.example/notes/1", "https://app.example/steps/1"
	ordered := `,"ordering_key":"mine"`
	return map[string][]step{
		"Create, Update, Delete": {{about("Create", "1", note), ""}, {about("Update", "2", note), ""}, {about("Delete", "3", note), ""}},
		"by the id alone": {
			{about("Create", "1", note), ""},
			{fmt.Sprintf(`{"id":"https://app.example/steps/2","type":["Delete"],"object":%q}`, note), ""},
		},
		"Follow, Undo": {{about("Follow", "1", "https://remote.example/users/bob"), ""}, {about("Undo", "2", follow), ""}},
		"priorities": {
			{about("Create", "1", note), `,"priority":"low"`}, {about("Update", "2", note), `,"priority":"high"`}, {about("Delete", "3", note), ""},
		},
		"a key of the app's": {{about("Like", "1", note), ordered}, {about("Announce", "2", note), ordered}, {about("Like", "3", note), ordered + `,"priority":"high"`}},
	}
}

// TestOrder checks that related activities arrive in the order accepted, whatever the answer to the first, and that no
// other waits for them: the host fails the first until everything else is there.
func TestOrder(t *testing.T) { onBothStores(t, testOrder) }

func testOrder(t *testing.T, s store) {
	for name, chain := range chains() {
		t.Run(name, func(t *testing.T) {
			const others = 5
			var arrived, firsts atomic.Int64
			h := startHost(t, scripted(func(r testinbox.Request) testinbox.Reply {
				switch id := lastPart(r.ActivityID); {
				case len(id) > 1:
					arrived.Add(1)
				case id == "1" && (firsts.Add(1) <= 2 || arrived.Load() < others):
					return testinbox.Reply{Status: http.StatusInternalServerError}
				}
				return testinbox.Reply{}
			}))
			node := s.startNode(t, "--retry-base", "20ms", "--breaker-cool-off", "50ms")
			var all []acceptedView
			for _, s := range chain {
				all = append(all, node.deliver(s.activity, h.Inbox(0, "/inbox"), s.more))
			}
			for i := range others {
				all = append(all, node.deliver(like(fmt.Sprintf("other-%d", i)), h.Inbox(0, "/inbox"), `,"priority":"low"`))
			}
			for _, a := range all {
				if got := node.settled(a); got.Delivered != 1 {
					t.Errorf("counts %+v", got)
				}
			}
			var got, want []string
			for _, r := range h.inboxes[0].Received() {
				if id := lastPart(r.ActivityID); len(id) == 1 {
					got = append(got, id)
				}
			}
			for range firsts.Load() - 1 {
				want = append(want, "1")
			}
			for i := range chain {
				want = append(want, fmt.Sprint(i+1))
			}
			if diff := cmp.Diff(want, got); diff != "" || firsts.Load() < 3 {
				t.Errorf("order: %s", diff)
			}
		})
	}
}
