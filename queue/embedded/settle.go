package embedded

import (
	"cmp"
	"context"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Settle implements queue.Lanes. It chooses the next deliveries while it changes memory, and reads them afterwards.
func (s *Store) Settle(ctx context.Context, lease lockmgr.Lease, st queue.Settlement, n int) (next []queue.Delivery, err error) {
	defer wrap(&err, "settle")
	o := &settle{s: s, lease: lease, st: st, n: n}
	if !o.writes() {
		o.inMemory()
	} else if err = s.writer.await(ctx, &op{run: o.run, apply: o.apply, patient: true}); isDamage(err) {
		err = o.around(ctx)
	}
	if err = cmp.Or(err, o.err); err != nil {
		return nil, err
	}
	if c := &o.chosen; len(c.picks)+len(c.superseded) > 0 {
		if held, err := c.give(ctx, n); held && err == nil { // else the next call finds out
			next = c.turn.Deliveries
		}
	}
	if st.Release && len(next) == 0 {
		o.release()
	}
	return next, nil
}

// settle is the operation of one settlement.
type settle struct {
	s       *Store
	lease   lockmgr.Lease
	st      queue.Settlement
	n       int // deliveries wanted
	err     error
	l       *lane
	entries []*entry          // of the results, nil for those that ended
	failed  []*entry          // those that waited because the host failed, if it recovered
	host    *queue.HostRecord // nil if it is outdated
	pause   time.Duration
	now     int64
	chosen  choice // what it gives
}

// check finds the lane and the deliveries of the results. The store's mutex must be held.
func (o *settle) check(reset map[int64]bool) {
	o.err, o.failed = nil, nil
	o.entries = make([]*entry, len(o.st.Results))
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

// writes reports whether anything in the settlement must survive a crash.
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
	o.now = t.now
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
		if o.s.opts.Feed.Delivered {
			if err := t.feedDelivered(o.lease.Host, e.id, r); err != nil {
				return err
			}
		}
		changed, err := t.deleteDelivery(e.id)
		if changed {
			t.count(e.act.seq).delivered++
			t.totals.delivered++
		}
		return err
	case queue.Dead:
		return t.bury(e, r)
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
func (t *tx) bury(e *entry, r *queue.Result) error {
	history, err := t.history(e.id, r.Attempt)
	if err != nil {
		return err
	}
	seq, buried, err := one(t.conn, (*sqlite.Stmt).ColumnInt64, `INSERT INTO dead
		(id, activity, host, inbox, headers, ids, reason, attempts, history, died_at, uri)
		SELECT d.id, d.activity, h.host, d.inbox, d.headers, d.ids, ?, d.attempts + ?, coalesce(?, d.history), ?, ?
		FROM deliveries d JOIN hosts h ON h.lane = d.lane WHERE d.id = ? RETURNING activity`,
		string(r.Reason), spent(r), history, t.now, int64(e.act.uri), e.id)
	if err != nil || !buried {
		return err
	}
	return t.died(seq, e.id, r.Reason)
}

// history returns the history of a delivery with one more attempt, as it is stored; nil if there is no attempt.
func (t *tx) history(id int64, attempt *queue.LastAttempt) (any, error) {
	if attempt == nil {
		return nil, nil
	}
	before, _, err := one(t.conn, decoded[queue.History], "SELECT history FROM deliveries WHERE id = ?", id)
	if err != nil {
		return nil, err
	}
	return encode(before.With(attempt)), nil
}

// died deletes a delivery that became a dead letter, counts it, and adds it to the feed.
func (t *tx) died(seq, id int64, why queue.Reason) error {
	d := t.count(seq)
	d.dead++
	d.letters++
	t.totals.dead++
	t.totals.die(why, 1)
	if _, err := t.deleteDelivery(id); err != nil {
		return err
	}
	return t.feedDelivery(queue.EventDead, nil, "dead d JOIN activities a ON a.seq = d.activity", "d.host, d.reason", id)
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
	history, err := t.history(e.id, r.Attempt)
	if err != nil {
		return err
	}
	return t.exec("UPDATE deliveries SET attempts = attempts + ?, due = ?, flags = ?, history = coalesce(?, history) WHERE id = ?",
		spent(r), due, int64(flags), history, e.id)
}

// next returns when a delivery that stays pending is due, and its stored flags.
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

// writeHost writes the part of the host that must survive a crash. Columns that other operations wrote stay.
func (o *settle) writeHost(t *tx) error {
	o.s.mu.Lock()
	known := o.l.record
	o.s.mu.Unlock()
	if o.pause != 0 {
		t.touch(o.l.id)
		if err := t.exec("UPDATE hosts SET wait_until = ?, wait_since = ? WHERE lane = ?", o.wait(), o.since(), o.l.id); err != nil {
			return err
		}
	}
	if o.host == nil || sameForGood(&known, o.host) {
		return nil
	}
	t.touch(o.l.id)
	record := *o.host
	record.Epoch = known.Epoch
	return t.exec("UPDATE hosts SET record = ?, hastened = hastened * ? WHERE lane = ?", toJSON(record), record.Probed(), o.l.id)
}

// wait returns the end of the wait that the settlement sets.
func (o *settle) wait() int64 {
	if o.pause < 0 {
		return 0
	}
	return o.now + o.pause.Milliseconds()
}

// since returns the time from which SeenPause counts: the end of the pause that the host asked for.
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
	}
	o.chosen = choice{s: o.s, turn: queue.Turn{Lease: o.lease}}
	if o.n <= 0 || !o.chosen.pick(o.n, o.now) {
		x.place(l, o.now)
	}
}

// inMemory settles without writing.
func (o *settle) inMemory() {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.check(nil)
	o.now = o.s.clock.now()
	o.apply()
}

// release ends the turn, and its lease before Due offers the lane.
func (o *settle) release() {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if o.l.token != o.lease.Token {
		return
	}
	now := o.s.clock.now()
	o.s.index.untake(o.l, now)
	o.l.hidden = 0
	if o.s.opts.Leases != nil {
		_ = o.s.opts.Leases.Release(context.Background(), []lockmgr.Lease{o.lease}) // those of a fleet of one don't fail
	}
	o.s.index.place(o.l, now)
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

// ends reports whether a delivery is no longer pending.
func ends(r *queue.Result) bool { return r.Verdict == queue.Delivered || r.Verdict == queue.Dead }

func (o *settle) applyResult(e *entry, r *queue.Result) {
	x := o.s.index
	if ends(r) || e.flags&gone != 0 {
		x.remove(e, o.now)
		return
	}
	due, flags := o.next(e, r)
	e.attempts += uint16(spent(r))
	x.endAwait(e)
	e.flags = e.flags&taken | flags&^waitsKey
	e.lane.withdraw(e)
	if _, there := o.s.keys.get(e.act.keyName); r.WaitKey && !there {
		x.awaitKey(e)
		due = never
	}
	x.reschedule(e, due, o.now)
}

// sameForGood reports whether two records differ at most in values that need not survive a crash: the window, and the exact times
// of the host's last answer and success.
func sameForGood(a, b *queue.HostRecord) bool {
	x, y := &a.Breaker, &b.Breaker
	return x.State == y.State && x.Failures == y.Failures && x.Trips == y.Trips && x.Failed == y.Failed &&
		len(x.Days) == len(y.Days) && x.OpenedAt.Equal(y.OpenedAt) &&
		aboutSame(x.LastSuccess, y.LastSuccess) && aboutSame(a.LastAnswer, b.LastAnswer) && aboutSame(a.LastSuccess, b.LastSuccess) &&
		a.Refusals == b.Refusals && a.AnswerKind() == b.AnswerKind() &&
		a.Scheme == b.Scheme && a.Doubts == b.Doubts && a.DoubtedAt.Equal(b.DoubtedAt) && a.RefusedAt.Equal(b.RefusedAt) &&
		a.Throttles == b.Throttles && a.Unavailable == b.Unavailable && a.LastError == b.LastError
}

// aboutSame reports whether a time is so close to the one before that it need not be written.
func aboutSame(before, now time.Time) bool {
	return before.IsZero() == now.IsZero() && now.Sub(before) < time.Hour
}
