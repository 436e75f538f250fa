package embedded

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var updateFormat = flag.Bool("update", false, "write the golden file of the store's format")

const formatFile = "testdata/store.sql"

// TestFormat checks that the store writes and reads the format in the golden file. Where that is meant to change after a
// release, schemaVersion changes too, and a step brings older stores to it.
func TestFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(dir, Options{Prompt: true})
		if err != nil {
			t.Fatal(err)
		}
		fillFormat(t, s)
		want := exported(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		inDatabase(t, dir, func(c *sqlite.Conn) error { return sqlitex.ExecuteTransient(c, "UPDATE meta SET feed = 7", nil) })
		written := scriptOf(t, dir)
		if *updateFormat {
			if err := os.WriteFile(formatFile, []byte(written), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(formatFile)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(golden), written); diff != "" {
			t.Errorf("the format changed (-want +got):\n%s", diff)
		}
		again := t.TempDir()
		inDatabase(t, again, func(c *sqlite.Conn) error { return sqlitex.ExecuteScript(c, string(golden), nil) })
		s = open(t, again)
		if diff := cmp.Diff(want, exported(t, s)); diff != "" {
			t.Errorf("the golden file is read as (-want +got):\n%s", diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// fillFormat gives a store something of everything that it keeps.
func fillFormat(t *testing.T, s *Store) {
	t.Helper()
	at := time.Now()
	_, err := s.PutKey(bg, queue.Key{
		ID: "https://app.example/alice#key", Algorithm: "rsa", PublicPEM: "PEM", Fingerprint: "SHA256:abc", Sealed: []byte("sealed"), WhenIdle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	activity := func(n int, uri string, role queue.Role, hosts ...string) {
		sub := &queue.Submission{
			Activity: queue.Activity{
				ID: fmt.Sprintf("018f0000-0000-7000-8000-%012d", n), URI: uri, Type: "Create", KeyID: "https://app.example/alice#key",
				OrderingKey: "thread", Object: "https://app.example/notes/1", Role: role, Priority: queue.Normal, Final: []int{403},
				Pin: "SHA256:abc", Body: []byte("body of " + uri), Actor: "https://app.example/alice", Metadata: []byte(`{"status_id":42}`),
				Trace: []byte("\x00trace\xff"),
			},
			TTL: 72 * time.Hour, Note: []byte("note"), Idempotency: queue.Idempotency{Key: [32]byte{byte(n)}, Fingerprint: [32]byte{1}},
		}
		for _, host := range hosts {
			sub.Recipients = append(sub.Recipients, queue.Recipient{
				Inbox: "https://" + host + "/inbox", Host: host, Headers: []queue.Header{{Name: "X-Host", Value: host}},
				IDs: []string{"https://" + host + "/users/bob"},
			})
		}
		if _, err := s.Enqueue(bg, sub); err != nil {
			t.Fatal(err)
		}
	}
	settle := func(host string, result queue.Result, st queue.Settlement) {
		l := lockmgr.Lease{Host: host, Token: 1, TTL: time.Minute}
		turns, err := s.Take(bg, []lockmgr.Lease{l}, 1)
		if err != nil || len(turns[0].Deliveries) != 1 {
			t.Fatal(turns, err)
		}
		result.ID, st.Results = turns[0].Deliveries[0].ID, []queue.Result{result}
		st.Release = true
		result.Attempt = &queue.LastAttempt{At: at, Status: 500, Outcome: "server_error", Error: "Oops", Duration: time.Second}
		st.Results[0] = result
		if _, err := s.Settle(bg, l, st, 0); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Act(bg, "blocked.example", queue.Block, queue.Order{})
	if err != nil {
		t.Fatal(err)
	}
	activity(1, "https://app.example/1", queue.Makes, "failing.example", "keyless.example", "dead.example", "fine.example", "blocked.example")
	failing := queue.HostRecord{
		Breaker: breaker.Record{State: breaker.Open, Failures: 3, Trips: 1, Window: 1, Days: []int32{10957}, Failed: true, OpenedAt: at},
		Scheme:  "cavage", LastError: &queue.LastAttempt{At: at, Outcome: "unreachable", Duration: time.Second},
	}
	settle("failing.example", queue.Result{Verdict: queue.Retry, After: time.Hour, HostFailed: true, Spent: true}, queue.Settlement{Host: &failing, Wait: time.Hour})
	settle("keyless.example", queue.Result{Verdict: queue.Defer, WaitKey: true}, queue.Settlement{})
	settle("dead.example", queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Spent: true}, queue.Settlement{})
	settle("fine.example", queue.Result{Verdict: queue.Delivered, Spent: true}, queue.Settlement{})
	activity(2, "https://app.example/2", queue.Deletes, "failing.example")
	writeMarks(t, s, 1)
	if err := s.SetFeedPosition(bg, "webhook", "7-3"); err != nil {
		t.Fatal(err)
	}
	counted := queue.Counted{Sums: map[string]int64{queue.SumDeliveries: 6}, Levels: map[string]int64{queue.LevelPending: 4}}
	if _, err := s.AddMinute(bg, counted); err != nil {
		t.Fatal(err)
	}
}

// exported returns all that Export hands over.
func exported(t *testing.T, s *Store) (all []queue.Record) {
	t.Helper()
	err := s.Export(bg, func(r queue.Record) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// scriptOf returns a script that makes the database of a folder again.
func scriptOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	var tables []string
	inDatabase(t, dir, func(c *sqlite.Conn) error {
		err := errors.Join(
			each(c, "SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name", nil, func(row *sqlite.Stmt) error {
				tables = append(tables, row.ColumnText(0))
				_, err := fmt.Fprintf(&b, "%s;\n", row.ColumnText(1))
				return err
			}),
			each(c, "SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name", nil, func(row *sqlite.Stmt) error {
				_, err := fmt.Fprintf(&b, "%s;\n", row.ColumnText(0))
				return err
			}),
			each(c, "PRAGMA user_version", nil, func(row *sqlite.Stmt) error {
				_, err := fmt.Fprintf(&b, "PRAGMA user_version = %d;\n", row.ColumnInt(0))
				return err
			}))
		for _, table := range tables {
			var columns []string
			err = errors.Join(err, each(c, "SELECT name FROM pragma_table_info(?)", []any{table}, func(row *sqlite.Stmt) error {
				columns = append(columns, "quote("+row.ColumnText(0)+")")
				return nil
			}), each(c, "SELECT "+strings.Join(columns, " || ', ' || ")+" FROM "+table, nil, func(row *sqlite.Stmt) error {
				_, err := fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, row.ColumnText(0))
				return err
			}))
		}
		return err
	})
	return b.String()
}

// inDatabase opens the database of a folder that no store has open.
func inDatabase(t *testing.T, dir string, use func(*sqlite.Conn) error) {
	t.Helper()
	c, err := sqlite.OpenConn(filepath.Join(dir, "postrider.db"), sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(use(c), c.Close()); err != nil {
		t.Fatal(err)
	}
}
