package embedded

import (
	"context"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// forgetAtOnce is how many hosts one operation forgets.
const forgetAtOnce = 500

// idleLanes keeps the lanes that may be forgotten, in the order of when something last happened to them.
type idleLanes struct{ *laneTree }

// note records when something happened to a lane, if the lane may be forgotten.
func (i *idleLanes) note(l *lane, at int64) {
	i.remove(l)
	if l.forgettable() {
		l.idle = max(at, 1)
		i.Set(l)
	}
}

func (i *idleLanes) remove(l *lane) {
	if l.idle != 0 {
		i.Delete(l)
		l.idle = 0
	}
}

// next returns when the next lane is to be forgotten.
func (i *idleLanes) next() int64 {
	first, found := i.Min()
	if !found {
		return never
	}
	return first.idle + queue.HostRetention.Milliseconds()
}

// over returns at most forgetAtOnce lanes that are to be forgotten.
func (i *idleLanes) over(now int64) (lanes []*lane) {
	i.Scan(func(l *lane) bool {
		if l.idle+queue.HostRetention.Milliseconds() > now || len(lanes) == forgetAtOnce {
			return false
		}
		lanes = append(lanes, l)
		return true
	})
	return lanes
}

// forgettable reports whether nothing of a lane is worth keeping for long.
func (l *lane) forgettable() bool {
	return l.pending == 0 && len(l.taken) == 0 && l.held == (orderEnds{}) && !l.record.Reached()
}

// lastTried returns when something last happened to a lane that was loaded, as far as that is stored.
func (l *lane) lastTried() int64 {
	at := max(l.since, l.wait)
	if l.record.LastError != nil {
		at = max(at, millis(l.record.LastError.At))
	}
	return at
}

// forgetHosts forgets some hosts to which nothing has happened for queue.HostRetention. It has a transaction of its own, as other
// operations keep the ids of lanes from their run to their apply.
func (s *Store) forgetHosts(ctx context.Context) error {
	s.mu.Lock()
	due := s.index.unused.next() <= s.clock.now()
	s.mu.Unlock()
	if !due {
		return nil
	}
	var lanes []*lane
	return s.writer.await(ctx, &op{alone: true, run: func(t *tx) error {
		s.mu.Lock()
		lanes = s.index.unused.over(t.now)
		s.mu.Unlock()
		for _, l := range lanes {
			if err := t.forget(l); err != nil {
				return err
			}
		}
		return nil
	}, apply: func() {
		for _, l := range lanes {
			s.index.forget(l)
		}
	}})
}

// forget drops a host, which is healthy from then on, as any that is not known.
func (t *tx) forget(l *lane) error {
	var state string
	err := each(t.conn, "DELETE FROM hosts WHERE lane = ? RETURNING state", []any{l.id}, func(row *sqlite.Stmt) error {
		state = row.ColumnText(0)
		return nil
	})
	if err != nil || state == string(queue.HostHealthy) || state == "" {
		return err
	}
	return t.feed(queue.Event{Kind: queue.EventHostState, Host: l.host, State: queue.HostHealthy})
}

// forget takes out a lane that is forgettable.
func (x *index) forget(l *lane) {
	x.unused.remove(l)
	x.lift(l)
	x.noteWaiting(l, false, 0)
	x.names.remove(l)
	delete(x.lanes, l.host)
	delete(x.byID, l.id)
	l.state = l.told.state
	x.changed(l) // it has nothing more to tell
}
