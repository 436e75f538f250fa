package embedded

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// pagesOf returns how many bytes the pages of a table take.
func pagesOf(t *testing.T, s *Store, table string) (bytes int64) {
	t.Helper()
	err := s.db.read(t.Context(), func(c *sqlite.Conn) (err error) {
		bytes, _, err = one(c, (*sqlite.Stmt).ColumnInt64, "SELECT sum(pgsize) FROM dbstat WHERE name = ?", table)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// TestDiskOfDeliveries measures what a pending delivery and an entry of the feed take on disk, with and without the IDs of the
// actors behind an inbox.
func TestDiskOfDeliveries(t *testing.T) {
	const n = 1000
	for _, c := range []struct {
		name             string
		ids              bool
		delivery, letter int64 // at most
	}{{"without IDs", false, 90, 450}, {"with an ID of 34 characters", true, 130, 490}} {
		s := open(t, t.TempDir())
		id := uuid.Must(uuid.NewV7()).String()
		sub := &queue.Submission{Activity: queue.Activity{ID: id, URI: "https://app.example/1", KeyID: "k", Priority: queue.Normal, Body: []byte("{}")}, TTL: time.Hour}
		for i := range n {
			host := fmt.Sprintf("social%04d.b.example", i)
			r := queue.Recipient{Host: host, Inbox: "https://" + host + "/inbox"}
			if c.ids {
				r.IDs = []string{"https://" + host + "/users"}
			}
			sub.Recipients = append(sub.Recipients, r)
		}
		if _, err := s.Enqueue(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		delivery := pagesOf(t, s, "deliveries") / n
		if _, err := s.Act(t.Context(), "b.example", queue.Block, queue.Order{Subdomains: true}); err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if _, err := s.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st, err := s.Stats(t.Context()); err != nil || st.Pending == 0 {
				break
			}
		}
		letter := entrySize(t, s, queue.EventDead)
		t.Logf("%s: %d bytes a pending delivery, %d an entry of a dead letter, %d of what is done, %d of a host's state by an order",
			c.name, delivery, letter, entrySize(t, s, queue.EventActivityDone), entrySize(t, s, queue.EventHostState))
		if delivery > c.delivery || letter > c.letter {
			t.Errorf("%s: %d bytes a pending delivery, %d an entry", c.name, delivery, letter)
		}
	}
}

// entrySize returns how many bytes an entry of a kind takes in the feed: its share of the pages.
func entrySize(t *testing.T, s *Store, kind queue.EventKind) (bytes int64) {
	t.Helper()
	var share float64
	err := s.db.read(t.Context(), func(c *sqlite.Conn) (err error) {
		share, _, err = one(c, (*sqlite.Stmt).ColumnFloat, `SELECT avg(size) FILTER (WHERE kind = ?) / sum(size)
			FROM (SELECT kind, length(kind) + length(host) + length(entry) + 16 size FROM feed)`, string(kind))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return int64(math.Round(share * float64(pagesOf(t, s, "feed"))))
}
