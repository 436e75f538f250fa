package embedded

import (
	"context"
	"strconv"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Deliveries implements queue.Watching.
func (s *Store) Deliveries(ctx context.Context, id string, state queue.DeliveryState, p queue.Page) (list queue.List[queue.DeliveryStatus], err error) {
	defer wrap(&err, "deliveries of "+id)
	from, err := queue.ParseCursor(p.Cursor, 1)
	if err != nil {
		return list, err
	}
	var a stored
	err = s.db.read(ctx, func(c *sqlite.Conn) error {
		if a, err = s.clock.readActivity(c, id); err != nil {
			return err
		}
		list, err = page(c, p.Limit, selectDeliveries+" ORDER BY 1", []any{a.first + from[0], a.end, string(state)},
			func(row *sqlite.Stmt) (queue.DeliveryStatus, string) {
				n := row.ColumnInt64(0) - a.first
				d := s.clock.readDelivery(row)
				d.ID = a.ID + "." + strconv.FormatInt(n, 10)
				d.DiedAt = time.Time{} // Delivery alone shows it
				return d, strconv.FormatInt(n+1, 10)
			})
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list.Items {
		_, n, _ := splitID(list.Items[i].ID)
		s.showWait(&list.Items[i], a.first+n)
	}
	return list, err
}

// showWait shows until when a delivery waits, and for what. The caller holds mu.
func (s *Store) showWait(d *queue.DeliveryStatus, id int64) {
	e := s.index.entries[id]
	if e == nil || d.State != queue.StatePending {
		return
	}
	now := s.clock.now()
	d.NextAttemptAt = s.clock.shown(e.nextAttempt())
	d.Waits = e.waits(now)
}

// selectDeliveries selects deliveries from an id up to, but not including, another: those in a state, or all if that is "".
const selectDeliveries = `SELECT d.id, d.inbox, h.host, '', d.attempts, d.history, d.ids, 0 FROM deliveries d JOIN hosts h ON h.lane = d.lane
	WHERE d.id >= ?1 AND d.id < ?2 AND ?3 != 'dead'
	UNION ALL SELECT id, inbox, host, reason, attempts, history, ids, died_at FROM dead WHERE id >= ?1 AND id < ?2 AND ?3 != 'pending'`

// readDelivery reads a row of selectDeliveries, but for its ID.
func (k *clock) readDelivery(row *sqlite.Stmt) queue.DeliveryStatus {
	d := queue.DeliveryStatus{
		Inbox: row.ColumnText(1), Host: row.ColumnText(2), State: queue.StatePending, Reason: queue.Reason(row.ColumnText(3)),
		Attempts: row.ColumnInt(4), History: decoded[queue.History](row, 5), IDs: decoded[[]string](row, 6), DiedAt: k.shown(row.ColumnInt64(7)),
	}
	if d.Reason != "" {
		d.State = queue.StateDead
	}
	return d
}

// nextAttempt returns when a delivery may be attempted next, 0 if that is not known.
func (e *entry) nextAttempt() int64 {
	if e.prev != nil || e.due == never {
		return 0
	}
	if e.lane.probing() {
		return max(e.lane.wait, e.act.created)
	}
	return max(e.due, e.lane.wait)
}

// waits returns what a delivery waits for.
func (e *entry) waits(now int64) queue.Waits {
	l := e.lane
	switch {
	case e.flags&taken != 0:
		return queue.WaitsAnswer
	case e.prev != nil:
		return queue.WaitsPredecessor
	case e.flags&waitsKey != 0:
		return queue.WaitsKey
	case l.held[pausing] > now || l.held[blocking] > now || l.wait > now && (l.probing() || l.wait >= e.due):
		return queue.WaitsHost
	case e.due > now && !l.probing():
		return queue.WaitsRetry
	}
	return queue.WaitsTurn
}
