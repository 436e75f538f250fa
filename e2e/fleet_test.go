package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// fleet is some nodes on one Redis, each in a separate process. Inboxes know them by their user agents.
type fleet struct {
	nodes  []*testNode
	posted atomic.Int64 // by postTroubled
}

// startNodes starts n nodes on a store.
func startNodes(t *testing.T, s store, n int, args ...string) *fleet {
	t.Helper()
	f := &fleet{}
	for range n {
		f.join(t, s, args...)
	}
	return f
}

// join starts one more node.
func (f *fleet) join(t *testing.T, s store, args ...string) *testNode {
	t.Helper()
	agent := fmt.Sprintf("node-%d", len(f.nodes))
	n := s.startProcess(t, append(args, "--user-agent", agent)...)
	f.nodes = append(f.nodes, n)
	return n
}

// balancer calls the nodes of now in turn; those that join later get no calls. It is for one goroutine.
func (f *fleet) balancer() tryFunc {
	nodes, turn := slices.Clone(f.nodes), 0
	return func(method, path string, body io.Reader, headers ...string) (harness.Answer, error) {
		turn++
		return nodes[turn%len(nodes)].Try(method, path, body, headers...)
	}
}

// post posts activities to the nodes in turn, in the background. It skips a node that is unavailable or
// stops. The channel receives the accepted activities at the end.
func (f *fleet) post(inboxes []string, n int) <-chan []acceptedView {
	posted, try := make(chan []acceptedView, 1), f.balancer()
	go func() { posted <- postUntilAccepted(try, inboxes, n) }()
	return posted
}

// allDelivered waits until all activities are settled, and checks that all arrived.
func allDelivered(t *testing.T, n *testNode, all []acceptedView, activities, hosts int) {
	t.Helper()
	if len(all) != activities {
		t.Fatalf("only %d of %d activities were accepted", len(all), activities)
	}
	for _, a := range all {
		if got := n.settled(a); got != (countsView{Total: hosts, Delivered: hosts}) {
			t.Errorf("counts %+v, dead letters %+v", got, n.deadLetters(""))
		}
	}
}

// again returns the number of repeated requests; each host must have got every activity. It calls first with the node that
// made the first request of each.
func again(t *testing.T, h *hosts, activities int, first func(node string)) (repeats int) {
	t.Helper()
	for i, in := range h.inboxes {
		if got := arrivals(t, in); len(got) != activities {
			t.Errorf("host %d got %d activities", i, len(got))
		}
		by := map[string]string{}
		for _, r := range in.Received() {
			if node, seen := by[r.ActivityID]; seen {
				repeats++
				first(node)
			}
			by[r.ActivityID] = r.Header.Get("User-Agent")
		}
	}
	return repeats
}

// shares returns how many requests each node made.
func (h *hosts) shares() map[string]int {
	shares := map[string]int{}
	for _, in := range h.inboxes {
		for _, r := range in.Received() {
			shares[r.Header.Get("User-Agent")]++
		}
	}
	return shares
}

// visit is one request, from its head until its answer was sent or its client had gone.
type visit struct {
	host, node string
	begin, end time.Time
}

// witness records which node is at which host at what time.
type witness struct {
	mu     sync.Mutex
	visits []visit        // those that are over; guarded by mu
	inside map[string]int // by node; guarded by mu
}

// startWatched starts hosts with a witness.
func startWatched(t *testing.T, n int, reply func() testinbox.Reply) (*hosts, *witness) {
	t.Helper()
	w := &witness{inside: map[string]int{}}
	h := startHostsBehind(t, n, func(int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply { return reply() })
	}, w.watch)
	return h, w
}

func (w *witness) watch(host http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		v := visit{host: r.Host, node: r.UserAgent(), begin: time.Now()}
		w.enter(v.node)
		defer w.leave(v)
		host.ServeHTTP(rw, r)
	})
}

func (w *witness) enter(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside[node]++
}

func (w *witness) leave(v visit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside[v.node]--
	v.end = time.Now()
	w.visits = append(w.visits, v)
}

// inFlight returns how many requests of a node are in flight.
func (w *witness) inFlight(node string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inside[node]
}

// overlaps lists where two nodes were at one host at the same time. Requests that were in flight
// when their node was killed do not count.
func (w *witness) overlaps(killed map[string]time.Time) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	byHost := map[string][]visit{}
	for _, v := range w.visits {
		if died, ok := killed[v.node]; !ok || v.end.Before(died) {
			byHost[v.host] = append(byHost[v.host], v)
		}
	}
	for host, visits := range byHost {
		slices.SortFunc(visits, func(a, b visit) int { return a.begin.Compare(b.begin) })
		for i, a := range visits {
			for _, b := range visits[i+1:] {
				if a.node != b.node && b.begin.Before(a.end) {
					list = append(list, fmt.Sprintf("%s: %s %s after %s came, before it had gone", host, b.node, b.begin.Sub(a.begin), a.node))
				}
			}
		}
	}
	return list
}

// slowly answers after 20 to 50 ms, in turn.
func slowly() func() testinbox.Reply {
	var n atomic.Int64
	return func() testinbox.Reply {
		return testinbox.Reply{Delay: time.Duration(20+n.Add(1)%31) * time.Millisecond}
	}
}

// keysIn lists all keys in a Redis.
func keysIn(r *testredis.Server) []string {
	return strings.Fields(r.Must("EVAL", "return table.concat(redis.call('KEYS', '*'), ' ')", "0"))
}

// checkPrefix checks that all keys begin with one of the prefixes.
func checkPrefix(t *testing.T, r *testredis.Server, prefixes ...string) {
	t.Helper()
	found := map[string]int{}
	for _, key := range keysIn(r) {
		prefix, _, _ := strings.Cut(key, ":")
		found[prefix]++
		if !slices.Contains(prefixes, prefix) {
			t.Errorf("key %s", key)
		}
	}
	for _, prefix := range prefixes {
		if found[prefix] == 0 {
			t.Errorf("no key begins with %s", prefix)
		}
	}
}
