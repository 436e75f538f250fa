package embedded

import (
	"context"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// Act implements queue.Operating.
func (s *Store) Act(ctx context.Context, host string, action queue.HostAction, order queue.Order) (queue.HostStatus, error) {
	if !slices.Contains(queue.HostActions, action) {
		return queue.HostStatus{}, fmt.Errorf("unknown action %q", action)
	}
	o := &act{s: s, host: host, action: action, asked: order}
	err := s.writer.do(ctx, o.run, o.apply)
	if err == nil && o.cover != "" {
		return queue.HostStatus{}, &queue.CoveredError{Host: o.cover}
	}
	s.reviewAll()
	if err == nil && action == queue.Block {
		err = o.clear(ctx)
	}
	if err != nil {
		return queue.HostStatus{}, fmt.Errorf("%s %s: %w", action, host, err)
	}
	return s.Host(ctx, host)
}

// act is the operation of one action.
type act struct {
	s      *Store
	host   string
	action queue.HostAction
	asked  queue.Order
	many   bool              // it is one of many that one call acts on, and leaves no entry of its own
	order  *orderChange      // of a pause or a block, or the end of one
	cover  string            // the host whose order covers this one, which cannot be ended here
	id     int64             // the lane's, 0 if there is none and nothing to do
	record *queue.HostRecord // of a host that is reset
	until  int64             // the end of a wait that ends sooner, else 0
	due    []*entry          // what becomes due
	now    int64
}

func (o *act) run(t *tx) error {
	*o = act{s: o.s, host: o.host, action: o.action, asked: o.asked, many: o.many, now: t.now} // may run twice
	if err := o.find(t); err != nil || o.id == 0 {
		return err
	}
	t.touch(o.id)
	t.by[o.id] = o.asked.By
	changed, err := o.change(t)
	if err != nil || !changed || o.many {
		return err
	}
	return t.feed(queue.HostActed(o.host, o.action, o.asked))
}

// change does what was asked for, and reports whether that changed anything.
func (o *act) change(t *tx) (changed bool, err error) {
	switch o.action {
	case queue.Pause, queue.Resume, queue.Block, queue.Unblock:
		changed = !o.order.order.repeats(t.ordersOf(o.host)[o.order.kind], o.now)
		return changed, t.setOrder(*o.order)
	case queue.Reset:
		return o.reset(t)
	case queue.Probe:
		return o.probe(t)
	case queue.Seen:
		o.until, err = t.hasten(o.id)
		return o.until > 0, err
	}
	return false, nil
}

// find finds what is to be changed: an order, and the lane. Only a pause or a block makes one for a host that is not known.
func (o *act) find(t *tx) (err error) {
	for kind, of := range orderActions {
		if o.action == of.give {
			o.order = &orderChange{o.host, kind, newOrder(o.asked, t.ordersOf(o.host)[kind], o.now)}
		} else if o.action == of.end && o.ends(t, kind) {
			o.order = &orderChange{host: o.host, kind: kind}
		}
	}
	if o.cover != "" {
		return nil
	}
	o.s.mu.Lock()
	l := o.s.index.lanes[o.host]
	o.s.mu.Unlock()
	switch {
	case l != nil:
		o.id = l.id
	case o.action == queue.Pause, o.action == queue.Block:
		o.id, err = t.lane(o.host)
	}
	return err
}

// ends reports that the host's own orders can be ended, unless only others cover it: then it notes the nearest.
func (o *act) ends(t *tx, kind int) bool {
	t.holding(o.host).each(kind, func(name string, order *order) {
		if order.until > o.now && o.cover == "" {
			o.cover = name
		}
	})
	if o.cover == o.host {
		o.cover = ""
	}
	return o.cover == ""
}

// lane returns the lane as it is in memory, or nil. The store's mutex must be held.
func (o *act) lane() *lane { return o.s.index.byID[o.id] }

// reset writes a record that no settlement of an earlier turn can replace.
func (o *act) reset(t *tx) (changed bool, err error) {
	row, err := t.host(o.id)
	if err != nil {
		return false, err
	}
	record := row.record.Forgiven()
	changed = toJSON(record) != toJSON(row.record) || row.wait > o.now
	record.Epoch++
	o.record = &record
	t.reset[o.id] = true
	o.s.mu.Lock()
	o.due = o.lane().failed()
	o.s.mu.Unlock()
	if err := t.makeDue(o.due, o.now); err != nil {
		return false, err
	}
	return changed || len(o.due) > 0, t.exec("UPDATE hosts SET record = ?, wait_until = 0, hastened = 0 WHERE lane = ?", toJSON(record), o.id)
}

func (o *act) probe(t *tx) (changed bool, err error) {
	row, err := t.host(o.id)
	if err != nil {
		return false, err
	}
	o.s.mu.Lock()
	l := o.lane()
	l.ripen(o.now)
	if _, ready := l.best(); !ready && l.record.Breaker.State == breaker.Closed && len(l.later.es) > 0 && l.later.es[0].due != never {
		o.due = []*entry{l.later.es[0]}
	}
	o.s.mu.Unlock()
	if err := t.makeDue(o.due, o.now); err != nil {
		return false, err
	}
	return row.wait > o.now || len(o.due) > 0, t.exec("UPDATE hosts SET wait_until = 0 WHERE lane = ?", o.id)
}

// makeDue makes deliveries due, even if they wait for a time or a host.
func (t *tx) makeDue(es []*entry, now int64) error {
	for _, e := range es {
		if err := t.exec("UPDATE deliveries SET due = ? WHERE id = ?", now, e.id); err != nil {
			return err
		}
	}
	return nil
}

func (o *act) apply() {
	if o.id == 0 {
		return
	}
	x := o.s.index
	l := x.lane(o.id, o.host)
	switch o.action {
	case queue.Pause, queue.Resume, queue.Block, queue.Unblock:
		x.setOrder(*o.order, o.now)
	case queue.Reset:
		l.record, l.wait = *o.record, 0
		l.quick = 0
	case queue.Probe:
		l.wait = 0
	case queue.Seen:
		l.hasten(o.until)
	}
	x.advance(o.due, o.now)
	x.place(l, o.now)
}

// advance applies makeDue, except to deliveries that were taken meanwhile. The caller places the lane.
func (x *index) advance(es []*entry, now int64) {
	for _, e := range es {
		if x.entries[e.id] == e && e.flags&taken == 0 {
			x.reschedule(e, now, now)
		}
	}
}

// failed returns the deliveries that wait because the host failed.
func (l *lane) failed() (es []*entry) {
	for _, e := range l.later.es {
		if e.waitsForHost() {
			es = append(es, e)
		}
	}
	return es
}

// hostRow is the row of a host, with the changes of this transaction.
type hostRow struct {
	record      queue.HostRecord
	wait, since int64
	hastened    int
}

func (t *tx) host(lane int64) (r hostRow, err error) {
	err = each(t.conn, "SELECT record, wait_until, wait_since, hastened FROM hosts WHERE lane = ?", []any{lane}, func(row *sqlite.Stmt) error {
		r.wait, r.since = row.ColumnInt64(1), row.ColumnInt64(2)
		r.hastened = row.ColumnInt(3)
		return decode(row.ColumnText(0), &r.record)
	})
	return r, err
}

// hasten ends a lane's wait sooner, as queue.Seen allows, and returns the new end, or 0. lane.hasten applies it. That happens at
// most once in a wait, as the pause never gets shorter.
func (t *tx) hasten(lane int64) (until int64, err error) {
	row, err := t.host(lane)
	now := t.now
	if err != nil || !row.record.Probed() || row.wait <= now {
		return 0, err
	}
	until = max(now, row.since+queue.SeenPause(row.hastened).Milliseconds())
	if until >= row.wait {
		return 0, nil
	}
	return until, t.exec("UPDATE hosts SET wait_until = ?, hastened = hastened + 1 WHERE lane = ?", until, lane)
}

// hasten applies what tx.hasten wrote.
func (l *lane) hasten(until int64) {
	if until > 0 {
		l.wait = until
		l.quick++
	}
}

// clear buries all that pends for a blocked host, in steps that let other operations run between them.
func (o *act) clear(ctx context.Context) error {
	s := o.s
	for {
		var vs []burial
		s.mu.Lock()
		if l := s.index.lanes[o.host]; l != nil && l.held[blocking] > s.clock.now() {
			vs = s.index.burials(l, clearAtOnce, s.clock.now())
		}
		s.mu.Unlock()
		if len(vs) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err // Sweep goes on
		}
		err := s.writer.do(ctx, func(t *tx) error { return t.buryAll(vs) }, func() { s.index.forgetBuried(vs, s.clock.now()) })
		if err != nil {
			return err
		}
	}
}

// clearAtOnce is how many deliveries of a blocked host are buried in one operation.
const clearAtOnce = 1000
