package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Settle implements queue.Lanes.
func (s *Store) Settle(ctx context.Context, lease lockmgr.Lease, st queue.Settlement) error {
	o := &settle{s: s, lease: lease, st: st}
	if !o.writes() {
		s.mu.Lock()
		defer s.mu.Unlock()
		o.check(nil)
		o.now = millis(time.Now())
		o.apply()
		return o.err
	}
	if err := s.writer.do(ctx, o.run, o.apply); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return o.err
}

// settle is one settlement on its way in.
type settle struct {
	s       *Store
	lease   lockmgr.Lease
	st      queue.Settlement
	err     error
	l       *lane
	entries []*entry          // of the results, nil for those that are not there any more
	failed  []*entry          // what waited because the host failed, if it recovered
	host    *queue.HostRecord // what of the settlement is not outdated
	pause   time.Duration
	now     int64
}

// check finds the lane and what the results are about. The store's mutex must be held.
func (o *settle) check(reset map[int64]bool) {
	o.err, o.failed, o.entries = nil, nil, make([]*entry, len(o.st.Results))
	o.l = o.s.index.lanes[o.lease.Host]
	if o.l == nil || o.lease.Token != o.l.token {
		o.err = queue.ErrNotHeld
		return
	}
	o.host, o.pause = o.st.Host, o.st.Wait
	if o.host != nil && (o.host.Epoch < o.l.record.Epoch || reset[o.l.id]) {
		o.host, o.pause = nil, 0
	}
	for i, r := range o.st.Results {
		act, ordinal, ok := splitID(r.ID)
		if !ok {
			continue
		}
		if a := o.s.index.bySeq[act]; a != nil {
			if e := o.s.index.entries[a.first+ordinal]; e != nil && e.lane == o.l && e.flags&taken != 0 {
				o.entries[i] = e
			}
		}
	}
}

// writes tells whether anything in the settlement has to last.
func (o *settle) writes() bool {
	for _, r := range o.st.Results {
		if r.Verdict != queue.Defer || r.After > 0 || r.WaitKey || r.Attempt != nil || r.Spent {
			return true
		}
	}
	if o.st.Wait != 0 || o.st.Recovered {
		return true
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	l := o.s.index.lanes[o.lease.Host]
	return l != nil && o.st.Host != nil && !sameForGood(&l.record, o.st.Host)
}

func (o *settle) run(t *tx) error {
	o.s.mu.Lock()
	o.check(t.reset)
	o.s.mu.Unlock()
	if o.err != nil {
		return nil
	}
	o.now = millis(t.now)
	for i := range o.st.Results {
		if e := o.entries[i]; e != nil {
			if err := o.write(t, e, &o.st.Results[i]); err != nil {
				return err
			}
		}
	}
	if o.st.Recovered {
		if err := o.recover(t); err != nil {
			return err
		}
	}
	return o.writeHost(t)
}

func (o *settle) write(t *tx, e *entry, r *queue.Result) error {
	switch r.Verdict {
	case queue.Delivered:
		changed, err := t.deleteDelivery(e.id)
		if changed {
			t.count(e.act.seq).delivered++
			t.totals.delivered++
		}
		return err
	case queue.Dead:
		_, err := t.bury(e.id, r)
		return err
	}
	return o.keep(t, e, r)
}

func (t *tx) deleteDelivery(id int64) (changed bool, err error) {
	s := t.conn.Prep("DELETE FROM deliveries WHERE id = ?")
	defer s.Reset()
	s.BindInt64(1, id)
	_, err = s.Step()
	return err == nil && t.conn.Changes() > 0, err
}

// bury makes a delivery a dead letter, if it is still there.
func (t *tx) bury(id int64, r *queue.Result) (buried bool, err error) {
	last, err := encode(r.Attempt, r.Attempt == nil)
	if err != nil {
		return false, err
	}
	var seq int64
	err = each(t.conn, `INSERT INTO dead (id, activity, host, inbox, headers, reason, attempts, last, died_at)
		SELECT d.id, d.activity, h.host, d.inbox, d.headers, ?, d.attempts + ?, coalesce(?, d.last), ?
		FROM deliveries d JOIN hosts h ON h.lane = d.lane WHERE d.id = ? RETURNING activity`,
		[]any{string(r.Reason), spent(r), last, millis(t.now), id}, func(row *sqlite.Stmt) error {
			seq = row.ColumnInt64(0)
			return nil
		})
	if err != nil || seq == 0 {
		return false, err
	}
	d := t.count(seq)
	d.dead++
	d.letters++
	t.totals.dead++
	t.totals.die(r.Reason, 1)
	return t.deleteDelivery(id)
}

func spent(r *queue.Result) int64 {
	if r.Spent {
		return 1
	}
	return 0
}

// keep writes a delivery that stays pending.
func (o *settle) keep(t *tx, e *entry, r *queue.Result) error {
	o.s.mu.Lock()
	due, flags := o.next(e, r)
	o.s.mu.Unlock()
	last, err := encode(r.Attempt, r.Attempt == nil)
	if err != nil {
		return err
	}
	return t.exec("UPDATE deliveries SET attempts = attempts + ?, due = ?, flags = ?, last = coalesce(?, last) WHERE id = ?",
		spent(r), due, int64(flags), last, e.id)
}

// next returns when a delivery that stays pending is due, and its flags that last.
func (o *settle) next(e *entry, r *queue.Result) (due int64, flags uint8) {
	due, flags = e.due, e.flags&lasting
	if r.After > 0 || r.Verdict == queue.Retry {
		due = o.now + r.After.Milliseconds()
	}
	if r.Verdict == queue.Retry {
		flags &^= hostFailed
		if r.HostFailed {
			flags |= hostFailed
		}
	}
	if r.Spent || r.Attempt != nil {
		flags |= tried
	}
	if r.WaitKey {
		due, flags = o.now, flags|waitsKey // once the key is there
	}
	if o.st.Recovered && flags&hostFailed != 0 {
		due = o.now
	}
	return due, flags
}

func (o *settle) recover(t *tx) error {
	o.s.mu.Lock()
	o.failed = o.l.failed()
	for i, e := range o.entries {
		if e != nil && e.next != nil && e.next.waitsForHost() && (ends(&o.st.Results[i]) || e.next.id < e.id) {
			o.failed = append(o.failed, e.next) // it moves up
		}
	}
	o.s.mu.Unlock()
	return t.makeDue(o.failed, o.now)
}

// writeHost writes what of the host has to last. What other operations of this transaction write stays.
func (o *settle) writeHost(t *tx) error {
	o.s.mu.Lock()
	known := o.l.record
	o.s.mu.Unlock()
	if o.pause != 0 {
		if err := t.exec("UPDATE hosts SET wait_until = ?, wait_since = ? WHERE lane = ?", o.wait(), o.since(), o.l.id); err != nil {
			return err
		}
	}
	if o.host == nil || sameForGood(&known, o.host) {
		return nil
	}
	record := *o.host
	record.Epoch = known.Epoch
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return t.exec("UPDATE hosts SET record = ?, hastened = hastened * ? WHERE lane = ?", string(b), record.Probed(), o.l.id)
}

// wait returns until when the lane waits, where the settlement says so.
func (o *settle) wait() int64 {
	if o.pause < 0 {
		return 0
	}
	return o.now + o.pause.Milliseconds()
}

// since returns from when SeenPause counts: from when the host doesn't ask to be left alone any more.
func (o *settle) since() int64 { return o.now + o.st.Asked.Milliseconds() }

func (o *settle) apply() {
	if o.err != nil {
		return
	}
	x, l := o.s.index, o.l
	for i := range o.st.Results {
		if e := o.entries[i]; e != nil && x.entries[e.id] == e {
			o.applyResult(e, &o.st.Results[i])
		}
	}
	o.applyHost()
	x.advance(o.failed, o.now)
	if l.token == o.lease.Token { // no later lease took the lane while this was written
		l.hidden = o.now + o.lease.TTL.Milliseconds()
		if o.st.Release {
			x.untake(l, o.now)
			l.hidden = 0
			o.endLease()
		}
	}
	x.place(l, o.now)
}

// endLease ends the lease before anybody is offered the lane.
func (o *settle) endLease() {
	if o.s.opts.Leases != nil {
		_ = o.s.opts.Leases.Release(context.Background(), []lockmgr.Lease{o.lease}) // those of a fleet of one don't fail
	}
}

func (o *settle) applyHost() {
	l := o.l
	if o.host != nil {
		epoch := l.record.Epoch
		l.record = *o.host
		l.record.Epoch = epoch
		if !l.record.Probed() {
			l.quick = 0
		}
	}
	if o.pause != 0 {
		l.wait, l.since = o.wait(), o.since()
	}
}

// ends tells that a delivery is pending no more.
func ends(r *queue.Result) bool { return r.Verdict == queue.Delivered || r.Verdict == queue.Dead }

func (o *settle) applyResult(e *entry, r *queue.Result) {
	x := o.s.index
	if ends(r) || e.flags&gone != 0 {
		x.remove(e, o.now)
		return
	}
	due, flags := o.next(e, r)
	e.attempts += uint16(spent(r))
	x.unpark(e)
	e.flags = e.flags&taken | flags&^waitsKey
	e.lane.withdraw(e)
	if _, there := o.s.keys.get(e.act.keyID); r.WaitKey && !there {
		x.park(e)
		due = never
	}
	x.reschedule(e, due, o.now)
}

// sameForGood tells that two records differ at most in what need not survive a crash: the window, and how long ago
// exactly the host last answered.
func sameForGood(a, b *queue.HostRecord) bool {
	x, y := &a.Breaker, &b.Breaker
	return x.State == y.State && x.Failures == y.Failures && x.Trips == y.Trips && x.Failed == y.Failed &&
		len(x.Days) == len(y.Days) && x.OpenedAt.Equal(y.OpenedAt) &&
		x.LastSuccess.IsZero() == y.LastSuccess.IsZero() && y.LastSuccess.Sub(x.LastSuccess) < time.Hour &&
		a.Scheme == b.Scheme && a.Throttles == b.Throttles && a.Unavailable == b.Unavailable && a.LastError == b.LastError
}
