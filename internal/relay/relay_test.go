package relay

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postrider/postrider/internal/testpostgres"
)

// patience is how long a test waits for anything on a busy machine.
const patience = 60 * time.Second

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// rig is an outbox, a node, and what relays work on both.
type rig struct {
	t      *testing.T
	server *testpostgres.Server
	url    string // of the database
	db     *pgx.Conn
	node   *node
}

// TestOutbox runs the tests that need a database, each with one of its own on the same server.
func TestOutbox(t *testing.T) {
	server := testpostgres.Start(t)
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, g *rig)
	}{
		{"Committed", testCommitted},
		{"Notified", testNotified},
		{"NotifiedWhileBusy", testNotifiedWhileBusy},
		{"Polled", testPolled},
		{"Line", testLine},
		{"TableRefuses", testTableRefuses},
		{"InstallAgain", testInstallAgain},
		{"Refused", testRefused},
		{"OrderWithSeveralRelays", testOrderWithSeveralRelays},
		{"SlotsAreShared", testSlotsAreShared},
		{"Bounds", testBounds},
		{"LostLock", testLostLock},
		{"Stop", testStop},
		{"Ready", testReady},
		{"Metrics", testMetrics},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newRig(t, server)) })
	}
}

// newRig makes a database with an outbox, and starts a node.
func newRig(t *testing.T, server *testpostgres.Server) *rig {
	t.Helper()
	g := &rig{t: t, server: server, url: server.Database(), node: startNode(t)}
	g.db = testpostgres.Connect(t, g.url)
	if err := g.relay().Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *rig) relay(change ...func(*Options)) *Relay {
	g.t.Helper()
	o := Options{
		Database: g.url, URL: g.node.URL, Poll: 200 * time.Millisecond, Timeout: 10 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	r, err := New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// start runs a relay until the test ends or stop is called.
func (g *rig) start(change ...func(*Options)) (r *Relay, stop func()) {
	r = g.relay(change...)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	g.t.Cleanup(stop)
	return r, stop
}

func (g *rig) exec(query string, args ...any) {
	g.t.Helper()
	if _, err := g.db.Exec(g.t.Context(), query, args...); err != nil {
		g.t.Fatalf("%s: %v", query, err)
	}
}

// insert commits a row for each number, with the ordering key that key returns, "" for none.
func (g *rig) insert(from, to int, key func(i int) string) {
	g.t.Helper()
	batch := &pgx.Batch{}
	for i := from; i < to; i++ {
		batch.Queue("INSERT INTO postrider_outbox (call, ordering_key) VALUES ($1, nullif($2, ''))", fmt.Sprintf(`{"Number":%d}`, i), key(i))
	}
	if err := g.db.SendBatch(g.t.Context(), batch).Close(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) rows(where string) (n int) {
	g.t.Helper()
	if err := g.db.QueryRow(g.t.Context(), "SELECT count(*) FROM postrider_outbox WHERE "+where).Scan(&n); err != nil {
		g.t.Fatal(err)
	}
	return n
}

func (g *rig) drained() {
	g.t.Helper()
	eventually(g.t, "all rows are settled", func() bool { return g.rows("refused_at IS NULL") == 0 })
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

func noKey(int) string { return "" }

// testCommitted: rows of committed transactions are handed over, and those of others are not.
func testCommitted(t *testing.T, g *rig) {
	g.start(func(o *Options) { o.Token = "the-token" })
	for i := range 20 {
		tx, err := g.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "INSERT INTO postrider_outbox (call) VALUES ($1)", fmt.Sprintf(`{"Number":%d}`, i)); err != nil {
			t.Fatal(err)
		}
		end := tx.Commit
		if i%2 == 1 {
			end = tx.Rollback
		}
		if err := end(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the rows are handed over", func() bool { return g.node.count() >= 10 })
	g.drained()
	want := []int{0, 2, 4, 6, 8, 10, 12, 14, 16, 18}
	if diff := cmp.Diff(want, g.node.numbers()[""]); diff != "" || g.node.token != "Bearer the-token" {
		t.Errorf("token %q, %s", g.node.token, diff)
	}
}

// testNotified: a row is handed over long before the relay would look for it.
func testNotified(t *testing.T, g *rig) {
	r, _ := g.start(func(o *Options) { o.Poll = time.Hour })
	eventually(t, "the relay is ready", func() bool { _, err := r.Ready(); return err == nil })
	for i := range 3 {
		g.insert(i, i+1, noKey)
		eventually(t, "the row is handed over", func() bool { return g.node.count() == i+1 })
	}
}

// testNotifiedWhileBusy: a notification that came during a query ends the next wait.
func testNotifiedWhileBusy(t *testing.T, g *rig) {
	w := &worker{Relay: g.relay(func(o *Options) { o.Poll = time.Hour })}
	if err := w.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer closeConn(t.Context(), w.conn)
	g.insert(0, 1, noKey)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !w.notified && ctx.Err() == nil {
		if _, err := w.conn.Exec(ctx, "SELECT 1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.await(ctx); err != nil || ctx.Err() != nil || w.notified {
		t.Errorf("the wait ended with %v, %v; notified %t", err, ctx.Err(), w.notified)
	}
}

// testPolled: without the trigger, rows are found by looking for them.
func testPolled(t *testing.T, g *rig) {
	g.exec("DROP TRIGGER postrider_outbox_notify ON postrider_outbox")
	g.start()
	for i := range 3 {
		g.insert(i, i+1, noKey)
		eventually(t, "the row is handed over", func() bool { return g.node.count() == i+1 })
	}
}

// testLine: a call goes into one line with the keys of its row; of its bytes nothing changes but line breaks.
func testLine(t *testing.T, g *rig) {
	calls := []string{"{\n  \"Number\": 1,\r\n  \"activity\": \"{\\n }\", \"é\": 1.50\n}\n", " {}", `{"ordering_key":"twice"}`}
	for i, call := range calls {
		g.exec("INSERT INTO postrider_outbox (call, ordering_key, created_at) VALUES ($1, $2, 'epoch'::timestamptz + interval '7 us')",
			call, []any{"a \"key\"", nil, "k"}[i])
	}
	_, rows := g.claim(g.worker())
	var got []string
	for _, row := range rows {
		var line bytes.Buffer
		row.appendLine(&line)
		got = append(got, line.String())
	}
	want := []string{
		`{"idempotency_key":"outbox-1-7","ordering_key":"a \"key\"","Number": 1,` + "\r" + `   "activity": "{\n }", "é": 1.50 } ` + "\n",
		`{"idempotency_key":"outbox-2-7"}` + "\n",
		`{"idempotency_key":"outbox-3-7","ordering_key":"k","ordering_key":"twice"}` + "\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// testTableRefuses: what could never be a call fails in the app's own transaction.
func testTableRefuses(t *testing.T, g *rig) {
	for _, call := range []string{`''`, `'no JSON'`, `'[]'`, `'"{}"'`, `'{} {}'`, `NULL`, `'{"a":"' || repeat('x', 60000000) || '"}'`} {
		if _, err := g.db.Exec(t.Context(), "INSERT INTO postrider_outbox (call) VALUES ("+call+")"); err == nil {
			t.Errorf("accepted %s", call)
		}
	}
}

// testInstallAgain: the tables may be made again, also by several at the same time, and keep their rows.
func testInstallAgain(t *testing.T, g *rig) {
	g.insert(0, 3, noKey)
	var installing sync.WaitGroup
	for range 4 {
		r := g.relay()
		installing.Go(func() {
			if err := r.Install(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	installing.Wait()
	if got := g.rows("true"); got != 3 {
		t.Errorf("%d rows", got)
	}
}

// testRefused: a row that the node refuses stays with the reason, and holds nothing back; it is handed over once it is put
// back.
func testRefused(t *testing.T, g *rig) {
	g.exec(`INSERT INTO postrider_outbox (call) VALUES ('{"Number":0}'), ('{"Number":1,"Fate":"refused"}'), ('{"Number":2}')`)
	g.start()
	g.drained()
	if diff := cmp.Diff([]int{0, 2}, g.node.numbers()[""]); diff != "" {
		t.Error(diff)
	}
	var call, code string
	query := "SELECT call, reason->'errors'->0->>'code' FROM postrider_outbox WHERE refused_at <= now()"
	if err := g.db.QueryRow(t.Context(), query).Scan(&call, &code); err != nil || code != "unknown_key" || !strings.Contains(call, "refused") {
		t.Errorf("%s, code %q, error %v", call, code, err)
	}
	g.exec(`UPDATE postrider_outbox SET call = '{"Number":1}', refused_at = NULL, reason = NULL`)
	eventually(t, "the row is handed over", func() bool { return g.node.count() == 3 && g.rows("true") == 0 })
}

// testOrderWithSeveralRelays: four relays, of which some are stopped and started again, hand rows over while they are
// committed, to a node in all kinds of trouble. Each row arrives once, and those of a key arrive in order.
func testOrderWithSeveralRelays(t *testing.T, g *rig) {
	dice := rand.New(rand.NewPCG(1, 2))
	g.node.trouble = func(call) string { // under the node's mutex
		switch roll := dice.IntN(200); {
		case roll < 6:
			return "busy"
		case roll < 8:
			return "cut"
		case roll < 10:
			return "deaf"
		}
		return ""
	}
	const n = 2000
	key := func(i int) string { return []string{"", "a", "b", fmt.Sprint("c", i%7), fmt.Sprint("d", i%50)}[i%5] }
	var stops []func()
	for range 4 {
		_, stop := g.start()
		stops = append(stops, stop)
	}
	for i := 0; i < n; i += 100 {
		g.insert(i, i+100, key)
		if i%500 == 0 {
			stops[i/500%4]()
			_, stops[i/500%4] = g.start()
		}
		if i%700 == 0 {
			g.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postrider relay' AND random() < 0.5")
		}
	}
	g.drained()
	if diff := cmp.Diff(upTo(n), g.node.wantOrder(t)); diff != "" {
		t.Errorf("rows handed over: %s", diff)
	}
	if g.node.replayed == 0 {
		t.Error("no row was handed over again: the test is too easy")
	}
}

// worker returns a worker that a test steps itself.
func (g *rig) worker() *worker {
	return &worker{Relay: g.relay(), conn: testpostgres.Connect(g.t, g.url)}
}

// claim has a worker lock slots until the test ends, and returns the rows that it has then.
func (g *rig) claim(w *worker) (pgx.Tx, []row) {
	g.t.Helper()
	tx, rows, err := w.claim(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { rollback(context.Background(), tx) })
	return tx, rows
}

// testSlotsAreShared: while one worker has rows, others get those of other slots, also of rows that come later.
func testSlotsAreShared(t *testing.T, g *rig) {
	key := func(i int) string { return fmt.Sprint("k", i%64) }
	g.insert(0, 640, key)
	owner := map[string]int{}
	total := 0
	for i := range 5 {
		_, rows := g.claim(g.worker())
		for _, r := range rows {
			if first, taken := owner[*r.OrderingKey]; taken && first != i {
				t.Errorf("key %s was given to worker %d and to worker %d", *r.OrderingKey, first, i)
			}
			owner[*r.OrderingKey] = i
		}
		if (len(rows) > 0) != (i < 4) { // 4 slots each, of 16
			t.Errorf("worker %d got %d rows", i, len(rows))
		}
		g.insert(1000*i+1000, 1000*i+1064, key)
		total += len(rows)
	}
	if total < 640 || len(owner) != 64 {
		t.Errorf("%d rows of %d keys were claimed", total, len(owner))
	}
}

// testBounds: a batch has at most 1,000 rows and 8 MiB, or a single larger one, always the oldest.
func testBounds(t *testing.T, g *rig) {
	g.insert(0, 1100, noKey)
	w := g.worker()
	tx, rows := g.claim(w)
	var timeout string
	if err := tx.QueryRow(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&timeout); err != nil || timeout != "2min" {
		t.Errorf("a relay that hangs is waited for %s, error %v", timeout, err)
	}
	rollback(t.Context(), tx)
	if len(rows) != 1000 || rows[0].ID != 1 || rows[999].ID != 1000 {
		t.Errorf("%d rows", len(rows))
	}
	g.exec("DELETE FROM postrider_outbox")
	large := func(size int) string { return `{"x":"` + strings.Repeat("x", size) + `"}` }
	for _, size := range []int{9 << 20, 3 << 20, 3 << 20, 3 << 20} {
		g.exec("INSERT INTO postrider_outbox (call) VALUES ($1)", large(size))
	}
	for _, want := range []int{1, 2, 1} {
		tx, rows := g.claim(w)
		if len(rows) != want {
			t.Errorf("%d rows, want %d", len(rows), want)
		}
		if _, err := tx.Exec(t.Context(), "DELETE FROM postrider_outbox WHERE id <= $1", rows[len(rows)-1].ID); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// testLostLock: a relay loses its lock while its batch is under way, and another one hands over the same rows and later ones
// meanwhile. The late batch changes nothing.
func testLostLock(t *testing.T, g *rig) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var batches atomic.Int32
	g.node.whole = func(http.ResponseWriter) bool {
		if batches.Add(1) == 1 {
			close(arrived)
			<-release
		}
		return false
	}
	g.insert(0, 10, noKey)
	_, stop := g.start()
	<-arrived
	g.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postrider relay'")
	g.insert(10, 20, noKey)
	g.start()
	eventually(t, "another relay hands the rows over", func() bool { return g.node.count() == 20 })
	close(release)
	stop()
	g.drained()
	if diff := cmp.Diff(upTo(20), g.node.wantOrder(t)); diff != "" || g.node.replayed < 10 {
		t.Errorf("%d rows were repeated; %s", g.node.replayed, diff)
	}
}

// testStop: a relay that is told to stop finishes the call under way, and settles its rows.
func testStop(t *testing.T, g *rig) {
	arrived, release := make(chan struct{}), make(chan struct{})
	g.node.whole = func(http.ResponseWriter) bool {
		close(arrived)
		<-release
		return false
	}
	g.insert(0, 10, noKey)
	_, stop := g.start()
	<-arrived
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	stop()
	if left := g.rows("true"); left != 0 || g.node.count() != 10 {
		t.Errorf("%d rows were accepted, %d are left", g.node.count(), left)
	}
}

// TestNodeAway: whatever the node answers to a whole batch, no row is refused for it.
func TestNodeAway(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"unauthorized": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"detail":"a bearer token is needed"}`)
		},
		"too large for a proxy": func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestEntityTooLarge) },
		"a page":                func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"another service":       func(w http.ResponseWriter) { fmt.Fprint(w, `{"ok":true}`) },
		"nothing":               func(http.ResponseWriter) {},
		"moved": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/v2")
			w.WriteHeader(http.StatusPermanentRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t)
			n.whole = func(w http.ResponseWriter) bool { answer(w); return true }
			g := rig{t: t, url: "postgres://localhost/", node: n}
			all := g.relay().handOver(t.Context(), []row{{ID: 1, Call: "{}"}})
			if all.away == nil || len(all.accepted)+len(all.refused) > 0 || n.calls != 1 {
				t.Errorf("got %+v after %d calls", all, n.calls)
			}
		})
	}
}

// TestRetryAfter: the relay waits as long as the node asks, up to a bound.
func TestRetryAfter(t *testing.T) {
	for seconds, want := range map[string]time.Duration{"7": 7 * time.Second, "86400": longestWait, "soon": 0} {
		n := startNode(t)
		n.whole = func(w http.ResponseWriter) bool {
			w.Header().Set("Retry-After", seconds)
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		g := rig{t: t, url: "postgres://localhost/", node: n}
		if all := g.relay().handOver(t.Context(), []row{{ID: 1, Call: "{}"}}); all.retryAfter != want {
			t.Errorf("%s: waits for %s", seconds, all.retryAfter)
		}
	}
}

// testReady: the relay reports what is missing, and goes on by itself once it is there.
func testReady(t *testing.T, g *rig) {
	registry := prometheus.NewRegistry()
	idle := g.relay()
	r, _ := g.start(func(o *Options) { o.Registry = registry })
	ask := func(r *Relay) string {
		rec := httptest.NewRecorder()
		r.Handler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return fmt.Sprint(rec.Code, " ", strings.TrimSpace(rec.Body.String()))
	}
	const ok = `200 {"status":"ok"}`
	notReady := func(reason string) string {
		return fmt.Sprintf(`503 {"detail":%q,"reason":%q,"status":503,"title":"Service Unavailable","type":"about:blank"}`, reason, reason)
	}
	if got := ask(idle); got != notReady("starting") {
		t.Errorf("got %s", got)
	}
	eventually(t, "the relay is ready", func() bool { return ask(r) == ok })
	g.node.setWhole(func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusBadGateway); return true })
	g.insert(0, 1, noKey)
	eventually(t, "the node is away", func() bool { return ask(r) == notReady("node") })
	g.server.Kill()
	eventually(t, "the database is away", func() bool { return ask(r) == notReady("database") })
	g.node.setWhole(nil)
	g.server.Run()
	eventually(t, "the relay is ready", func() bool { return ask(r) == ok && g.node.count() == 1 })
	g.db = testpostgres.Connect(t, g.url)
	g.exec("DROP TABLE postrider_outbox")
	eventually(t, "there is no table", func() bool { return ask(r) == notReady("database") })
	if _, err := r.Ready(); !strings.Contains(err.Error(), "--install=apply") {
		t.Errorf("got %v", err)
	}
}

// testMetrics: the metrics count rows by their result, and show what waits.
func testMetrics(t *testing.T, g *rig) {
	g.node.setWhole(func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusBadGateway); return true })
	g.exec(`INSERT INTO postrider_outbox (call, created_at) VALUES ('{"Number":0}', now() - interval '1 hour'), ('{"Fate":"refused"}', now())`)
	registry := prometheus.NewRegistry()
	g.start(func(o *Options) { o.Registry = registry })
	eventually(t, "the oldest row is shown", func() bool { return value(t, registry, "postrider_relay_oldest_waiting_seconds", "") >= 3600 })
	g.node.setWhole(nil)
	g.drained()
	eventually(t, "nothing waits", func() bool {
		return value(t, registry, "postrider_relay_oldest_waiting_seconds", "") == 0 && value(t, registry, "postrider_relay_refused_rows", "") == 1
	})
	for result, want := range map[string]float64{"accepted": 1, "replayed": 0, "refused": 1} {
		if got := value(t, registry, "postrider_relay_rows_total", result); got != want {
			t.Errorf("%s: %v", result, got)
		}
	}
	if got := value(t, registry, "postrider_relay_inboxes_rejected_total", ""); got != 1 {
		t.Errorf("%v inboxes were rejected", got)
	}
}

// value returns the value of a counter or a gauge, with a label if it has one.
func value(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestBadDatabase: the error names no password.
func TestBadDatabase(t *testing.T) {
	_, err := New(Options{Database: "postgres://app:hunter2@[::1/db"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}
