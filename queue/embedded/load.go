package embedded

import (
	"maps"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// load rebuilds what is in memory from the database.
func (s *Store) load(c *sqlite.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index, s.keys = newIndex(), newKeyring()
	s.index.wake, s.index.turned, s.index.laneCap = s.signal, s.turned, s.opts.Lane
	if s.opts.Rand != nil {
		s.index.random = s.opts.Rand.IntN
	}
	now := millis(time.Now())
	if err := s.loadReceipts(c, now); err != nil {
		return err
	}
	for _, step := range []func(*sqlite.Conn) error{s.loadNext, s.loadTotals, s.loadKeys, s.loadLanes, s.loadActivities, s.loadDeliveries} {
		if err := step(c); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.index.byID)) {
		s.index.place(s.index.byID[id], now)
	}
	return nil
}

// loadNext finds the id of the next delivery.
func (s *Store) loadNext(c *sqlite.Conn) error {
	s.next = 1
	return each(c, "SELECT first + total FROM activities ORDER BY seq DESC LIMIT 1", nil, func(row *sqlite.Stmt) error {
		s.next = row.ColumnInt64(0)
		return nil
	})
}

func (s *Store) loadLanes(c *sqlite.Conn) error {
	return each(c, "SELECT lane, host, record, wait_until, paused, blocked, wait_since, hastened FROM hosts", nil, func(row *sqlite.Stmt) error {
		l := newLane(row.ColumnInt64(0), row.ColumnText(1))
		l.wait, l.paused, l.blocked = row.ColumnInt64(3), row.ColumnBool(4), row.ColumnBool(5)
		l.since, l.quick = row.ColumnInt64(6), row.ColumnInt(7)
		s.index.add(l)
		return decode(row.ColumnText(2), &l.record)
	})
}

func (s *Store) loadActivities(c *sqlite.Conn) error {
	return each(c, "SELECT seq, first, id, key_id, ordering_key, priority, created, role, uri FROM activities WHERE expires_next IS NOT NULL",
		nil, func(row *sqlite.Stmt) error {
			s.index.addActivity(&activity{
				seq: row.ColumnInt64(0), first: row.ColumnInt64(1), id: [16]byte(blob(row, 2)), keyID: row.ColumnText(3),
				ordering: hashOf(row.ColumnText(4)), priority: queue.Priority(row.ColumnInt64(5)), created: row.ColumnInt64(6),
				role: queue.Role(row.ColumnInt64(7)), uri: hashOf(row.ColumnText(8)),
			})
			return nil
		})
}

// loadDeliveries loads what is pending. What waited for its key goes on to wait, unless the key is there.
func (s *Store) loadDeliveries(c *sqlite.Conn) error {
	x, now := s.index, millis(time.Now())
	return each(c, "SELECT id, activity, lane, due, attempts, flags, inbox FROM deliveries ORDER BY id", nil, func(row *sqlite.Stmt) error {
		e := &entry{
			id: row.ColumnInt64(0), act: x.activities[row.ColumnInt64(1)], lane: x.byID[row.ColumnInt64(2)],
			due: row.ColumnInt64(3), attempts: uint16(row.ColumnInt64(4)),
		}
		flags := uint8(row.ColumnInt64(5))
		e.flags = flags & lasting
		if _, there := s.keys.get(e.act.keyID); flags&waitsKey != 0 && !there {
			x.park(e)
		}
		x.push(e, row.ColumnText(6), nil, now)
		return nil
	})
}

// turned tells those who watch that a host's state has changed. The store's mutex must be held.
func (s *Store) turned(l *lane) {
	s.hub.tell(queue.Event{Kind: queue.EventHostState, At: time.Now().UTC(), Host: l.host, State: l.state})
}
