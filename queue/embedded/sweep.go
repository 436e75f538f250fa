package embedded

import (
	"context"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

const (
	sweepRows = 2000            // at most so many rows of a kind in one sweep
	sweepSoon = time.Second     // when to look again at what was taken as it expired
	sweepIdle = 5 * time.Minute // the longest between two that look: each keeps the time (clock)
)

// Sweep implements queue.Lanes. Called when nothing is due it costs next to nothing.
func (s *Store) Sweep(ctx context.Context) (_ time.Duration, err error) {
	defer wrap(&err, "sweep")
	if wait := s.sweepIn(); wait > 0 {
		return wait, nil
	}
	o := &sweep{s: s}
	err = s.writer.do(ctx, o.run, o.apply)
	if err == nil {
		err = s.forgetHosts(ctx)
	}
	if isDamage(err) {
		return o.around(ctx)
	}
	if err != nil {
		return 0, err
	}
	return min(max(0, time.Duration(o.next-o.now)*time.Millisecond), s.sweepIn()), nil
}

// sweepIn returns how long there is nothing to sweep.
func (s *Store) sweepIn() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	s.index.endThrottles(now)
	if len(s.index.excess)+len(s.restless)+len(s.index.orders.reviews) > 0 || s.opts.DeadLetters > 0 && s.stats.dead > s.opts.DeadLetters {
		return 0
	}
	next := min(s.index.sweepAt, s.index.throttled, s.index.unused.next(), s.index.orders.next)
	return max(0, time.Duration(next-now)*time.Millisecond)
}

// sweepSteps are what a sweep does.
var sweepSteps = []func(*sweep, *tx) error{
	(*sweep).expire, (*sweep).shed, (*sweep).dropLetters, (*sweep).capLetters, (*sweep).dropTombstones, (*sweep).dropActivities,
	(*sweep).endOrders, (*sweep).retireKeys, (*sweep).dropEntries, (*sweep).capEntries,
}

// sweep is one bounded step of cleaning up.
type sweep struct {
	s       *Store
	now     int64
	next    int64
	burials []burial
	retired map[string]bool // keys that no sweep need check again, and whether they were removed
	ended   []orderChange
	only    int // which step it does, counted from 1; all if it is 0
}

// around does each step by itself, and leaves out those that need pages that cannot be read.
func (o *sweep) around(ctx context.Context) (time.Duration, error) {
	for i := range sweepSteps {
		o.only = i + 1
		err := o.s.writer.do(ctx, o.run, o.apply)
		if isDamage(err) {
			logDamage(o.s.opts.Log, err)
		} else if err != nil {
			return 0, err
		}
	}
	return queue.MaxIdle, nil
}

func (o *sweep) run(t *tx) error {
	*o = sweep{s: o.s, now: t.now, next: never, retired: map[string]bool{}, only: o.only}
	o.lookAgain(sweepIdle)
	if r := o.s.opts.DeadRetention; r > 0 {
		o.lookAgain(r) // dead letters from now on
	}
	for i, step := range sweepSteps {
		if o.only != 0 && o.only != i+1 {
			continue
		}
		if err := step(o, t); err != nil {
			return err
		}
	}
	return nil
}

// lookAgain has the next sweep come after at most so long, or after a minute: retention is checked once a minute.
func (o *sweep) lookAgain(after time.Duration) {
	o.next = min(o.next, o.now+max(after, queue.MaxIdle).Milliseconds())
}

// expire makes dead letters of deliveries that have outlived their TTL.
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
		if len(o.burials) >= sweepRows || i == 63 {
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
	if len(rows) == 0 {
		return o.endLost(t, seq)
	}
	overdue, again := o.overdue(rows)
	if err := t.buryAll(overdue); err != nil {
		return err
	}
	o.burials = append(o.burials, overdue...)
	if again == never {
		return nil // nothing is pending any more
	}
	o.next = min(o.next, again)
	return t.exec("UPDATE activities SET expires_next = ? WHERE seq = ?", again, seq)
}

// endLost ends an activity that pends by its counts, though it has no deliveries any more: their rows were lost.
func (o *sweep) endLost(t *tx, seq int64) error {
	lost, _, err := one(t.conn, (*sqlite.Stmt).ColumnInt64, "SELECT total - delivered - dead - cancelled FROM activities WHERE seq = ?", seq)
	d := t.counts[seq]
	if d != nil {
		lost -= d.delivered + d.dead + d.cancelled // what this transaction ended
	}
	if err != nil || lost <= 0 && d != nil {
		return err
	}
	t.count(seq).dead += max(0, lost)
	return nil
}

// overdue returns which deliveries die and why, and when to check the others again.
func (o *sweep) overdue(rows []row) (overdue []burial, again int64) {
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
			overdue = append(overdue, burial{e, queue.ReasonKeyMissing})
		default:
			overdue = append(overdue, burial{e, queue.ReasonExpired})
		}
	}
	return overdue, again
}

// shed makes dead letters of what lanes hold too much of. Deliveries expire first, which may make this unnecessary.
func (o *sweep) shed(t *tx) error {
	if len(o.burials) > 0 {
		return nil
	}
	o.s.mu.Lock()
	o.burials = o.s.index.allBurials(sweepRows, o.now)
	o.s.mu.Unlock()
	return t.buryAll(o.burials)
}

// dropLetters drops dead letters that have outlived their retention.
func (o *sweep) dropLetters(t *tx) error {
	return o.drop(t, o.s.opts.DeadRetention, "SELECT died_at FROM dead ORDER BY died_at, id LIMIT 1", func(before int64) (int, error) {
		return t.dropLetters("SELECT id FROM dead WHERE died_at <= ? ORDER BY died_at, id LIMIT ?", before, sweepRows)
	})
}

// drop drops some of what has outlived its retention; 0 keeps everything. The query oldest, for the time of the oldest, is
// cheaper than one that binds a time, which SQLite plans each time.
func (o *sweep) drop(t *tx, retention time.Duration, oldest string, drop func(before int64) (int, error)) error {
	if retention <= 0 {
		return nil
	}
	at, found, err := one(t.conn, (*sqlite.Stmt).ColumnInt64, oldest)
	if err != nil || !found {
		return err
	}
	before := o.now - retention.Milliseconds()
	if at > before {
		o.lookAgain(time.Duration(at-before) * time.Millisecond)
		return nil
	}
	dropped, err := drop(before)
	if dropped > 0 {
		o.next = o.now // there may be more
	}
	return err
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

// dropTombstones drops tombstones that have outlived the retention of dead letters.
func (o *sweep) dropTombstones(t *tx) error {
	return o.drop(t, o.s.opts.DeadRetention, "SELECT created FROM tombstones ORDER BY seq LIMIT 1", func(before int64) (int, error) {
		return t.dropTombstones("seq IN (SELECT seq FROM tombstones ORDER BY seq LIMIT ?) AND created <= ?", sweepRows, before)
	})
}

// dropActivities drops finished activities that have outlived their retention and have no dead letters.
func (o *sweep) dropActivities(t *tx) error {
	oldest := "SELECT done_at FROM activities WHERE done_at IS NOT NULL AND letters = 0 ORDER BY done_at LIMIT 1"
	return o.drop(t, o.s.opts.Retention, oldest, func(before int64) (int, error) {
		return t.dropActivities(`SELECT seq FROM activities
			WHERE done_at IS NOT NULL AND letters = 0 AND done_at <= ? ORDER BY done_at LIMIT ?`, before, sweepRows)
	})
}

// dropActivities drops the activities that a query gives, with their marks, which are written first if they are in memory.
func (t *tx) dropActivities(which string, args ...any) (dropped int, err error) {
	var marks []mark
	err = each(t.conn, "DELETE FROM activities WHERE seq IN ("+which+") RETURNING seq, uri, actor, key_id", args, func(row *sqlite.Stmt) error {
		marks = appendMarks(marks, row.ColumnInt64(0), row.ColumnText(1), row.ColumnText(2), row.ColumnText(3))
		dropped++
		return nil
	})
	t.totals.activities -= dropped
	if err != nil || dropped == 0 {
		return dropped, err
	}
	if err := t.writeMarks(len(t.ledger.marks)); err != nil {
		return dropped, err
	}
	for _, m := range marks {
		if err := t.exec("DELETE FROM marks WHERE mark = ?", int64(m)); err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

func (o *sweep) apply() {
	x := o.s.index
	x.forgetBuried(o.burials, o.now)
	for _, c := range o.ended {
		x.setOrder(c, o.now)
	}
	x.orders.ended(o.now)
	x.review(o.now)
	for name, removed := range o.retired {
		delete(x.retiring, name)
		if removed {
			o.s.keys.remove(name)
		}
	}
	x.sweepAt = o.next
}
