package embedded

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var flips = flag.Int("flips", 24, "how many bits are flipped, each in a store of its own")

// fill makes a store of some hosts with five deliveries each, some of them dead letters or delivered, in a folder.
func fill(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir)
	hosts := make([]string, 40)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%d.example", i)
	}
	for i := range 40 {
		submit(s, fmt.Sprintf("https://app.example/%d/%s", i, strings.Repeat("x", 500)), hosts[i], hosts[(i+1)%40], hosts[(i+2)%40], hosts[(i+3)%40], hosts[(i+4)%40])
	}
	for i := range 10 {
		deliverOne(s, hosts[i], 1)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// openDamaged opens a store that may be damaged, and returns what it writes to its log.
func openDamaged(dir string) (*Store, *bytes.Buffer, error) {
	var log bytes.Buffer
	s, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	return s, &log, err
}

// work takes and delivers all that is due, and returns how many deliveries that were, and how many of them were altered.
func work(t *testing.T, s *Store) (delivered, altered int) {
	t.Helper()
	for token := uint64(100); token < 1000; token++ {
		o, err := s.Due(bg, queue.Want{Lanes: 100, Suspect: 100})
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Hosts) == 0 {
			return delivered, altered
		}
		for _, host := range o.Hosts {
			l := lockmgr.Lease{Host: host, Token: token, TTL: lockTTL}
			turns, err := s.Take(bg, []lockmgr.Lease{l}, 10)
			if err != nil {
				t.Fatalf("take from %s: %v", host, err)
			}
			st := queue.Settlement{Release: true}
			for _, turn := range turns {
				for _, d := range turn.Deliveries {
					if d.Inbox != "https://"+host+"/inbox" || string(d.Activity.Body) != d.Activity.URI {
						altered++
					}
					delivered++
					st.Results = append(st.Results, queue.Result{ID: d.ID, Verdict: queue.Delivered})
				}
			}
			if _, err := s.Settle(bg, l, st, 0); err != nil {
				t.Fatalf("settle of %s: %v", host, err)
			}
		}
	}
	t.Fatal("there is no end of work")
	return 0, 0
}

// A bit that is flipped in the database or its WAL stops nothing but what it damages: there is no panic, and the store
// opens, is ready, and delivers the rest.
func TestFlippedBitsStopOnlyWhatTheyDamage(t *testing.T) {
	const whole = 190 // deliveries that pend
	stopped := t.TempDir()
	fill(t, stopped)
	killed := t.TempDir()
	crashed(t, killed)
	random := rand.New(rand.NewPCG(1, uint64(*flips)))
	refused := 0
	for i := range *flips {
		from, file := stopped, "postrider.db"
		if i%4 == 3 {
			from, file = killed, "postrider.db-wal"
		}
		dir := t.TempDir()
		copyDir(t, from, dir)
		path := filepath.Join(dir, file)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := random.IntN(len(data))
		data[at] ^= 1 << random.IntN(8)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("byte %d of %s", at, file)
		s, log, err := openDamaged(dir)
		if err != nil {
			if at >= 8192 || file != "postrider.db" {
				t.Errorf("%s: %v", what, err)
			}
			refused++
			continue
		}
		n, altered := work(t, s)
		if err := s.Ready(bg); err != nil {
			t.Errorf("%s: not ready: %v", what, err)
		}
		if file == "postrider.db" && n < whole-30 {
			t.Errorf("%s: %d deliveries of %d were made: %s", what, n, whole, log)
		}
		if altered > 5 {
			t.Errorf("%s: %d deliveries are not what was accepted", what, altered)
		}
		if _, err := s.DeadLetters(bg, queue.DeadLetterFilter{}, queue.Page{Limit: 100}); err != nil && !isCorrupt(err) {
			t.Errorf("%s: %v", what, err)
		}
		if err := s.Close(); err != nil && !isCorrupt(err) {
			t.Errorf("%s: close: %v", what, err)
		}
	}
	if refused > 1+*flips/10 {
		t.Errorf("%d of %d stores could not be opened", refused, *flips)
	}
}

// crashed makes a folder as a node leaves it that was killed: with all in its WAL.
func crashed(t *testing.T, dir string) {
	t.Helper()
	live := t.TempDir()
	s := open(t, live)
	limitWAL(s, 1<<30)
	for i := range 20 {
		submit(s, fmt.Sprintf("https://app.example/%d", i), "h1.example", "h2.example")
	}
	copyDir(t, live, dir)
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(from, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "-shm") {
			continue
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// change runs queries on the database of a store that nobody has open.
func change(t *testing.T, dir string, queries ...string) {
	t.Helper()
	conn, err := connect(filepath.Join(dir, "postrider.db"), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		if err := sqlitex.ExecuteScript(conn, q, nil); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

// Each column that says nonsense makes a dead letter of what it is about, with a log line that names the row, or leaves it
// out; all else goes on.
func TestADamagedColumnStopsOnlyItsRow(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		dead        int    // letters that say damaged
		delivered   int    // of the four deliveries
		log         string // what the log has to name
	}{
		{"activity's ID", "UPDATE activities SET id = x'00' WHERE seq = 1", 2, 2, "row 1 of activities"},
		{"priority", "UPDATE activities SET priority = 77 WHERE seq = 1", 2, 2, "row 1 of activities"},
		{"role", "UPDATE activities SET role = -1 WHERE seq = 1", 2, 2, "row 1 of activities"},
		{"first", "UPDATE activities SET first = -5 WHERE seq = 1", 2, 2, "row 1 of activities"},
		{"digest", "UPDATE activities SET digest = zeroblob(32) WHERE seq = 1", 2, 2, "of bodies"},
		{"statuses", "UPDATE activities SET final = '{' WHERE seq = 1", 2, 2, "row 1 of activities"},
		{"lost activity", "DELETE FROM activities WHERE seq = 1", 0, 2, "row 1 of deliveries"},
		{"expiry", "UPDATE activities SET expires_next = NULL WHERE seq = 1", 0, 4, "row 1 of activities"},
		{"body", "UPDATE bodies SET body = x'00' WHERE activity = 1", 2, 2, "row 1 of bodies"},
		{"lost body", "DELETE FROM bodies WHERE activity = 1", 2, 2, "row 1 of activities"},
		{"lane", "UPDATE deliveries SET lane = 2 WHERE id = 1", 1, 3, "row 1 of deliveries"},
		{"lost lane", "DELETE FROM hosts WHERE lane = 1", 0, 4, "a.example is lost"},
		{"inbox", "UPDATE deliveries SET inbox = 'https://elsewhere.example/inbox' WHERE id = 1", 1, 3, "row 1 of deliveries"},
		{"no inbox", "UPDATE deliveries SET inbox = '%' WHERE id = 1", 1, 3, "row 1 of deliveries"},
		{"inbox and lane", "UPDATE deliveries SET inbox = '%', lane = 99 WHERE id = 1", 0, 3, "row 1 of deliveries"},
		{"headers", "UPDATE deliveries SET headers = '{', flags = 32 WHERE id = 1", 1, 3, "row 1 of deliveries"},
		{"activity of a delivery", "UPDATE deliveries SET activity = 2 WHERE id = 1", 0, 3, "row 1 of deliveries"},
		{"record", "UPDATE hosts SET record = '{' WHERE lane = 1", 0, 4, "row 1 of hosts"},
		{"idempotency key", "UPDATE activities SET idempotency = x'00' WHERE seq = 1", 0, 4, "row 1 of activities"},
		{"totals", "DELETE FROM meta", 0, 4, ""},
		{"flags", "UPDATE deliveries SET flags = 1 << 40, attempts = -7", 0, 4, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			submit(s, "https://app.example/1", "a.example", "b.example")
			submit(s, "https://app.example/2", "a.example", "b.example")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			change(t, dir, tt.query)
			s, log, err := openDamaged(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			delivered, altered := work(t, s)
			if delivered != tt.delivered || altered != 0 {
				t.Errorf("%d were delivered, %d of them altered, want %d", delivered, altered, tt.delivered)
			}
			list, err := s.DeadLetters(bg, queue.DeadLetterFilter{Reason: queue.ReasonDamaged}, queue.Page{Limit: 10})
			if err != nil || len(list.Items) != tt.dead {
				t.Errorf("%d dead letters, want %d: %v", len(list.Items), tt.dead, err)
			}
			if !strings.Contains(log.String(), tt.log) || tt.log == "" && log.Len() > 0 {
				t.Errorf("the log says %q, want it to name %q", log, tt.log)
			}
			if err := s.Ready(bg); err != nil {
				t.Errorf("not ready: %v", err)
			}
			submit(s, "https://app.example/3", "a.example", "c.example")
			if n, _ := work(t, s); n != 2 {
				t.Errorf("of what came later %d of 2 were delivered", n)
			}
			export(t, s)
			if stats, err := s.Stats(bg); err != nil || stats.Pending != 0 {
				t.Errorf("%d pend: %v", stats.Pending, err)
			}
		})
	}
}

// export reads all that a store holds.
func export(t *testing.T, s *Store) {
	t.Helper()
	err := s.Export(bg, func(r queue.Record) error {
		return json.NewEncoder(io.Discard).Encode(r)
	})
	if err != nil {
		t.Errorf("export: %v", err)
	}
}
