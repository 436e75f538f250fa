package embedded

import (
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// victim is a delivery that the store itself is about to make a dead letter, and why.
type victim struct {
	e   *entry
	why queue.Reason
}

// excessive tells that a lane may hold what is to be given up.
func (x *index) excessive(l *lane) bool {
	switch {
	case l.blocked:
		return l.pending > 0
	case l.record.Unavailable:
		return l.pending > 1
	}
	return x.laneCap > 0 && l.pending > x.laneCap &&
		(l.fifos[queue.Low].oldest != nil || l.fifos[queue.Normal].oldest != nil)
}

// victims returns at most n deliveries of a lane that are to be given up.
func (x *index) victims(l *lane, n int) []victim {
	var es []*entry
	why := queue.ReasonHostBlocked
	switch {
	case l.blocked:
		es = l.oldestOf(n, func(*entry) bool { return false }, queue.High, queue.Normal, queue.Low)
	case l.record.Unavailable:
		why = queue.ReasonHostUnavailable
		kept := l.probe()
		es = l.oldestOf(n, func(e *entry) bool { return e == kept || e.flags&taken != 0 }, queue.Low, queue.Normal, queue.High)
	case x.laneCap > 0 && l.pending > x.laneCap:
		why = queue.ReasonLaneFull
		es = l.oldestOf(min(n, l.pending-x.laneCap), func(e *entry) bool { return e.flags&taken != 0 }, queue.Low, queue.Normal)
	}
	vs := make([]victim, len(es))
	for i, e := range es {
		vs[i] = victim{e, why}
	}
	return vs
}

// allVictims returns at most n deliveries that are to be given up, of whatever lanes. A lane that has none any more is
// not looked at again before something about it changes.
func (x *index) allVictims(n int) (all []victim) {
	for _, l := range slices.SortedFunc(maps.Keys(x.excess), func(a, b *lane) int { return cmp.Compare(a.id, b.id) }) {
		if len(all) == n {
			break
		}
		vs := x.victims(l, n-len(all))
		if len(vs) == 0 {
			delete(x.excess, l)
		}
		all = append(all, vs...)
	}
	return all
}

// giveUp makes dead letters of deliveries, of which forget has to be told once that is durable. It tells those who watch.
func (s *Store) giveUp(t *tx, vs []victim) error {
	for _, v := range vs {
		letter, err := s.describe(t, v)
		if err != nil {
			return err
		}
		buried, err := t.bury(v.e.id, &queue.Result{Reason: v.why})
		if err != nil {
			return err
		}
		if buried {
			t.events = append(t.events, letter...)
		}
	}
	return nil
}

// describe returns what those who watch are told of a death: nothing if nobody does.
func (s *Store) describe(t *tx, v victim) (events []queue.Event, err error) {
	if !s.hub.watched() {
		return nil, nil
	}
	err = each(t.conn, `SELECT a.id, a.uri, d.inbox, h.host, d.attempts, d.last FROM deliveries d JOIN activities a ON a.seq = d.activity
		JOIN hosts h ON h.lane = d.lane WHERE d.id = ?`, []any{v.e.id}, func(row *sqlite.Stmt) error {
		event := queue.Event{
			Kind: queue.EventDead, At: t.now.UTC(), ID: deliveryID(v.e.act, v.e.id), ActivityID: uuid.UUID(blob(row, 0)).String(),
			URI: row.ColumnText(1), Inbox: row.ColumnText(2), Host: row.ColumnText(3), Reason: v.why, Attempts: row.ColumnInt(4),
		}
		err := decode(row.ColumnText(5), &event.Attempt)
		events = append(events, event)
		return err
	})
	return events, err
}

// forget takes out what was given up. The store's mutex must be held.
func (s *Store) forget(vs []victim, now int64) {
	x := s.index
	for _, v := range vs {
		switch e := v.e; {
		case x.entries[e.id] != e:
			continue
		case e.lane.blocked:
			x.remove(e, now)
		default:
			x.drop(e, now)
		}
		x.place(v.e.lane, now)
	}
}
