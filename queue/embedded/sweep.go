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
)

// expiryAt tells that something may expire at a time. The store's mutex must be held.
func (s *Store) expiryAt(ms int64) { s.sweep = min(s.sweep, ms) }

// Sweep implements queue.Lanes. Called when nothing is due it costs next to nothing.
func (s *Store) Sweep(ctx context.Context) (time.Duration, error) {
	s.mu.Lock()
	wait := s.sweep - millis(time.Now())
	s.mu.Unlock()
	if wait > 0 {
		return time.Duration(wait) * time.Millisecond, nil
	}
	o := &sweep{s: s}
	if err := s.writer.do(ctx, o.run, o.apply); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	return max(0, time.Duration(o.next-o.now)*time.Millisecond), nil
}

// sweep is one bounded step of cleaning up.
type sweep struct {
	s       *Store
	now     int64
	next    int64
	expired []int64 // deliveries
	dropped int     // activities
	letters int     // dead letters dropped
}

func (o *sweep) run(t *tx) error {
	*o = sweep{s: o.s, now: millis(t.now), next: millis(t.now.Add(queue.MaxIdle))}
	for _, step := range []func(*tx) error{o.expire, o.dropLetters, o.dropActivities} {
		if err := step(t); err != nil {
			return err
		}
	}
	return nil
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
		if len(o.expired) >= sweepRows || i == 63 {
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
	reasons, again := o.judge(rows)
	for id, reason := range reasons {
		if _, err := t.bury(id, &queue.Result{Reason: reason}); err != nil {
			return err
		}
		o.expired = append(o.expired, id)
	}
	if again == never {
		return nil // nothing is pending any more
	}
	o.next = min(o.next, again)
	return t.exec("UPDATE activities SET expires_next = ? WHERE seq = ?", again, seq)
}

// judge says which deliveries die of what, and when to look at the others again.
func (o *sweep) judge(rows []row) (reasons map[int64]queue.Reason, again int64) {
	reasons, again = map[int64]queue.Reason{}, never
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	for _, r := range rows {
		switch e := o.s.index.entries[r.id]; {
		case r.expires > o.now:
			again = min(again, r.expires)
		case len(reasons) >= sweepRows:
			again = o.now
		case e != nil && e.flags&taken != 0:
			again = min(again, o.now+sweepSoon.Milliseconds())
		case e != nil && e.flags&waitsKey != 0:
			reasons[r.id] = queue.ReasonKeyMissing
		default:
			reasons[r.id] = queue.ReasonExpired
		}
	}
	return reasons, again
}

// dropLetters drops dead letters that have outlived their retention.
func (o *sweep) dropLetters(t *tx) error {
	if o.s.opts.DeadRetention <= 0 {
		return nil
	}
	before := o.now - o.s.opts.DeadRetention.Milliseconds()
	err := each(t.conn, "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE died_at <= ? ORDER BY died_at, id LIMIT ?) RETURNING activity",
		[]any{before, sweepRows}, func(row *sqlite.Stmt) error {
			o.letters++
			t.count(row.ColumnInt64(0)).letters--
			return nil
		})
	if o.letters == sweepRows {
		o.next = o.now
	}
	return err
}

// dropActivities drops finished activities that have outlived their retention and have no dead letters.
func (o *sweep) dropActivities(t *tx) error {
	before := o.now - o.s.opts.Retention.Milliseconds()
	err := t.exec(`DELETE FROM activities WHERE seq IN (SELECT seq FROM activities
		WHERE done_at IS NOT NULL AND letters = 0 AND done_at <= ? ORDER BY done_at LIMIT ?)`, before, sweepRows)
	if o.dropped = t.conn.Changes(); o.dropped == sweepRows {
		o.next = o.now
	}
	return err
}

func (o *sweep) apply() {
	x := o.s.index
	for _, id := range o.expired {
		if e := x.entries[id]; e != nil {
			x.remove(e, o.now)
			x.place(e.lane, o.now)
		}
	}
	o.s.stats.dead += len(o.expired) - o.letters
	o.s.stats.activities -= o.dropped
	o.s.sweep = o.next
}
