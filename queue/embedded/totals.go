package embedded

import (
	"maps"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// totals count the whole store or, of a transaction, what it adds to that. They are kept as counters, so that looking
// at them costs the same whatever the store holds.
type totals struct {
	activities, dead             int // held
	accepted, delivered, dropped int64
	died                         map[queue.Reason]int64
}

func (a *totals) add(b *totals) {
	a.activities += b.activities
	a.dead += b.dead
	a.accepted += b.accepted
	a.delivered += b.delivered
	a.dropped += b.dropped
	for why, n := range b.died {
		a.die(why, n)
	}
}

// die counts dead letters made.
func (a *totals) die(why queue.Reason, n int64) {
	if a.died == nil {
		a.died = map[queue.Reason]int64{}
	}
	a.died[why] += n
}

func (a *totals) deaths() (n int64) {
	for _, m := range a.died {
		n += m
	}
	return n
}

// flushTotals writes what lasts of the totals and is not counted anew at start.
func (t *tx) flushTotals() error {
	for why, n := range t.totals.died {
		if err := t.exec("INSERT INTO died (reason, n) VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET n = n + excluded.n", string(why), n); err != nil {
			return err
		}
	}
	if t.totals.delivered == 0 && t.totals.dropped == 0 {
		return nil
	}
	return t.exec("UPDATE meta SET delivered = delivered + ?, dropped = dropped + ?", t.totals.delivered, t.totals.dropped)
}

func (s *Store) loadTotals(c *sqlite.Conn) error {
	s.stats = totals{}
	err := each(c, "SELECT (SELECT count(*) FROM activities), (SELECT count(*) FROM dead), delivered, dropped FROM meta", nil,
		func(row *sqlite.Stmt) error {
			s.stats.activities, s.stats.dead = row.ColumnInt(0), row.ColumnInt(1)
			s.stats.delivered, s.stats.dropped = row.ColumnInt64(2), row.ColumnInt64(3)
			return nil
		})
	if err != nil {
		return err
	}
	return each(c, "SELECT reason, n FROM died", nil, func(row *sqlite.Stmt) error {
		s.stats.die(queue.Reason(row.ColumnText(0)), row.ColumnInt64(1))
		return nil
	})
}

// committed counts and remembers what a transaction did, and tells of it. The store's mutex must be held.
func (s *Store) committed(t *tx) {
	s.stats.add(&t.totals)
	s.rates.add(millis(t.now), [3]int64{t.totals.accepted, t.totals.delivered, t.totals.deaths()})
	s.hub.tell(t.events...)
	s.receipts.add(t.receipts, millis(t.now))
	s.next = max(s.next, t.next)
}

// rates count what was accepted, delivered and dead in this minute and in the one before.
type rates struct {
	minute      int64 // since the epoch
	now, before [3]int64
}

const minute = 60_000 // in ms

func (r *rates) add(ms int64, n [3]int64) {
	r.turn(ms)
	for i := range n {
		r.now[i] += n[i]
	}
}

// turn goes on to the minute that it is.
func (r *rates) turn(ms int64) {
	switch m := ms / minute; m - r.minute {
	case 0:
	case 1:
		r.minute, r.before, r.now = m, r.now, [3]int64{}
	default:
		*r = rates{minute: m}
	}
}

// perSecond takes of the minute before as much as is needed to make it a whole one.
func (r *rates) perSecond(ms int64) queue.Rates {
	r.turn(ms)
	rest := 1 - float64(ms%minute)/minute
	rate := func(i int) float64 { return (float64(r.now[i]) + rest*float64(r.before[i])) / 60 }
	return queue.Rates{Accepted: rate(0), Delivered: rate(1), Dead: rate(2)}
}

// snapshot returns the totals as Stats tells them. The store's mutex must be held.
func (s *Store) snapshot(now int64) queue.Stats {
	return queue.Stats{
		Activities: s.stats.activities, Pending: s.index.pending(), Dead: s.stats.dead, Hosts: s.index.names.counts(),
		Delivered: s.stats.delivered, Died: maps.Clone(s.stats.died), Dropped: s.stats.dropped, PerSecond: s.rates.perSecond(now),
	}
}
