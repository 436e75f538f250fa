package embedded

import (
	"context"
	"maps"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// totals count the whole store, or what a transaction adds to it. They are counters, so reading them costs the same whatever
// the store holds.
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

// flushTotals writes those totals that are not counted again at start.
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

// committed counts what a transaction did, and tells subscribers if the feed has more. The store's mutex must be held.
func (s *Store) committed(t *tx) {
	s.writer.ledger.commit(t)
	s.stats.add(&t.totals)
	s.rates.add(t.now, &t.totals)
	for id, now := range t.turned {
		if l := s.index.byID[id]; l != nil {
			l.told = now
			s.changed(l)
		}
	}
	if t.fed {
		s.hub.Publish(queue.Event{Kind: queue.EventFed})
	}
}

// rates are how many deliveries were accepted, delivered and dead of late.
type rates struct{ accepted, delivered, dead queue.Rate }

func (r *rates) add(ms int64, t *totals) {
	r.accepted.Add(ms, t.accepted)
	r.delivered.Add(ms, t.delivered)
	r.dead.Add(ms, t.deaths())
}

func (r *rates) perSecond(ms int64) queue.Rates {
	return queue.Rates{Accepted: r.accepted.PerSecond(ms), Delivered: r.delivered.PerSecond(ms), Dead: r.dead.PerSecond(ms)}
}

// Stats implements queue.Watching.
func (s *Store) Stats(ctx context.Context) (_ queue.Stats, err error) {
	defer wrap(&err, "stats")
	oldest, err := read(ctx, s.db, func(c *sqlite.Conn) (oldest int64, err error) {
		oldest, _, err = one(c, (*sqlite.Stmt).ColumnInt64,
			"SELECT a.created FROM deliveries d JOIN activities a ON a.seq = d.activity ORDER BY d.id LIMIT 1")
		return oldest, err
	})
	if err != nil {
		return queue.Stats{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.ripen(s.clock.now())
	return queue.Stats{
		Activities: s.stats.activities, Pending: s.index.pending(), Dead: s.stats.dead, Hosts: s.index.names.counts(),
		Answers: s.index.answers, Delivered: s.stats.delivered, Died: maps.Clone(s.stats.died), Dropped: s.stats.dropped,
		PerSecond: s.rates.perSecond(s.clock.now()), OldestPendingAt: s.clock.shown(oldest),
		OldestDueAt: s.clock.shown(s.index.waitingSince()),
	}, nil
}
