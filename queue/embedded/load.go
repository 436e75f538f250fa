package embedded

import (
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// load rebuilds what is in memory from the database.
func (s *Store) load(c *sqlite.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index, s.keys = newIndex(s.signal), map[string]queue.Key{}
	for _, step := range []func(*sqlite.Conn) error{s.loadTotals, s.loadKeys, s.loadLanes, s.loadActivities, s.loadDeliveries} {
		if err := step(c); err != nil {
			return err
		}
	}
	now := millis(time.Now())
	for _, l := range s.index.byID {
		s.index.place(l, now)
	}
	return nil
}

func (s *Store) loadTotals(c *sqlite.Conn) error {
	return each(c, "SELECT (SELECT count(*) FROM activities), (SELECT count(*) FROM dead), delivered FROM meta", nil,
		func(row *sqlite.Stmt) error {
			s.stats = totals{activities: row.ColumnInt(0), dead: row.ColumnInt(1), delivered: row.ColumnInt64(2)}
			return nil
		})
}

func (s *Store) loadLanes(c *sqlite.Conn) error {
	return each(c, "SELECT lane, host, record, wait_until, paused, blocked FROM hosts", nil, func(row *sqlite.Stmt) error {
		l := newLane(row.ColumnInt64(0), row.ColumnText(1))
		l.wait, l.paused, l.blocked = row.ColumnInt64(3), row.ColumnBool(4), row.ColumnBool(5)
		s.index.add(l)
		return decode(row.ColumnText(2), &l.record)
	})
}

func (s *Store) loadActivities(c *sqlite.Conn) error {
	return each(c, "SELECT seq, first, id, key_id, ordering_key, priority, created FROM activities WHERE expires_next IS NOT NULL",
		nil, func(row *sqlite.Stmt) error {
			s.index.addActivity(&activity{
				seq: row.ColumnInt64(0), first: row.ColumnInt64(1), id: [16]byte(blob(row, 2)), keyID: row.ColumnText(3),
				ordering: orderingHash(row.ColumnText(4)), priority: queue.Priority(row.ColumnInt64(5)), created: row.ColumnInt64(6),
			})
			return nil
		})
}

// loadDeliveries loads what is pending. What waited for its key goes on to wait, unless the key is there.
func (s *Store) loadDeliveries(c *sqlite.Conn) error {
	x, now := s.index, millis(time.Now())
	return each(c, "SELECT id, activity, lane, due, attempts, flags FROM deliveries ORDER BY id", nil, func(row *sqlite.Stmt) error {
		e := &entry{
			id: row.ColumnInt64(0), act: x.activities[row.ColumnInt64(1)], lane: x.byID[row.ColumnInt64(2)],
			due: row.ColumnInt64(3), attempts: uint16(row.ColumnInt64(4)),
		}
		flags := uint8(row.ColumnInt64(5))
		e.flags = flags & hostFailed
		if _, there := s.keys[e.act.keyID]; flags&waitsKey != 0 && !there {
			x.park(e)
		}
		x.push(e, now)
		return nil
	})
}
