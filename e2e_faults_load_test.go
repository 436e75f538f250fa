package main

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	loadApps   = 8
	loadPause  = 150 * time.Millisecond // between two activities of one app
	retryPause = 20 * time.Millisecond  // after a refusal
	longAnswer = 20 * time.Second       // no call may take so long, whatever the store does
)

// load are apps that post activities for all hosts, in turn to all nodes, for as long as the test wants. What is refused
// they post again, with the same bytes, until it is accepted.
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
		a, ok := l.try(node, call)
		for ; !ok && l.t.Context().Err() == nil; a, ok = l.try(node, call) {
			time.Sleep(retryPause)
		}
		if ok {
			l.mu.Lock()
			l.accepted[id] = a
			l.mu.Unlock()
		}
	}
}

// try posts once, and tells whether the call was accepted. A refusal has to say when to come again, and to come soon.
func (l *load) try(n *testNode, call string) (view acceptedView, ok bool) {
	l.turn.RLock()
	defer l.turn.RUnlock()
	began := time.Now()
	a, err := n.try(http.MethodPost, "/v1/activities", strings.NewReader(call))
	if l.t.Context().Err() != nil {
		return view, false
	}
	if err != nil || time.Since(began) > longAnswer {
		l.t.Errorf("a call ended after %s with %v", time.Since(began), err)
		return view, false
	}
	if a.status == http.StatusAccepted {
		if view, err = decode[acceptedView](a.body); err != nil || view.Accepted != len(l.hosts.inboxes) {
			l.t.Errorf("accepted %s, %v", a.body, err)
		}
		return view, true
	}
	seconds, _ := strconv.Atoi(a.header.Get("Retry-After"))
	if p, err := a.problem(); err != nil || p.Status != a.status || seconds < 1 ||
		a.status != http.StatusServiceUnavailable && a.status != http.StatusTooManyRequests {
		l.t.Errorf("refused with %d, Retry-After %q, %s, %v", a.status, a.header.Get("Retry-After"), a.body, err)
	}
	l.mu.Lock()
	l.refused++
	l.mu.Unlock()
	return view, false
}

// stop ends the load with the activity it is at.
func (l *load) stop() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.work.Wait()
}

// between does something while no call is under way, so that all that was accepted was accepted before.
func (l *load) between(do func()) {
	l.turn.Lock()
	defer l.turn.Unlock()
	do()
}

// count tells how many activities were accepted so far, and how many calls refused.
func (l *load) count() (accepted, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted), l.refused
}

// awaitMore waits until so many more activities were accepted, and as many deliveries arrived.
func (l *load) awaitMore(n int) {
	l.t.Helper()
	before, _ := l.count()
	arrived := l.hosts.count()
	eventually(l.t, fmt.Sprintf("%d more are accepted and delivered", n), func() bool {
		now, _ := l.count()
		return now >= before+n && l.hosts.count() >= arrived+n
	})
}

// check ends the load and holds that all it was promised was kept: everything arrived, nothing was counted against a
// host, and no attempt was spent for nothing (the nodes have --max-attempts 1, so such a delivery would be dead). It
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

// holdsNothingAgainst holds that no failure is counted for any of the hosts, and that all work for them is done.
func (n *testNode) holdsNothingAgainst(hosts *hosts) {
	n.t.Helper()
	for i := range hosts.inboxes {
		if h := n.host(hosts.Host(i)); h.Breaker.Failures != 0 || h.FailureDays != 0 || h.LastError.Outcome != "" || h.Pending != 0 {
			n.t.Errorf("a fault of ours is counted against host %d: %+v", i, h)
		}
	}
}

// complaints returns the warnings and errors that a node wrote since it had written so much.
func (n *testNode) complaints(since int) []string {
	return slices.DeleteFunc(n.logged(since), func(line string) bool { return strings.Contains(line, `"level":"INFO"`) })
}

// logged returns the lines that a node wrote since it had written so much.
func (n *testNode) logged(since int) []string {
	return slices.Collect(strings.Lines(n.out.String()[since:]))
}
