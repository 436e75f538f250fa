package e2e

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testpostgres"
)

// relayProcess is a relay in a process of its own.
type relayProcess struct {
	t    *testing.T
	args []string
	out  *harness.Output
	*harness.Run
}

func startRelay(t *testing.T, database string, node *testNode) *relayProcess {
	t.Helper()
	r := &relayProcess{t: t, out: &harness.Output{}, args: []string{
		"relay", "--database-url", database, "--url", node.URL(""), "--relay-listen", "127.0.0.1:0", "--poll-interval", "200ms",
		"--log-format", "json",
	}}
	r.start()
	t.Cleanup(func() {
		r.Signal(syscall.SIGKILL) // an error means that it has ended
		<-r.Done()
		if t.Failed() {
			t.Logf("the relay's log:\n%s", r.out)
		}
	})
	return r
}

func (r *relayProcess) start() { r.Run = harness.StartProcess(r.t, r.out, nil, r.args...) }

func (r *relayProcess) kill() {
	r.Signal(syscall.SIGKILL)
	<-r.Done()
	r.start()
}

// app is an app that keeps its posts in PostgreSQL, and has each delivered by a row that it inserts in the same transaction.
type app struct {
	t        *testing.T
	database string
	inbox    func(i int) string
	done     atomic.Int64 // posts that were tried
}

// run tries to make n posts, each in a transaction of its own. Every other one is rolled back. Whether a transaction was
// committed whose connection failed meanwhile, only the table shows.
func (a *app) run(ctx context.Context, n int) {
	var conn *pgx.Conn
	for i := range n {
		for conn == nil && ctx.Err() == nil {
			conn, _ = pgx.Connect(ctx, a.database) // until the database is back
		}
		if ctx.Err() != nil {
			return
		}
		if err := a.post(ctx, conn, i); err != nil {
			_ = conn.Close(ctx)
			conn = nil
		}
		a.done.Add(1)
	}
	_ = conn.Close(ctx)
}

func (a *app) post(ctx context.Context, conn *pgx.Conn, i int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	call := submission{activity: like(fmt.Sprint(i)), inboxes: []string{a.inbox(i)}}.String()
	if _, err := tx.Exec(ctx, "INSERT INTO posts VALUES ($1)", i); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO postrider_outbox (call, ordering_key) VALUES ($1, $2)", call, fmt.Sprint("key-", i%10)); err != nil {
		return err
	}
	if i%2 == 1 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// posts returns the numbers of the posts that were committed.
func (a *app) posts() []string {
	a.t.Helper()
	rows, _ := testpostgres.Connect(a.t, a.database).Query(a.t.Context(), "SELECT id::text FROM posts p ORDER BY p.id") // its error is that of the rows
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		a.t.Fatal(err)
	}
	return list
}

// TestOutboxSurvivesKills kills two relays, the node and the database in turn while an app commits posts and rolls others
// back. All committed posts arrive, nothing else does, and the posts of each ordering key arrive in order.
func TestOutboxSurvivesKills(t *testing.T) {
	t.Parallel()
	const posts, hosts, kills = 450, 2, 8
	server := testpostgres.Start(t)
	database := server.Database()
	if code, out, said := harness.RunOnce(t, nil, "relay", "--install=apply", "--database-url", database); code != 0 {
		t.Fatalf("install: %d, %s%s", code, out, said)
	}
	if _, err := testpostgres.Connect(t, database).Exec(t.Context(), "CREATE TABLE posts (id bigint PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	h := startHosts(t, hosts, fine)
	node := startProcess(t)
	relays := []*relayProcess{startRelay(t, database, node), startRelay(t, database, node)}
	a := &app{t: t, database: database, inbox: func(i int) string { return h.Inbox(i%10%hosts, "/inbox") }}
	var running sync.WaitGroup
	running.Go(func() { a.run(t.Context(), posts) })
	for i := range kills {
		harness.Eventually(t, "more posts are made", func() bool { return a.done.Load() >= int64((i+1)*posts/(kills+1)) })
		switch i % 4 {
		case 0, 2:
			relays[i%4/2].kill()
		case 1:
			node.Kill()
		case 3:
			server.Kill()
			server.Run()
		}
	}
	running.Wait()
	want := a.posts()
	var got []string
	harness.Eventually(t, "all posts arrive", func() bool {
		got = nil
		for _, in := range h.inboxes {
			got = append(got, firstArrivals(in)...)
		}
		return len(got) >= len(want)
	})
	for i, in := range h.inboxes {
		wantOrderOfKeys(t, i, firstArrivals(in))
	}
	slices.SortFunc(got, byNumber)
	if diff := cmp.Diff(want, got); diff != "" || len(want) < posts/2-kills {
		t.Errorf("%d posts were committed; committed (-) and arrived (+):\n%s", len(want), diff)
	}
	for _, r := range relays {
		r.Signal(harness.Terminate)
		if code := r.Code(); code != 0 {
			t.Errorf("a relay that was told to stop ended with %d", code)
		}
	}
}

// firstArrivals returns the numbers of the posts that came to an inbox, in the order in which they came first.
func firstArrivals(in *testinbox.Inbox) (list []string) {
	for _, r := range in.Received() {
		if n := lastPart(r.ActivityID); r.Valid && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

func wantOrderOfKeys(t *testing.T, host int, list []string) {
	t.Helper()
	last := map[byte]string{} // by the last digit
	for _, n := range list {
		key := n[len(n)-1]
		if before, ok := last[key]; ok && byNumber(before, n) > 0 {
			t.Errorf("host %d got %s after %s", host, n, before)
		}
		last[key] = n
	}
}

// byNumber compares numbers without leading zeros.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// TestOutboxRefusals checks what the real node's refusals leave in the table, and that they are repaired by its owner.
func TestOutboxRefusals(t *testing.T) {
	t.Parallel()
	server := testpostgres.Start(t)
	database := server.Database()
	if code, _, said := harness.RunOnce(t, nil, "relay", "--install=apply", "--database-url", database); code != 0 {
		t.Fatal(said)
	}
	conn := testpostgres.Connect(t, database)
	h := startHost(t, testinbox.Options{})
	node := startNode(t)
	relay := startRelay(t, database, node)
	defer func() {
		address := regexp.MustCompile(`"msg":"relay.start".*"address":"([^"]+)"`).FindStringSubmatch(relay.out.String())[1]
		if code, out, said := harness.RunOnce(t, nil, "healthcheck", "--listen", address); code != 0 {
			t.Errorf("healthcheck: %d, %s%s", code, out, said)
		}
	}()
	unknown := submission{activity: like("unknown"), inboxes: h.urls(), more: `,"key_id":"https://app.example/none"`}.String()
	nobody := submission{activity: like("nobody"), inboxes: []string{"https://10.0.0.1/inbox"}}.String()
	twice := submission{activity: like("twice"), inboxes: h.urls(), more: `,"ordering_key":"k"`}.String()
	fine := submission{activity: like("fine"), inboxes: h.urls()}.String()
	for _, call := range []string{unknown, nobody, "{}", twice, fine} {
		if _, err := conn.Exec(t.Context(), "INSERT INTO postrider_outbox (call, ordering_key) VALUES ($1, 'k')", call); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, "the call after the refused ones arrives", func() bool { return h.count() == 1 })
	harness.Eventually(t, "the results are in the table", func() bool {
		var left int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM postrider_outbox").Scan(&left)
		return err == nil && left == 4
	})
	rows, _ := conn.Query(t.Context(), // its error is that of the rows
		`SELECT concat_ws(' ', reason->>'status', reason->>'type', reason->'errors'->0->>'location', reason->'errors'->0->>'code')
		FROM postrider_outbox ORDER BY id`)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	want := []string{
		"422 about:blank body.key_id unknown_key",
		"422 /problems/no-inbox-accepted body.inboxes[0] private_address",
		"422 about:blank body.activity missing",
		"422 about:blank body.ordering_key repeated",
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, reasons %s", err, diff)
	}
	if a := node.Call(http.MethodPut, "/v1/keys", harness.JSON(map[string]string{
		"key_id": "https://app.example/none", "private_key_pem": privatePEM(),
	})); a.Status != http.StatusCreated {
		t.Fatalf("put key: %d %s", a.Status, a.Body)
	}
	again := "UPDATE postrider_outbox SET refused_at = NULL, reason = NULL WHERE reason->'errors'->0->>'code' = 'unknown_key'"
	if _, err := conn.Exec(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the call arrives", func() bool { return h.count() >= 2 }) // its key is none that the inbox knows
}

// TestRelayUsage checks the relay's command line: what it prints, and what it refuses without repeating a password.
func TestRelayUsage(t *testing.T) {
	code, out, said := harness.RunOnce(t, nil, "relay", "--install=print")
	if code != 0 || !strings.Contains(out, "CREATE TABLE IF NOT EXISTS postrider_outbox (") || said != "" {
		t.Errorf("print: %d, %s%s", code, out, said)
	}
	for want, args := range map[string][]string{
		`database-url "" (from default): want postgres://`:          {"relay"},
		`database-url "[redacted]" (from --database-url): want pos`: {"relay", "--database-url", "mysql://app:hunter2@db/app"},
		`relay-listen "x" (from --relay-listen): want HOST:PORT`:    {"relay", "--relay-listen", "x"},
		`install "maybe" (from --install): want one of print, appl`: {"relay", "--install", "maybe"},
		`poll-interval "1ms" (from POSTRIDER_POLL_INTERVAL): want`:  {"relay"},
	} {
		var environ []string
		if strings.Contains(want, "POLL") {
			environ = []string{"POSTRIDER_POLL_INTERVAL=1ms"}
		}
		code, _, said := harness.RunOnce(t, environ, args...)
		if code != 2 || !strings.Contains(said, want) || strings.Contains(said, "hunter2") || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: exit code %d, %s", args, code, said)
		}
	}
	code, _, said = harness.RunOnce(t, nil, "relay", "--install=apply", "--database-url", "postgres://app:hunter2@127.0.0.1:1/app?connect_timeout=1")
	if code != 1 || strings.Contains(said, "hunter2") {
		t.Errorf("exit code %d, %s", code, said)
	}
}
