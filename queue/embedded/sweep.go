package embedded

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

const (
	sweepRows = 2000        // at most so many rows of a kind in one sweep
	sweepSoon = time.Second // when to look again at what was taken as it expired
	sweepIdle = time.Hour   // the longest between two that look
)

// expiryAt tells that something may expire at a time. The store's mutex must be held.
func (s *Store) expiryAt(ms int64) { s.sweep = min(s.sweep, ms) }

// Sweep implements queue.Lanes. Called when nothing is due it costs next to nothing.
func (s *Store) Sweep(ctx context.Context) (time.Duration, error) {
	if wait := s.sweepIn(); wait > 0 {
		return wait, nil
	}
	o := &sweep{s: s}
	if err := s.writer.do(ctx, o.run, o.apply); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	return min(max(0, time.Duration(o.next-o.now)*time.Millisecond), s.sweepIn()), nil
}

// sweepIn returns how long there is nothing to sweep.
func (s *Store) sweepIn() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.index.excess) > 0 || s.opts.DeadLetters > 0 && s.stats.dead > s.opts.DeadLetters {
		return 0
	}
	return max(0, time.Duration(s.sweep-millis(time.Now()))*time.Millisecond)
}

// sweep is one bounded step of cleaning up.
type sweep struct {
	s       *Store
	now     int64
	next    int64
	victims []victim
}

func (o *sweep) run(t *tx) error {
	*o = sweep{s: o.s, now: millis(t.now), next: never}
	o.lookAgain(sweepIdle)
	if r := o.s.opts.DeadRetention; r > 0 {
		o.lookAgain(r) // who dies from now on
	}
	for _, step := range []func(*tx) error{o.expire, o.giveUp, o.dropLetters, o.capLetters, o.dropActivities} {
		if err := step(t); err != nil {
			return err
		}
	}
	return nil
}

// lookAgain sees to it that the next sweep comes after so long at most, or a minute: retention is kept track of by the
// minute.
func (o *sweep) lookAgain(after time.Duration) {
	o.next = min(o.next, o.now+max(after, queue.MaxIdle).Milliseconds())
}

// expire dead-letters what has outlived its TTL.
func (o *sweep) expire(t *tx) error {
	type due struct{ seq, first, total int64 }
	var overdue []due
	err := each(t.conn, "SELECT seq, first, total, expires_next FROM activities WHERE expires_next IS NOT NULL ORDER BY expires_next LIMIT 64",
		nil, func(row *sqlite.Stmt) error {
			if at := row.ColumnInt64(3); at > o.now {
				o.next = min(o.next, at)
				return nil
			}
			overdue = append(overdue, due{row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2)})
			return nil
		})
	for i := 0; err == nil && i < len(overdue); i++ {
		if len(o.victims) >= sweepRows || i == 63 {
			o.next = o.now // there may be more
			break
		}
		err = o.expireActivity(t, overdue[i].seq, overdue[i].first, overdue[i].first+overdue[i].total)
	}
	return err
}

// row is a pending delivery of an activity that has something to expire.
type row struct{ id, expires int64 }

func (o *sweep) expireActivity(t *tx, seq, first, end int64) error {
	var rows []row
	err := each(t.conn, "SELECT id, expires FROM deliveries WHERE id >= ? AND id < ?", []any{first, end}, func(r *sqlite.Stmt) error {
		rows = append(rows, row{r.ColumnInt64(0), r.ColumnInt64(1)})
		return nil
	})
	if err != nil {
		return err
	}
	overdue, again := o.judge(rows)
	if err := o.s.giveUp(t, overdue); err != nil {
		return err
	}
	o.victims = append(o.victims, overdue...)
	if again == never {
		return nil // nothing is pending any more
	}
	o.next = min(o.next, again)
	return t.exec("UPDATE activities SET expires_next = ? WHERE seq = ?", again, seq)
}

// judge says which deliveries die of what, and when to look at the others again.
func (o *sweep) judge(rows []row) (overdue []victim, again int64) {
	again = never
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	for _, r := range rows {
		switch e := o.s.index.entries[r.id]; {
		case r.expires > o.now:
			again = min(again, r.expires)
		case len(overdue) >= sweepRows:
			again = o.now
		case e == nil || e.flags&taken != 0: // or not in memory yet
			again = min(again, o.now+sweepSoon.Milliseconds())
		case e.flags&waitsKey != 0:
			overdue = append(overdue, victim{e, queue.ReasonKeyMissing})
		default:
			overdue = append(overdue, victim{e, queue.ReasonExpired})
		}
	}
	return overdue, again
}

// giveUp dead-letters what lanes hold too much of. What expires goes first: it may make this needless.
func (o *sweep) giveUp(t *tx) error {
	if len(o.victims) > 0 {
		return nil
	}
	o.s.mu.Lock()
	o.victims = o.s.index.allVictims(sweepRows)
	o.s.mu.Unlock()
	return o.s.giveUp(t, o.victims)
}

// dropLetters drops dead letters that have outlived their retention.
func (o *sweep) dropLetters(t *tx) error {
	if o.s.opts.DeadRetention <= 0 {
		return nil
	}
	if old, err := o.old(t, "SELECT died_at FROM dead ORDER BY died_at, id LIMIT 1", o.s.opts.DeadRetention); err != nil || !old {
		return err
	}
	before := o.now - o.s.opts.DeadRetention.Milliseconds()
	dropped, err := t.dropLetters("SELECT id FROM dead WHERE died_at <= ? ORDER BY died_at, id LIMIT ?", before, sweepRows)
	if dropped == sweepRows {
		o.next = o.now
	}
	return err
}

// old tells whether the oldest of something, whose time the query gives, has outlived its retention, or notes when it will.
func (o *sweep) old(t *tx, oldest string, retention time.Duration) (old bool, err error) {
	err = each(t.conn, oldest, nil, func(row *sqlite.Stmt) error {
		left := time.Duration(row.ColumnInt64(0)-o.now)*time.Millisecond + retention
		old = left <= 0
		o.lookAgain(left)
		return nil
	})
	return old, err
}

// capLetters drops the oldest of too many dead letters.
func (o *sweep) capLetters(t *tx) error {
	o.s.mu.Lock()
	excess := o.s.stats.dead + t.totals.dead - o.s.opts.DeadLetters
	o.s.mu.Unlock()
	if o.s.opts.DeadLetters <= 0 || excess <= 0 {
		return nil
	}
	dropped, err := t.dropLetters("SELECT id FROM dead ORDER BY died_at, id LIMIT ?", min(excess, sweepRows))
	t.totals.dropped += int64(dropped)
	return err
}

// dropLetters drops the dead letters that a query gives.
func (t *tx) dropLetters(which string, args ...any) (dropped int, err error) {
	err = each(t.conn, "DELETE FROM dead WHERE id IN ("+which+") RETURNING activity", args, func(row *sqlite.Stmt) error {
		t.count(row.ColumnInt64(0)).letters--
		dropped++
		return nil
	})
	t.totals.dead -= dropped
	return dropped, err
}

// dropActivities drops finished activities that have outlived their retention and have no dead letters.
func (o *sweep) dropActivities(t *tx) error {
	// The oldest is looked at first, as SQLite plans a query with a bound time anew each time.
	oldest := "SELECT done_at FROM activities WHERE done_at IS NOT NULL AND letters = 0 ORDER BY done_at LIMIT 1"
	if old, err := o.old(t, oldest, o.s.opts.Retention); err != nil || !old {
		return err
	}
	before := o.now - o.s.opts.Retention.Milliseconds()
	err := t.exec(`DELETE FROM activities WHERE seq IN (SELECT seq FROM activities
		WHERE done_at IS NOT NULL AND letters = 0 AND done_at <= ? ORDER BY done_at LIMIT ?)`, before, sweepRows)
	dropped := t.conn.Changes()
	t.totals.activities -= dropped
	if dropped == sweepRows {
		o.next = o.now
	}
	return err
}

func (o *sweep) apply() {
	o.s.forget(o.victims, o.now)
	o.s.sweep = o.next
}
