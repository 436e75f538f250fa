package embedded

import (
	"cmp"
	"context"

	"github.com/postrider/postrider/queue"
)

// unreadable is a delivery that cannot be sent, because of the damage that the error names.
type unreadable struct {
	e   *entry
	err error
}

// setAside makes dead letters of deliveries that cannot be sent. If that cannot be written, they only leave their lanes.
func (c *choice) setAside(ctx context.Context, bad []unreadable) error {
	s := c.s
	for _, b := range bad {
		vs := []burial{{b.e, queue.ReasonDamaged}}
		logDamage(s.opts.Log, b.err, "delivery", deliveryID(b.e.act, b.e.id), "host", b.e.lane.host)
		err := s.writer.do(ctx, func(t *tx) error { return t.buryAll(vs) }, func() { s.index.forgetBuried(vs, s.clock.now()) })
		if isDamage(err) {
			s.dropDamaged(b.e, err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropDamaged takes a delivery out of its lane whose row cannot be changed.
func (s *Store) dropDamaged(e *entry, err error) {
	logDamage(s.opts.Log, &damage{"deliveries", e.id, "it is left out, for nothing can be written about it: " + err.Error()},
		"delivery", deliveryID(e.act, e.id), "host", e.lane.host)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.forgetBuried([]burial{{e, queue.ReasonDamaged}}, s.clock.now())
}

// buryDamaged makes a dead letter by what is in memory, as the row may say anything. A delivery without an activity stays
// where it is: nothing could list it.
func (t *tx) buryDamaged(e *entry) error {
	err := t.exec(`INSERT OR REPLACE INTO dead (id, activity, host, inbox, headers, ids, reason, attempts, history, died_at, uri)
		SELECT d.id, a.seq, ?, ?, iif(json_valid(d.headers), d.headers, NULL), iif(json_valid(d.ids), d.ids, NULL), ?, ?,
			iif(json_valid(d.history), d.history, NULL), ?, ?
		FROM deliveries d JOIN activities a ON a.seq = ? WHERE d.id = ?`,
		e.lane.host, e.inbox.url, string(queue.ReasonDamaged), int64(e.attempts), t.now, int64(e.act.uri), e.act.seq, e.id)
	if err != nil || t.conn.Changes() == 0 {
		return err
	}
	return t.died(e.act.seq, e.id, queue.ReasonDamaged)
}

// around settles each result by itself, and then the rest, if pages cannot be read. A delivery whose result cannot be written
// leaves its lane; changes of a host that cannot be written are kept in memory until the next start.
func (o *settle) around(ctx context.Context) error {
	s := o.s
	for i := range o.st.Results {
		one := &settle{s: s, lease: o.lease, st: queue.Settlement{Results: o.st.Results[i : i+1]}}
		err := s.writer.do(ctx, one.run, one.apply)
		if isDamage(err) && len(one.entries) == 1 && one.entries[0] != nil {
			s.dropDamaged(one.entries[0], err)
			err = nil
		}
		if err != nil || one.err != nil {
			return cmp.Or(err, one.err)
		}
	}
	o.st.Results = nil
	err := s.writer.do(ctx, o.run, o.apply)
	if !isDamage(err) {
		return err
	}
	logDamage(s.opts.Log, err, "host", o.lease.Host)
	o.inMemory()
	return nil
}
