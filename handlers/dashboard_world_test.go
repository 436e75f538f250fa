package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
)

// world is a store with hosts in several states and some dead letters.
type world struct {
	t     *testing.T
	store *embedded.Store
	token uint64
	fleet atomic.Pointer[queue.FleetStatus] // the nodes; nil are those of the store
}

// fleetStore is the store of a world with the nodes of that world.
type fleetStore struct {
	queue.Queue
	w *world
}

func (s fleetStore) Nodes(ctx context.Context) (queue.FleetStatus, error) {
	if fleet := s.w.fleet.Load(); fleet != nil {
		return *fleet, nil
	}
	return s.Queue.Nodes(ctx)
}

// someNodes is a fleet in the middle of an upgrade.
func someNodes() *queue.FleetStatus {
	now := time.Now()
	node := func(name, version string, inFlight, partitions int) queue.Node {
		return queue.Node{
			Name: name, NodeInfo: queue.NodeInfo{Version: version, StartedAt: now.Add(-49*time.Hour - 30*time.Minute), InFlight: inFlight, Concurrency: 512},
			Delivers: true, HasRoom: true, Partitions: partitions, HeardAt: now,
		}
	}
	calls := queue.Node{Name: "api-0-b01d77", NodeInfo: queue.NodeInfo{Version: "1.2.3", StartedAt: now.Add(-49*time.Hour - 30*time.Minute)}, HeardAt: now}
	self, full := node("web-1-3f9a2c", "1.2.3", 137, 22), node("web-3-77c0de", "1.2.3", 512, 0)
	self.Self, full.HasRoom = true, false
	return &queue.FleetStatus{Partitions: 64, Nodes: []queue.Node{calls, self, node("web-2-9d8e01", "1.3.0", 3, 21), full}}
}

const (
	evil     = `<img src=x onerror="window.hit = 1"><script>window.hit = 1</script>`
	evilHost = `<b onclick="window.hit=1">bold</b>.example`
)

func newWorld(t *testing.T) *world {
	w := newStore(t)
	for i := range 60 {
		w.post(fmt.Sprintf("h%02d.example", i), 1)
	}
	alive := &queue.HostRecord{Breaker: breaker.Record{LastSuccess: time.Now()}}
	w.post("ok.example", 2)
	w.settle("ok.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Delivered})
	w.settle("ok.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Delivered})

	bad := &queue.LastAttempt{At: time.Now(), Status: 502, Outcome: "server_error", Error: evil}
	w.post(evilHost, 1)
	w.settle(evilHost, queue.Settlement{Host: &queue.HostRecord{Breaker: breaker.Record{Failed: true, Failures: 1}, LastError: bad}},
		queue.Result{Verdict: queue.Retry, After: time.Hour, Attempt: bad})
	w.post("open.example", 1)
	away := &queue.LastAttempt{At: time.Now(), Outcome: "unreachable", Error: "connection refused"}
	w.settle("open.example", queue.Settlement{Wait: 90 * time.Minute, Host: &queue.HostRecord{
		Breaker: breaker.Record{State: breaker.Open, Failed: true, Failures: 10}, LastError: away,
	}}, queue.Result{Verdict: queue.Retry, After: time.Hour, Attempt: away})

	refused := &queue.LastAttempt{At: time.Now(), Status: 403, Outcome: "rejected", Error: "your server is blocked here"}
	gone := &queue.LastAttempt{At: time.Now(), Status: 410, Outcome: "gone", Error: evil}
	w.fleet.Store(someNodes())
	w.post("gone.example", 2)
	w.settle("gone.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Dead, Reason: queue.ReasonRejected, Attempt: refused})
	w.settle("gone.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Attempt: gone})
	return w
}

// newStore is a world without anything in it.
func newStore(t *testing.T) *world {
	store, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t: t, store: store}
}

// url serves the API of the world, as long as the world lasts.
func (w *world) url(change ...func(*Options)) string {
	g := newRig(w.t, append(change, func(o *Options) { o.Queue = fleetStore{w.store, w} })...)
	srv := httptest.NewServer(withPast(g.handler))
	w.t.Cleanup(srv.Close)
	return srv.URL
}

// withPast answers GET /v1/stats/history, like a node that was up for long.
func withPast(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/stats/history") {
			next.ServeHTTP(w, r)
			return
		}
		step, steps := time.Minute, 60
		if r.URL.Query().Get("minutes") != "60" {
			step, steps = 10*time.Minute, 144
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(past(time.Now().Add(-time.Duration(steps)*step).Truncate(step), step, steps))
	})
}

// past is a history of waves.
func past(from time.Time, step time.Duration, steps int) map[string]any {
	items := make([]map[string]any, steps)
	for i := range items {
		wave := 1 + math.Sin(float64(i)/7)
		items[i] = map[string]any{
			"at": stamp(from.Add(time.Duration(i) * step)), "accepted": int(2600 * wave), "delivered": int(2500 * wave), "dead": int(60 * wave * wave),
			"attempts":   map[string]int{"delivered": int(2500 * wave), "server_error": int(120 * wave), "unreachable": 90, "unauthorized": int(50 * wave), "throttled": 20},
			"pending":    1200 + int(300*wave),
			"latency_ms": map[string]int{"p50": 180 + int(40*wave), "p95": 900 + int(1200*wave)},
		}
	}
	return map[string]any{"step_seconds": int(step.Seconds()), "items": items}
}

// post accepts n activities for an inbox of a host.
func (w *world) post(host string, n int) {
	w.t.Helper()
	for range n {
		w.accept(&queue.Activity{}, "https://"+host+"/inbox?"+evil)
	}
}

// accept accepts an activity for inboxes, and returns its ID.
func (w *world) accept(a *queue.Activity, inboxes ...string) string {
	w.t.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	a.ID, a.OrderingKey = id, id
	a.KeyID = alice
	a.Priority = queue.Normal
	if a.URI == "" {
		a.URI = id
	}
	if a.Body == nil {
		a.Body = []byte("{}")
	}
	s := queue.Submission{Activity: *a, TTL: time.Hour, Idempotency: queue.Idempotency{Key: [32]byte([]byte(id))}}
	for _, inbox := range inboxes {
		host, _, _ := strings.Cut(strings.TrimPrefix(inbox, "https://"), "/inbox")
		s.Recipients = append(s.Recipients, queue.Recipient{Inbox: inbox, Host: host})
	}
	if _, err := w.store.Enqueue(w.t.Context(), &s); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// settle takes one delivery of a host and settles it with the result.
func (w *world) settle(host string, s queue.Settlement, r queue.Result) {
	w.t.Helper()
	w.token++
	lease := lockmgr.Lease{Host: host, Token: w.token, TTL: time.Minute}
	turns, err := w.store.Take(w.t.Context(), []lockmgr.Lease{lease}, 1)
	if err != nil || len(turns) != 1 || len(turns[0].Deliveries) != 1 {
		w.t.Fatalf("took %+v of %s: %v", turns, host, err)
	}
	r.ID, r.Spent = turns[0].Deliveries[0].ID, true
	s.Results, s.Release = []queue.Result{r}, true
	if _, err := w.store.Settle(w.t.Context(), lease, s, 0); err != nil {
		w.t.Fatal(err)
	}
}
