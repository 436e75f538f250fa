package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// heard is an event, with all members that events may have.
type heard struct {
	kind        string
	ID, Inbox   string
	ActivityID  string `json:"activity_id"`
	Host, State string
	Reason, At  string
	Attempts    int
	LastAttempt attemptView `json:"last_attempt"`
	URL         string
	Fleet       struct {
		Pending   int
		Delivered int64
		Died      map[string]int64
	}
	Node struct {
		Signing  string
		Attempts map[string]int64
	}
}

// listener keeps the events that a node publishes.
type listener struct {
	done chan struct{} // closed when the stream has ended

	mu     sync.Mutex
	events []heard // guarded by mu
}

// events begins to listen; the query is that of /v1/events.
func (n *testNode) events(query string) *listener {
	n.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL("/v1/events"+query), nil)
	if err != nil {
		n.T.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.Token)
	resp, err := n.Client.Do(req)
	if err != nil {
		n.T.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		n.T.Fatalf("events: %d %s", resp.StatusCode, got)
	}
	l := &listener{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		defer resp.Body.Close()
		l.read(bufio.NewScanner(resp.Body))
	}()
	n.T.Cleanup(func() { cancel(); <-l.done })
	return l
}

func (l *listener) read(lines *bufio.Scanner) {
	lines.Buffer(nil, 1<<20)
	kind := ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			kind = name
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			e := heard{kind: kind}
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				e.kind = "not JSON: " + data
			}
			l.mu.Lock()
			l.events = append(l.events, e)
			l.mu.Unlock()
		}
	}
}

// find returns the first event that matches.
func (l *listener) find(wanted func(heard) bool) (heard, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if wanted(e) {
			return e, true
		}
	}
	return heard{}, false
}

// awaitEvent waits for an event.
func (l *listener) awaitEvent(t *testing.T, what string, wanted func(heard) bool) (e heard) {
	t.Helper()
	harness.Eventually(t, what, func() (ok bool) { e, ok = l.find(wanted); return ok })
	return e
}

// TestEvents checks that subscribers get events of deliveries, dead letters, states of hosts and totals, only of
// those that they asked for, and that they don't keep a node from stopping.
func TestEvents(t *testing.T) { onBothStores(t, testEvents) }

func testEvents(t *testing.T, s store) {
	h := startHosts(t, 2, func(i int) testinbox.Options {
		return replies(testinbox.Reply{Status: []int{http.StatusAccepted, http.StatusGone}[i]})
	})
	node := s.startNode(t, "--shutdown-timeout", "5m")
	all, some := node.events(""), node.events("?type=dead,host_state&host="+h.Host(0))
	all.awaitEvent(t, "the totals at once", func(e heard) bool { return e.kind == "stats" && e.Fleet.Died != nil && e.Node.Signing != "" })
	// Other nodes learn of a subscriber only after a while, so more than one of each may be needed.
	var a acceptedView
	harness.Eventually(t, "deliveries are told", func() bool {
		a = node.accept(submission{activity: like(lastPart(a.ID) + "x"), inboxes: h.urls()})
		node.settled(a)
		_, ok := all.find(func(e heard) bool { return e.kind == "delivered" })
		return ok
	})
	a = node.accept(submission{activity: like("told"), inboxes: h.urls()})
	delivered := all.awaitEvent(t, "the delivery", func(e heard) bool { return e.kind == "delivered" && lastPart(e.ActivityID) == "told" })
	if delivered.Inbox != h.Inbox(0, "/inbox") || delivered.Host != h.Host(0) || delivered.URL != a.URL || delivered.Attempts != 1 ||
		delivered.LastAttempt.Outcome != "delivered" || delivered.At == "" || delivered.Reason != "" {
		t.Errorf("delivered: %+v", delivered)
	}
	dead := all.awaitEvent(t, "the death", func(e heard) bool { return e.kind == "dead" && lastPart(e.ActivityID) == "told" })
	letters := node.deadLetters("host=" + h.Host(1))
	if dead.ID != letters[0].ID || dead.Reason != "gone" || dead.Host != h.Host(1) || dead.LastAttempt.Status != http.StatusGone {
		t.Errorf("dead: %+v, letter %+v", dead, letters[0])
	}
	node.act(h.Host(1), "pause")
	node.act(h.Host(0), "pause")
	waiting := node.deliver(like("waiting"), h.Inbox(0, "/inbox"))
	node.act(h.Host(0), "block")
	for _, l := range []*listener{all, some} {
		l.awaitEvent(t, "the pause", func(e heard) bool { return e.kind == "host_state" && e.Host == h.Host(0) && e.State == "paused" })
		l.awaitEvent(t, "the block", func(e heard) bool { return e.kind == "host_state" && e.Host == h.Host(0) && e.State == "blocked" })
		l.awaitEvent(t, "the death of what waited", func(e heard) bool {
			return e.kind == "dead" && e.URL == waiting.URL && e.Reason == "host_blocked" && e.Attempts == 0
		})
	}
	all.awaitEvent(t, "the other pause", func(e heard) bool { return e.kind == "host_state" && e.Host == h.Host(1) })
	if e, ok := some.find(func(e heard) bool { return e.Host != h.Host(0) || e.kind == "delivered" }); ok {
		t.Errorf("not asked for: %+v", e)
	}
	node.Stop()
	for _, l := range []*listener{all, some} {
		harness.Eventually(t, "the stream ends", func() bool {
			select {
			case <-l.done:
				return true
			default:
				return false
			}
		})
	}
	if strings.Contains(node.Out.String(), "node.calls_cut_off") {
		t.Error("listeners were cut off instead of ended")
	}
}

// TestStats checks that the totals describe the store and the node that answers.
func TestStats(t *testing.T) { onBothStores(t, testStats) }

func testStats(t *testing.T, s store) {
	h := startHosts(t, 2, func(i int) testinbox.Options {
		return replies(testinbox.Reply{Status: []int{http.StatusAccepted, http.StatusGone}[i]})
	})
	node := s.startNode(t)
	node.settled(node.accept(submission{activity: like("1"), inboxes: h.urls()}))
	type stats struct {
		Fleet struct {
			Delivered, Dropped int64
			Died               map[string]int64
			PerSecond          struct{ Accepted, Delivered, Dead float64 } `json:"per_second"`
		}
		Node struct {
			Version, Signing string
			InFlight         int `json:"in_flight"`
			Attempts         map[string]int64
			PerSecond        struct{ Attempts float64 } `json:"per_second"`
		}
	}
	check := func(attempts int64) {
		t.Helper()
		got := get[stats](node, "/v1/stats")
		if got.Fleet.Delivered != 1 || got.Fleet.Died["gone"] != 1 || got.Fleet.Died["lane_full"] != 0 || got.Fleet.Dropped != 0 {
			t.Errorf("fleet %+v", got.Fleet)
		}
		if n := got.Node; n.Attempts["delivered"] != attempts || n.Attempts["gone"] != attempts || n.Signing == "" || n.Version == "" {
			t.Errorf("node %+v", n)
		}
		if attempts == 0 {
			return
		}
		if r := got.Fleet.PerSecond; r.Accepted <= 0 || r.Delivered <= 0 || r.Dead <= 0 || got.Node.PerSecond.Attempts <= 0 {
			t.Errorf("rates %+v, %+v", r, got.Node.PerSecond)
		}
	}
	harness.Eventually(t, "both attempts are counted", func() bool {
		n := get[stats](node, "/v1/stats").Node.Attempts
		return n["gone"] == 1 && n["delivered"] == 1
	})
	check(1)
	metrics := node.Call(http.MethodGet, "/metrics", "").Body
	for _, want := range []string{`postrider_dead_letters_made_total{reason="gone"} 1`, "postrider_dead_letters_dropped_total 0", `postrider_attempts_total{outcome="gone"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	node.Restart()
	check(0)
}
