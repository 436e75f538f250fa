package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
)

const (
	loadApps   = 8
	loadPause  = 150 * time.Millisecond // between two activities of one app
	retryPause = 20 * time.Millisecond  // after a refusal
	longAnswer = 20 * time.Second       // every call is answered sooner, also during outages
)

// load is apps that post activities for all hosts, to all nodes in turn, until the test stops them. They post a refused
// activity again, with the same bytes, until it is accepted.
type load struct {
	t     *testing.T
	hosts *hosts
	nodes []*testNode
	done  chan struct{}
	work  sync.WaitGroup
	turn  sync.RWMutex // held for reading while a call is made

	mu       sync.Mutex
	accepted map[string]acceptedView // guarded by mu: by the number of the activity
	refused  int                     // guarded by mu: calls
}

// startLoad begins to post.
func startLoad(t *testing.T, h *hosts, nodes ...*testNode) *load {
	t.Helper()
	l := &load{t: t, hosts: h, nodes: nodes, done: make(chan struct{}), accepted: map[string]acceptedView{}}
	for app := range loadApps {
		l.work.Go(func() { l.post(app) })
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) post(app int) {
	for i := app; ; i += loadApps {
		select {
		case <-l.done:
			return
		case <-time.After(loadPause):
		}
		id, node := strconv.Itoa(i), l.nodes[i/loadApps%len(l.nodes)]
		call := submission{activity: like(id), inboxes: l.hosts.urls()}.String()
		a, ok := l.try(node, id, call)
		for ; !ok && l.t.Context().Err() == nil; a, ok = l.try(node, id, call) {
			time.Sleep(retryPause)
		}
		if ok {
			l.mu.Lock()
			l.accepted[id] = a
			l.mu.Unlock()
		}
	}
}

// try posts once, under the Idempotency-Key id, and reports whether the call was accepted. A refusal must come
// soon and have a Retry-After.
func (l *load) try(n *testNode, id, call string) (view acceptedView, ok bool) {
	l.turn.RLock()
	defer l.turn.RUnlock()
	began := time.Now()
	a, err := n.Try(http.MethodPost, "/v1/activities", strings.NewReader(call), "Idempotency-Key", id)
	if l.t.Context().Err() != nil {
		return view, false
	}
	if err != nil || time.Since(began) > longAnswer {
		l.t.Errorf("a call ended after %s with %v", time.Since(began), err)
		return view, false
	}
	if a.Status == http.StatusAccepted {
		if view, err = decode[acceptedView](a.Body); err != nil || view.Accepted != len(l.hosts.inboxes) {
			l.t.Errorf("accepted %s, %v", a.Body, err)
		}
		return view, true
	}
	seconds, _ := strconv.Atoi(a.Header.Get("Retry-After"))
	if p, err := problemOf(a); err != nil || p.Status != a.Status || seconds < 1 ||
		a.Status != http.StatusServiceUnavailable && a.Status != http.StatusTooManyRequests {
		l.t.Errorf("refused with %d, Retry-After %q, %s, %v", a.Status, a.Header.Get("Retry-After"), a.Body, err)
	}
	l.mu.Lock()
	l.refused++
	l.mu.Unlock()
	return view, false
}

// stop ends the load after the current activity.
func (l *load) stop() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.work.Wait()
}

// between calls a function while no call is in flight.
func (l *load) between(do func()) {
	l.turn.Lock()
	defer l.turn.Unlock()
	do()
}

// count returns how many activities were accepted so far, and how many calls refused.
func (l *load) count() (accepted, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted), l.refused
}

// awaitMore waits until n more activities were accepted, and as many deliveries arrived.
func (l *load) awaitMore(n int) {
	l.t.Helper()
	before, _ := l.count()
	arrived := l.hosts.count()
	harness.Eventually(l.t, fmt.Sprintf("%d more are accepted and delivered", n), func() bool {
		now, _ := l.count()
		return now >= before+n && l.hosts.count() >= arrived+n
	})
}

// check ends the load and checks all promises: everything arrived, nothing was counted against a host, and no attempt was
// spent in vain (the nodes have --max-attempts 1, so such a delivery would be dead). It
// returns how many requests were repeats.
func (l *load) check() (repeats int) {
	l.t.Helper()
	l.stop()
	want, node := map[string]bool{}, l.nodes[0]
	for id, a := range l.accepted {
		want[id] = true
		if got := node.settled(a); got != (countsView{Total: a.Accepted, Delivered: a.Accepted}) {
			l.t.Errorf("activity %s has counts %+v, dead letters %+v", id, got, node.deadLetters(""))
		}
	}
	for i, in := range l.hosts.inboxes {
		got := arrivals(l.t, in)
		for id, n := range got {
			repeats += n - 1
			if !want[id] {
				l.t.Errorf("host %d got %s, which was not accepted", i, id)
			}
		}
		if len(got) != len(want) {
			l.t.Errorf("host %d got %d activities of %d", i, len(got), len(want))
		}
	}
	node.holdsNothingAgainst(l.hosts)
	accepted, refused := l.count()
	l.t.Logf("%d activities, %d calls refused, %d deliveries repeated", accepted, refused, repeats)
	return repeats
}

// holdsNothingAgainst checks that no failure is counted for any of the hosts, and that all work for them is done.
func (n *testNode) holdsNothingAgainst(hosts *hosts) {
	n.T.Helper()
	for i := range hosts.inboxes {
		if h := n.host(hosts.Host(i)); h.Breaker.Failures != 0 || h.FailureDays != 0 || h.LastError.Outcome != "" || h.Pending != 0 {
			n.T.Errorf("a fault of ours is counted against host %d: %+v", i, h)
		}
	}
}

// complaints returns the warnings and errors in a node's log after a length.
func (n *testNode) complaints(since int) []string {
	return slices.DeleteFunc(n.logged(since), func(line string) bool { return strings.Contains(line, `"level":"INFO"`) })
}

// logged returns the lines of a node's log after a length.
func (n *testNode) logged(since int) []string {
	return slices.Collect(strings.Lines(n.Out.String()[since:]))
}
