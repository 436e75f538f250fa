package embedded

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// waiting stores a Create that was accepted an hour ago and its Delete, for each of n inboxes, and returns the Creates' IDs.
func waiting(t *testing.T, s *Store, inboxes ...string) (ids []string) {
	t.Helper()
	for _, inbox := range inboxes {
		id := uuid.Must(uuid.NewV7()).String()
		m := &queue.MovedActivity{
			Activity: queue.Activity{
				ID: id, URI: "create " + inbox, OrderingKey: inbox, Object: inbox, Role: queue.Makes, Priority: queue.Normal,
				Body: []byte("create " + inbox), CreatedAt: time.Now().Add(-time.Hour),
			},
			Deliveries: []queue.MovedDelivery{{TTL: time.Hour, Recipient: queue.Recipient{Inbox: "https://a.example/" + inbox, Host: "a.example"}}},
		}
		if n, err := s.Import(bg, []queue.Record{{Activity: m}}); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		deletion := says(s, "delete "+inbox, queue.Deletes, inbox)
		deletion.sub.Object, deletion.sub.OrderingKey = inbox, inbox
		together(t, s, nothing, deletion)
		ids = append(ids, id)
	}
	return ids
}

func checkCounts(t *testing.T, s *Store, id string, want queue.Counts) {
	t.Helper()
	if a, err := s.Activity(bg, id); err != nil || a.Counts != want {
		t.Errorf("counts %+v, %v, want %+v", a.Counts, err, want)
	}
}

// If the store can't write that something is superseded, Take fails, and what was chosen is there for the next.
func TestSupersededWhileNothingCanBeWritten(t *testing.T) {
	s := open(t, t.TempDir())
	id := waiting(t, s, "1")[0]
	together(t, s, nothing, says(s, "other", queue.Other, "2"))
	set := func(pragma string) {
		t.Helper()
		if err := each(s.db.conn, "PRAGMA "+pragma, nil, func(*sqlite.Stmt) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	set("query_only = 1")
	if turns, err := s.Take(bg, []lockmgr.Lease{lease(1)}, 10); err == nil {
		t.Fatalf("took %+v, want an error", turns)
	}
	checkCounts(t, s, id, queue.Counts{Total: 1, Pending: 1})
	if h := hostOf(t, s); h.Pending != 3 || h.InFlight != 0 {
		t.Errorf("%d pending, %d in flight, want 3 and none", h.Pending, h.InFlight)
	}
	set("query_only = 0")
	if ds := takeAll(t, s, 1); len(ds) != 2 {
		t.Errorf("took %d, want the Delete and the other", len(ds))
	}
	checkCounts(t, s, id, queue.Counts{Total: 1, Cancelled: 1})
}

// A lease that is lost while what is superseded is cancelled gives nothing, and the later one gives each delivery once.
func TestSupersededWhileTheLaneIsTakenOver(t *testing.T) {
	s := open(t, t.TempDir())
	ids := waiting(t, s, "1", "2")
	hold, held := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(goOn)
	blocked := make(chan error, 1)
	go func() {
		blocked <- s.writer.do(bg, func(*tx) error { close(held); <-hold; return nil }, nil)
	}()
	<-held
	took := make(chan []queue.Turn, 2)
	for token := range uint64(2) {
		go func() {
			turns, err := s.Take(bg, []lockmgr.Lease{lease(token + 1)}, 10)
			if err != nil {
				t.Error(err)
			}
			took <- turns
		}()
		waitFor(t, func() bool { // it waits for the writer
			s.mu.Lock()
			defer s.mu.Unlock()
			l := s.index.lanes["a.example"]
			return l.token == token+1 && len(l.taken) == 2 && len(s.writer.ops) == int(token)+1
		})
	}
	goOn()
	if err := <-blocked; err != nil {
		t.Fatal(err)
	}
	given := map[string]int{}
	leases := 0
	for range 2 {
		for _, turn := range <-took {
			leases++
			for _, d := range turn.Deliveries {
				given[d.Activity.URI]++
			}
		}
	}
	if leases != 1 || len(given) != 2 || given["delete 1"] != 1 || given["delete 2"] != 1 {
		t.Errorf("%d leases gave %v, want one with each Delete once", leases, given)
	}
	for _, id := range ids {
		checkCounts(t, s, id, queue.Counts{Total: 1, Cancelled: 1})
	}
}

// waitFor waits until something has happened.
func waitFor(t *testing.T, happened func() bool) {
	t.Helper()
	for range 5000 {
		if happened() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it did not happen in five seconds")
}

// An Undo that comes while its Delete's burial is about to be cancelled has it delivered, and so has an object of which only
// the hash is that of one deleted.
func TestSupersededNoMore(t *testing.T) {
	for name, change := range map[string]func(s *Store) step{
		"undone": func(s *Store) step {
			undo := says(s, "undo", queue.Restores, "3")
			undo.sub.Object = "1"
			return undo
		},
		"other object": func(s *Store) step { return sql{"UPDATE tombstones SET object = 'another'"} },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			id := waiting(t, s, "1")[0]
			c := choice{s: s, turn: queue.Turn{Lease: lease(1)}}
			s.mu.Lock()
			c.pick(10, s.clock.now())
			s.mu.Unlock()
			if len(c.superseded) != 1 {
				t.Fatalf("%d are superseded, want the Create", len(c.superseded))
			}
			together(t, s, nothing, change(s))
			if err := c.supersede(bg); err != nil {
				t.Fatal(err)
			}
			checkCounts(t, s, id, queue.Counts{Total: 1, Pending: 1})
			ds := takeAll(t, s, 1)
			if len(ds) == 0 || ds[0].Activity.ID != id {
				t.Errorf("took %+v, want the Create first", ds)
			}
		})
	}
}

// sql is a change of the database alone.
type sql struct{ query string }

func (q sql) run(t *tx) error { return t.exec(q.query) }
func (q sql) apply()          {}
