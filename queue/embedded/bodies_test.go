package embedded

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// bodyRows checks that every activity with something pending or dead has its body, that every body is held, and that
// memory knows by how many. It returns how many bodies there are.
func bodyRows(t *testing.T, s *Store) int {
	t.Helper()
	rows := map[int64]bool{}
	held := bodies{}
	err := s.writer.do(bg, func(tx *tx) error {
		err := each(tx.conn, "SELECT activity FROM bodies", nil, func(row *sqlite.Stmt) error {
			rows[row.ColumnInt64(0)] = false
			return nil
		})
		if err != nil {
			return err
		}
		return each(tx.conn, `SELECT seq, body, digest FROM activities a WHERE EXISTS (SELECT 1 FROM deliveries WHERE activity = a.seq)
			OR EXISTS (SELECT 1 FROM dead WHERE activity = a.seq)`, nil, func(row *sqlite.Stmt) error {
			if _, there := rows[row.ColumnInt64(1)]; !there {
				t.Errorf("activity %d has lost its body", row.ColumnInt64(0))
			}
			rows[row.ColumnInt64(1)] = true
			held.load(row.ColumnInt64(1), blob(row, 2))
			return nil
		})
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for id, needed := range rows {
		if !needed {
			t.Errorf("body %d is held by nothing", id)
		}
	}
	if diff := cmp.Diff(held, s.writer.ledger.bodies, cmp.AllowUnexported(heldBody{})); diff != "" {
		t.Errorf("memory (+) knows other bodies than the database (-):\n%s", diff)
	}
	return len(rows)
}

// equal submits one activity to an inbox.
func equal(s *Store, inbox string) *enqueue {
	e := noteWith(s, queue.Other, queue.Normal, "the same")
	e.sub.Recipients[0].Inbox = "https://a.example/" + inbox
	return e
}

// Ten thousand calls of an activity to an inbox each store its body once, and each has counts of its own.
func TestEqualActivitiesShareABody(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const calls, group = 2000, 1000
	for from := 0; from < calls; from += group {
		var steps []step
		for i := range group {
			steps = append(steps, equal(s, fmt.Sprint(from+i)))
		}
		together(t, s, nothing, steps...)
	}
	if n, st := bodyRows(t, s), statsOf(t, s); n != 1 || st.Pending != calls || st.Activities != calls {
		t.Errorf("%d bodies, %d pending, %d activities; want 1, %d, %d", n, st.Pending, st.Activities, calls, calls)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	for end := range 3 {
		actOn(t, s, "a.example", queue.Block) // they are dead
		actOn(t, s, "a.example", queue.Unblock)
		if n := bodyRows(t, s); n != 1 {
			t.Errorf("%d bodies of dead letters, want 1", n)
		}
		if end == 2 {
			break
		}
		if n, err := s.RetryDead(bg, queue.DeadLetterChoice{}, time.Hour); err != nil || n.Done != calls {
			t.Fatal(n, err)
		}
	}
	if n, err := s.DeleteDead(bg, queue.DeadLetterChoice{}); err != nil || n.Done != calls {
		t.Fatal(n, err)
	}
	if n := bodyRows(t, s); n != 0 {
		t.Errorf("%d bodies after the last was dropped", n)
	}
}

// A body that ends in the transaction in which another activity comes with the same bytes is still there for that, whichever
// comes first; and one that comes and goes in a transaction is not there after it.
func TestABodyEndsAsItIsSharedAgain(t *testing.T) {
	for _, first := range []string{"end", "new"} {
		t.Run(first, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			together(t, s, nothing, equal(s, "1"))
			d := takeAll(t, s, 1)[0]
			done := func(d queue.Delivery) step {
				return &settle{s: s, lease: lease(1), st: queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Delivered}}}}
			}
			steps := []step{done(d), equal(s, "2")}
			if first == "new" {
				steps[0], steps[1] = steps[1], steps[0]
			}
			together(t, s, nothing, steps...)
			if n := bodyRows(t, s); n != 1 {
				t.Errorf("%d bodies, want 1", n)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			ds := takeAll(t, s, 1)
			if len(ds) != 1 || string(ds[0].Activity.Body) != "the same" {
				t.Fatalf("took %+v, want the second with its body", ds)
			}
			together(t, s, nothing, done(ds[0]))
			if n := bodyRows(t, s); n != 0 {
				t.Errorf("%d bodies at the end", n)
			}
		})
	}
}
