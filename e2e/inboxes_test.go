package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// users are n inboxes of the first host.
func (h *hosts) users(n int) (urls []string) {
	for i := range n {
		urls = append(urls, h.Inbox(0, fmt.Sprintf("/users/%d/inbox", i)))
	}
	return urls
}

// TestBadInboxesSpareTheirSiblings checks that inboxes that fail or refuse everything hold back no other inbox of their
// host, and don't open its breaker.
func TestBadInboxesSpareTheirSiblings(t *testing.T) {
	onBothStores(t, testBadInboxesSpareTheirSiblings)
}

func testBadInboxesSpareTheirSiblings(t *testing.T, s store) {
	const posts, inboxes = 3, 10
	var good, bad atomic.Int64
	h := startHost(t, scripted(func(r testinbox.Request) testinbox.Reply {
		switch {
		case strings.HasPrefix(r.Path, "/users/0/"):
			bad.Add(1)
			return testinbox.Reply{Status: http.StatusUnauthorized}
		case strings.HasPrefix(r.Path, "/users/1/"):
			bad.Add(1)
			return testinbox.Reply{Status: http.StatusInternalServerError}
		}
		good.Add(1)
		return testinbox.Reply{}
	}))
	node := s.startNode(t, "--retry-base", "5s")
	var all []acceptedView
	for i := range posts {
		activity := about("Update", fmt.Sprint(i+1), "https://app.example/notes/1")
		all = append(all, node.accept(submission{activity: activity, inboxes: h.users(inboxes)}))
	}
	harness.Eventually(t, "all siblings have all", func() bool { return good.Load() == posts*(inboxes-2) })
	harness.Eventually(t, "the bad inboxes got something", func() bool { return bad.Load() >= 2 })
	for _, a := range all {
		harness.Eventually(t, "what arrived is counted", func() bool { return node.activity(a).Counts.Delivered == inboxes-2 })
		if got := node.activity(a).Counts; got.Pending != 2 {
			t.Errorf("counts %+v, want only the bad inboxes pending", got)
		}
	}
	if got := node.host(h.Host(0)); got.Breaker.State != "closed" {
		t.Errorf("the breaker is %s after %d failures", got.Breaker.State, got.Breaker.Failures)
	}
}

// TestSiblingsGoTogether checks that the deliveries of one activity to the inboxes of a slow host don't wait for each other:
// the host answers none before as many are there as its window allows.
func TestSiblingsGoTogether(t *testing.T) { onBothStores(t, testSiblingsGoTogether) }

func testSiblingsGoTogether(t *testing.T, s store) {
	const window = 8
	var there atomic.Int64
	together := make(chan struct{})
	free := sync.OnceFunc(func() { close(together) })
	h := startHost(t, scripted(func(r testinbox.Request) testinbox.Reply {
		if lastPart(r.ActivityID) == "slow" {
			if there.Add(1) == window {
				free()
			}
			<-together
		}
		return testinbox.Reply{}
	}))
	t.Cleanup(free)
	node := s.startNode(t, "--host-concurrency", fmt.Sprint(window))
	for i := range 2 * window { // each success lets the window grow
		node.settled(node.deliver(like(fmt.Sprint("before-", i)), h.Inbox(0, "/inbox")))
	}
	slow := node.accept(submission{activity: like("slow"), inboxes: h.users(window + 2)})
	harness.Eventually(t, "as many are there as the window allows", func() bool { return there.Load() >= window })
	if got := node.settled(slow); got.Delivered != window+2 {
		t.Errorf("counts %+v", got)
	}
	if most := h.inboxes[0].MaxInFlight()[h.Host(0)]; most > window {
		t.Errorf("%d requests at a time", most)
	}
}

// TestFollowUndoFollow checks that each activity arrives, though the second Follow has the bytes of the first, whether or not
// the host is paused meanwhile.
func TestFollowUndoFollow(t *testing.T) { onBothStores(t, testFollowUndoFollow) }

func testFollowUndoFollow(t *testing.T, s store) {
	const (
		actor  = `"actor":"https://app.example/users/alice"`
		follow = `{"id":"https://app.example/follows/1","type":"Follow",` + actor + `,"object":"https://remote.example/users/bob"}`
	)
	for name, undone := range map[string]string{
		"with the Follow inside": follow,
		"by its id":              `"https://app.example/follows/1"`,
	} {
		undo := `{"id":"https://app.example/follows/1/undo","type":"Undo",` + actor + `,"object":` + undone + `}`
		for _, pause := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, paused %t", name, pause), func(t *testing.T) {
				h := startHost(t, fine(0))
				node := s.startNode(t)
				if pause {
					node.act(h.Host(0), "pause")
				}
				var all []acceptedView
				for _, activity := range []string{follow, undo, follow} {
					a := node.deliver(activity, h.Inbox(0, "/inbox"))
					if all = append(all, a); a.Accepted != 1 {
						t.Errorf("accepted %+v", a)
					}
					if !pause {
						node.settled(a)
					}
				}
				if pause {
					node.act(h.Host(0), "resume")
				}
				for _, a := range all {
					if got := node.settled(a); got.Delivered != 1 {
						t.Errorf("counts %+v", got)
					}
				}
				if diff := cmp.Diff([]string{"1", "undo", "1"}, h.heard(0)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// TestPairsKeepTheirOrder checks that an Undo or a Delete arrives after its object, whether or not that is wrapped,
// though the first attempt of everything fails.
func TestPairsKeepTheirOrder(t *testing.T) { onBothStores(t, testPairsKeepTheirOrder) }

func testPairsKeepTheirOrder(t *testing.T, s store) {
	const pairs = 40
	wrap := func(kind, id, inside string) string {
		const group = "https://app.example/users/group"
		return fmt.Sprintf(`{"id":"https://app.example/%s","type":%q,"actor":%q,"object":%s}`, id, kind, group, inside)
	}
	for name, pair := range map[string]func(i int) (first, second string){
		"Delete, Undo": func(i int) (string, string) {
			deletion := about("Delete", fmt.Sprint(i, "-1"), fmt.Sprint("https://app.example/notes/", i))
			return deletion, wrap("Undo", fmt.Sprint(i, "-2"), deletion)
		},
		"Undo, Delete": func(i int) (string, string) {
			note := fmt.Sprint("https://app.example/notes/", i)
			return wrap("Undo", fmt.Sprint(i, "-1"), about("Delete", fmt.Sprint(i, "-0"), note)),
				about("Delete", fmt.Sprint(i, "-2"), note)
		},
		"Announces of a Create and a Delete": func(i int) (string, string) {
			note := fmt.Sprint("https://app.example/notes/", i)
			return wrap("Announce", fmt.Sprint(i, "-1"), about("Create", fmt.Sprint(i, "-c"), note)),
				wrap("Announce", fmt.Sprint(i, "-2"), about("Delete", fmt.Sprint(i, "-d"), note))
		},
		"Undo of a Follow, Follow": func(i int) (string, string) {
			bob := fmt.Sprint("https://remote.example/users/", i)
			return wrap("Undo", fmt.Sprint(i, "-1"), about("Follow", fmt.Sprint(i, "-0"), bob)),
				about("Follow", fmt.Sprint(i, "-2"), bob)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, arrived := startFlaky(t)
			node := s.startNode(t, "--retry-base", "50ms", "--breaker-threshold", "1000")
			var all []acceptedView
			for i := range pairs {
				first, second := pair(i)
				all = append(all, node.deliver(first, h.Inbox(0, "/inbox")), node.deliver(second, h.Inbox(0, "/inbox")))
			}
			for _, a := range all {
				if got := node.settled(a); got.Delivered != 1 {
					t.Errorf("counts %+v", got)
				}
			}
			order := arrived()
			for i := range pairs {
				if diff := cmp.Diff([]string{"1", "2"}, order[fmt.Sprint(i)]); diff != "" {
					t.Errorf("pair %d: %s", i, diff)
				}
			}
		})
	}
}

// startFlaky starts a host that fails each activity once. It returns which parts of a pair arrived, in order, by pair.
func startFlaky(t *testing.T) (h *hosts, arrived func() map[string][]string) {
	t.Helper()
	var mu sync.Mutex
	tried, order := map[string]bool{}, map[string][]string{}
	h = startHost(t, scripted(func(r testinbox.Request) testinbox.Reply {
		mu.Lock()
		defer mu.Unlock()
		if !tried[r.ActivityID] {
			tried[r.ActivityID] = true
			return testinbox.Reply{Status: http.StatusServiceUnavailable}
		}
		pair, part, _ := strings.Cut(lastPart(r.ActivityID), "-")
		order[pair] = append(order[pair], part)
		return testinbox.Reply{}
	}))
	return h, func() map[string][]string {
		mu.Lock()
		defer mu.Unlock()
		return order
	}
}
