package relay_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/app"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/testpostgres"
)

// BenchmarkOutbox empties an outbox into a node that delivers nothing, on one machine: by relays, and by a worker of the app
// that makes a call for each row and then deletes it, as an app without the relay would. PostgreSQL and the node write to disk
// as they do by default. Each row is an activity of 600 bytes to one inbox.
//
//	go test ./internal/relay -run '^$' -bench . -benchtime 20000x
func BenchmarkOutbox(b *testing.B) {
	server := testpostgres.Start(b, "fsync=on")
	node := startNode(b)
	for _, bb := range []struct {
		name  string
		empty func(ctx context.Context, b *testing.B, database, node string)
	}{
		{"relay", relays(1)},
		{"two_relays", relays(2)},
		{"single_calls", singleCalls(1)},
		{"single_calls_of_16_workers", singleCalls(16)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			database := server.Database()
			conn := testpostgres.Connect(b, database)
			fill(b, conn)
			ctx, cancel := context.WithCancel(b.Context())
			b.ResetTimer()
			go func() {
				defer cancel()
				for left(b, conn) {
					time.Sleep(5 * time.Millisecond)
				}
			}()
			bb.empty(ctx, b, database, node)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// fill makes an outbox with b.N rows for 100 keys.
func fill(b *testing.B, conn *pgx.Conn) {
	b.Helper()
	call := `{"activity":{"id":"https://app.example/%s/' || i || '","type":"Like","actor":"https://app.example/users/alice",` +
		`"object":"https://one.example/notes/' || i || '","content":"` + strings.Repeat("x", 450) + `"},"key_id":"k","inboxes":["https://one.example/inbox"]}`
	call = fmt.Sprintf(call, conn.Config().Database+fmt.Sprint(time.Now().UnixNano()))
	query := fmt.Sprintf("INSERT INTO postrider_outbox (call, ordering_key) SELECT '%s', i %% 100 FROM generate_series(1, %d) i", call, b.N)
	for _, step := range []string{relay.Schema, query, "ANALYSE postrider_outbox"} {
		if _, err := conn.Exec(b.Context(), step); err != nil {
			b.Fatal(err)
		}
	}
}

func left(b *testing.B, conn *pgx.Conn) (some bool) {
	if err := conn.QueryRow(b.Context(), "SELECT EXISTS (SELECT FROM postrider_outbox WHERE refused_at IS NULL)").Scan(&some); err != nil {
		b.Error(err)
	}
	var refused int
	if err := conn.QueryRow(b.Context(), "SELECT count(*) FROM postrider_outbox WHERE refused_at IS NOT NULL").Scan(&refused); err != nil || refused > 0 {
		b.Errorf("%d rows were refused, error %v", refused, err)
		return false
	}
	return some
}

// relays empties the outbox by n relays.
func relays(n int) func(ctx context.Context, b *testing.B, database, node string) {
	return func(ctx context.Context, b *testing.B, database, node string) {
		var running sync.WaitGroup
		for range n {
			r, err := relay.New(relay.Options{
				Database: database, URL: node, Poll: time.Second, Timeout: time.Minute, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			running.Go(func() { r.Run(ctx) })
		}
		running.Wait()
	}
}

// singleCalls empties the outbox by n workers that each take one row at a time.
func singleCalls(n int) func(ctx context.Context, b *testing.B, database, node string) {
	return func(ctx context.Context, b *testing.B, database, node string) {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
		var running sync.WaitGroup
		for range n {
			conn := testpostgres.Connect(b, database)
			running.Go(func() {
				for ctx.Err() == nil {
					if err := single(b.Context(), conn, client, node); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
	}
}

// single makes the call of the oldest row that no other worker has, if there is one.
func single(ctx context.Context, conn *pgx.Conn, client *http.Client, node string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, "SELECT id, call FROM postrider_outbox ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED") // its error is that of the rows
		var id int64
		var call string
		if _, err := pgx.ForEachRow(rows, []any{&id, &call}, func() error { return nil }); err != nil || id == 0 {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, node+"/v1/activities", strings.NewReader(call))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", fmt.Sprint(conn.Config().Database, "-", id, "-", time.Now().UnixNano()))
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusAccepted {
			return fmt.Errorf("%d %s: %w", resp.StatusCode, text, err)
		}
		_, err = tx.Exec(ctx, "DELETE FROM postrider_outbox WHERE id = $1", id)
		return err
	})
}

// startNode runs a node that takes calls and delivers nothing, and returns its URL.
func startNode(b *testing.B) string {
	b.Helper()
	out := &lines{address: make(chan string, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		app.Program{
			Args: []string{
				"serve", "--deliver=false", "--listen", "127.0.0.1:0", "--store", "embedded:" + b.TempDir(), "--log-format", "json",
				"--lane-cap", "0",
			},
			Stdout: out, Stderr: out,
		}.Run(ctx)
	})
	b.Cleanup(func() { cancel(); running.Wait() })
	url := "http://" + <-out.address
	const key = `{"key_id":"k","private_key_pem":"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n"}`
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, url+"/v1/keys", strings.NewReader(key))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		b.Fatalf("put key: %v, %v", resp, err)
	}
	_ = resp.Body.Close() // it was not read
	return url
}

// lines finds the address in the log of a node.
type lines struct {
	address chan string
	once    sync.Once
}

var started = regexp.MustCompile(`"msg":"node.start".*"address":"([^"]+)"`)

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	if found := started.FindSubmatch(p); found != nil {
		l.once.Do(func() { l.address <- string(found[1]) })
	}
	return len(p), nil
}
