package redisq

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ledger is what arrived at the hosts of a benchmark: which delivery, from which node, and when. Hosts and deliveries are numbered:
// an activity goes to fan hosts, those behind the hosts of the activity before.
type ledger struct {
	fan    int
	window int // requests that a host may get at a time

	first []atomic.Int32 // by delivery: the node that made it first, from 1; 0 if none did
	hosts []ledgerHost
	parts []*ledgerPart
	nodes []atomic.Int64 // deliveries that each node made first

	left         atomic.Int64 // deliveries to healthy hosts that did not arrive yet
	repeats      atomic.Int64
	lost         atomic.Int64 // repeats of deliveries that the node made that died
	overlaps     atomic.Int64 // requests to a host beyond its window
	deadAttempts atomic.Int64
	died         atomic.Int32 // the node that died, from 1

	mu    sync.Mutex
	waits []time.Duration // of the hosts that a node held as it died, from then on; guarded by mu
}

// ledgerHost is one host. What has no lock of its own is guarded by that of its partition.
type ledgerHost struct {
	part     *ledgerPart
	dead     bool
	inFlight atomic.Int32
	attempts atomic.Int32 // of a dead host
	node     int          // that made the last request
	all      int          // healthy deliveries
	left     int          // of all
	held     time.Time    // when the node died that held it; zero once it was served again
}

// ledgerPart is one partition.
type ledgerPart struct {
	mu        sync.Mutex
	left      int           // deliveries that may arrive now: those to hosts that a dead node holds may not; guarded by mu
	delivered int           // guarded by mu
	last      time.Time     // when one arrived last, or could; guarded by mu
	longest   time.Duration // pause since pause was called; guarded by mu
	node      int           // that made the last delivery; guarded by mu
}

func newLedger(hosts, fan, activities, window, nodes int, partitions int, partitionOf func(host int) int) *ledger {
	l := &ledger{
		fan: fan, window: window, first: make([]atomic.Int32, fan*activities), hosts: make([]ledgerHost, hosts),
		nodes: make([]atomic.Int64, nodes),
	}
	for range partitions {
		l.parts = append(l.parts, &ledgerPart{})
	}
	for i := range l.hosts {
		l.hosts[i].part = l.parts[partitionOf(i)]
		l.hosts[i].dead = i%deadOneIn == deadOneIn-1
	}
	for n := range l.first {
		if h := &l.hosts[n%hosts]; !h.dead {
			h.all++
			h.left++
			h.part.left++
			l.left.Add(1)
		}
	}
	return l
}

// deadOneIn says that one of so many hosts is dead.
const deadOneIn = 4

// begin says that time counts from now on.
func (l *ledger) begin(now time.Time) {
	for _, p := range l.parts {
		p.last = now
	}
}

// to returns the hosts of an activity.
func (l *ledger) to(activity int) []int {
	hosts := make([]int, l.fan)
	for i := range hosts {
		hosts[i] = (activity*l.fan + i) % len(l.hosts)
	}
	return hosts
}

// delivery returns the number of the delivery of an activity to a host.
func (l *ledger) delivery(activity, host int) int {
	from := activity * l.fan
	return from + (host-from%len(l.hosts)+len(l.hosts))%len(l.hosts)
}

// enter notes that a node's request is under way to a host, and reports whether that is dead.
func (l *ledger) enter(node, host int) (dead bool) {
	h := &l.hosts[host]
	h.part.mu.Lock()
	h.node = node
	h.part.mu.Unlock()
	if int(h.inFlight.Add(1)) > l.window {
		l.overlaps.Add(1)
	}
	if h.dead {
		h.attempts.Add(1)
		l.deadAttempts.Add(1)
	}
	return h.dead
}

// leave notes that a request has ended.
func (l *ledger) leave(host int) { l.hosts[host].inFlight.Add(-1) }

// arrive notes that a delivery has arrived at a healthy host.
func (l *ledger) arrive(node, activity, host int, now time.Time) {
	first := &l.first[l.delivery(activity, host)]
	if !first.CompareAndSwap(0, int32(node)+1) {
		l.repeats.Add(1)
		if first.Load() == l.died.Load() {
			l.lost.Add(1)
		}
		return
	}
	l.nodes[node].Add(1)
	if wait := l.hosts[host].arrive(node, now, node+1 == int(l.died.Load())); wait > 0 {
		l.mu.Lock()
		l.waits = append(l.waits, wait)
		l.mu.Unlock()
	}
	l.left.Add(-1)
}

// arrive returns how long the host waited since the node died that held it, if one did. What such a node had under way may still
// arrive.
func (h *ledgerHost) arrive(node int, now time.Time, died bool) (wait time.Duration) {
	p := h.part
	p.mu.Lock()
	defer p.mu.Unlock()
	h.left--
	p.delivered++
	if died && !h.held.IsZero() {
		return 0
	}
	if h.held.IsZero() {
		p.longest = max(p.longest, now.Sub(p.last))
		p.left--
	} else {
		wait = now.Sub(h.held)
		h.held = time.Time{}
		p.left += h.left
	}
	p.node = node
	p.last = now
	return wait
}

// die notes that a node died, which held the hosts that it had begun, and returns how many.
func (l *ledger) die(node int, now time.Time) (held int) {
	l.died.Store(int32(node) + 1)
	for i := range l.hosts {
		h := &l.hosts[i]
		h.part.mu.Lock()
		if h.node == node && h.left > 0 && (h.left < h.all || h.inFlight.Load() > 0) {
			held++
			h.held = now
			h.part.left -= h.left
		}
		h.part.mu.Unlock()
	}
	return held
}

// pause returns how long any partition waited at the longest, with work that was due, since the last call of pause.
func (l *ledger) pause(now time.Time) (longest time.Duration) {
	for _, p := range l.parts {
		p.mu.Lock()
		longest = max(longest, p.longest)
		if p.left > 0 {
			longest = max(longest, now.Sub(p.last))
		}
		p.longest = 0
		p.mu.Unlock()
	}
	return longest
}

// servedSince reports whether a partition had a delivery from another node since a time, or has nothing left.
func (p *ledgerPart) servedSince(node int, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left == 0 || p.node != node && p.last.After(since)
}

// delivered returns how many deliveries each partition had, and how many each node made.
func (l *ledger) delivered() (parts, nodes []int) {
	for _, p := range l.parts {
		p.mu.Lock()
		parts = append(parts, p.delivered)
		p.mu.Unlock()
	}
	for i := range l.nodes {
		nodes = append(nodes, int(l.nodes[i].Load()))
	}
	return parts, nodes
}

// mostAttempts returns how many attempts a dead host got at most.
func (l *ledger) mostAttempts() (most int) {
	for i := range l.hosts {
		most = max(most, int(l.hosts[i].attempts.Load()))
	}
	return most
}

// TestLedger checks that the ledger of BenchmarkFleet finds repeats, requests beyond the window, pauses, and the hosts of a node
// that died.
func TestLedger(t *testing.T) {
	l := newLedger(8, 6, 4, 2, 2, 2, func(host int) int { return host % 2 })
	var all []int
	for activity := range 4 {
		for _, host := range l.to(activity) {
			all = append(all, l.delivery(activity, host))
		}
	}
	for i, n := range all {
		if n != i {
			t.Fatalf("delivery %d has the number %d", i, n)
		}
	}
	start := time.Unix(1e9, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	l.begin(start)
	if l.left.Load() != 18 || !l.enter(1, 3) || l.enter(1, 4) || l.enter(1, 4) || l.overlaps.Load() != 0 || l.enter(1, 4) || l.overlaps.Load() != 1 {
		t.Errorf("%d left, %d overlaps, want 18 and 1", l.left.Load(), l.overlaps.Load())
	}
	l.arrive(0, 0, 0, at(1))
	l.arrive(0, 0, 1, at(5))
	l.arrive(0, 0, 2, at(4))
	if got := l.pause(at(5)); got != 5*time.Second { // of partition 1, since the start
		t.Errorf("the longest pause was %s, want 5 s", got)
	}
	l.arrive(0, 1, 0, at(5))
	if got := l.pause(at(7)); got != 2*time.Second { // of both, up to now
		t.Errorf("the longest pause was %s, want 2 s", got)
	}
	if held := l.die(0, at(6)); held != 3 {
		t.Errorf("the node that died held %d hosts, want 3", held)
	}
	l.arrive(0, 1, 1, at(7)) // it was under way
	l.arrive(1, 0, 0, at(7))
	l.arrive(1, 2, 1, at(9))
	if l.repeats.Load() != 1 || l.lost.Load() != 1 || !slices.Equal(l.waits, []time.Duration{3 * time.Second}) {
		t.Errorf("%d repeats, %d of the dead node, waits of %v", l.repeats.Load(), l.lost.Load(), l.waits)
	}
	if l.left.Load() != 12 || l.mostAttempts() != 1 {
		t.Errorf("%d left, %d attempts, want 12 and 1", l.left.Load(), l.mostAttempts())
	}
}
