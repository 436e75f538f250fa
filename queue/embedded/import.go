package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Import implements queue.Moving. All records of a call share a transaction.
func (s *Store) Import(ctx context.Context, records []queue.Record) (int, error) {
	o := &moving{s: s, records: records}
	if err := s.writer.do(ctx, o.run, o.apply); err != nil {
		return 0, fmt.Errorf("import: %w", err)
	}
	return o.stored, nil
}

// moving is records on their way in.
type moving struct {
	s       *Store
	records []queue.Record
	now     int64
	stored  int
	applies []func() // what their storing means for the memory
}

func (o *moving) run(t *tx) error {
	o.now, o.stored, o.applies = millis(t.now), 0, nil // may run twice
	for _, r := range o.records {
		var isNew bool
		var err error
		switch {
		case r.Key != nil:
			isNew, err = o.key(t, r.Key)
		case r.Host != nil:
			isNew, err = o.host(t, r.Host)
		case r.Activity != nil:
			isNew, err = o.activity(t, r.Activity)
		case r.Receipt != nil:
			isNew, err = o.receipt(t, r.Receipt)
		}
		if err != nil {
			return err
		}
		if isNew {
			o.stored++
		}
	}
	return nil
}

func (o *moving) apply() {
	for _, apply := range o.applies {
		apply()
	}
}

func (o *moving) later(apply func()) { o.applies = append(o.applies, apply) }

func (o *moving) key(t *tx, k *queue.Key) (isNew bool, err error) {
	err = t.exec("INSERT OR IGNORE INTO keys (id, algorithm, public_pem, fingerprint, sealed, created) VALUES (?,?,?,?,?,?)",
		k.ID, k.Algorithm, k.PublicPEM, k.Fingerprint, k.Sealed, millis(k.CreatedAt))
	if err != nil || t.conn.Changes() == 0 {
		return false, err
	}
	o.later(func() {
		o.s.keys.put(*k)
		o.s.index.keyCame(k.ID, o.now)
	})
	return true, nil
}

func (o *moving) host(t *tx, m *queue.MovedHost) (isNew bool, err error) {
	record, err := json.Marshal(m.Record)
	if err != nil {
		return false, err
	}
	var wait, since int64
	if m.Wait > 0 {
		wait, since = o.now+m.Wait.Milliseconds(), o.now-m.Waited.Milliseconds()
	}
	err = t.exec("INSERT OR IGNORE INTO hosts (host, record, wait_until, wait_since, hastened, paused, blocked) VALUES (?,?,?,?,?,?,?)",
		m.Host, string(record), wait, since, m.Hastened, m.Paused, m.Blocked)
	if err != nil || t.conn.Changes() == 0 {
		return false, err
	}
	l := newLane(t.conn.LastInsertRowID(), m.Host)
	l.record, l.wait, l.since, l.quick, l.paused, l.blocked = m.Record, wait, since, m.Hastened, m.Paused, m.Blocked
	o.later(func() {
		o.s.index.add(l)
		o.s.index.place(l, o.now)
	})
	return true, nil
}

// receipt gives an activity back what answers the call that made it. A receipt ends a day after its activity was created;
// where the other store's clock was behind, that is moved.
func (o *moving) receipt(t *tx, m *queue.MovedReceipt) (isNew bool, err error) {
	const clocksDiffer = int64(time.Minute / time.Millisecond)
	id, err := uuid.Parse(m.ID)
	if err != nil {
		return false, fmt.Errorf("activity ID: %w", err)
	}
	refused, err := encode(m.Refused, len(m.Refused) == 0)
	if err != nil {
		return false, err
	}
	day := queue.IdempotencyTTL.Milliseconds()
	if known, err := o.s.hasReceipt(t, &m.Key, o.now-day); known || err != nil {
		return false, err
	}
	created := o.now + m.TTL.Milliseconds() - day
	err = each(t.conn, `UPDATE activities SET idempotency = ?, fingerprint = ?, duplicates = ?, superseded = ?, refused = ?, note = ?,
		created = iif(created < ?, ?, created) WHERE id = ? AND idempotency IS NULL RETURNING seq`,
		[]any{m.Key[:], m.Fingerprint[:], m.Duplicates, m.Superseded, refused, m.Note, created - clocksDiffer, created, id[:]},
		func(row *sqlite.Stmt) error {
			isNew = true
			t.remember(&m.Key, row.ColumnInt64(0))
			return nil
		})
	return isNew, err
}

// movedActivity is an activity on its way in.
type movedActivity struct {
	*queue.MovedActivity
	act     *activity
	pending []*entry
	waiting map[*entry]bool // for their key
	letters int
	expires int64 // when the first does
}

func (o *moving) activity(t *tx, m *queue.MovedActivity) (isNew bool, err error) {
	id, err := uuid.Parse(m.ID)
	if err != nil {
		return false, fmt.Errorf("activity ID: %w", err)
	}
	known := false
	err = each(t.conn, "SELECT 1 FROM activities WHERE id = ?", []any{id[:]}, func(*sqlite.Stmt) error {
		known = true
		return nil
	})
	if known || err != nil {
		return false, err
	}
	a := &movedActivity{MovedActivity: m, expires: never, waiting: map[*entry]bool{}}
	for _, d := range m.Deliveries {
		if d.Reason != "" {
			a.letters++
		} else {
			a.expires = min(a.expires, o.now+d.TTL.Milliseconds())
		}
	}
	if err := o.insertActivity(t, id, a); err != nil {
		return false, err
	}
	for i := range m.Deliveries {
		if err := o.insertDelivery(t, a, a.act.first+int64(i), &m.Deliveries[i]); err != nil {
			return false, err
		}
	}
	o.later(func() { o.s.adopt(a, o.now) })
	return true, nil
}

func (o *moving) insertActivity(t *tx, id uuid.UUID, a *movedActivity) error {
	total := a.Delivered + a.Dead + a.Cancelled + len(a.Deliveries)
	a.act = &activity{
		first: o.s.reserve(t, total), id: id, keyID: a.KeyID, uri: hashOf(a.URI), ordering: hashOf(a.OrderingKey),
		priority: a.Priority, role: a.Role, created: millis(a.CreatedAt),
	}
	var expires, done any = a.expires, nil
	if a.expires == never {
		expires, done = nil, o.now-a.Finished.Milliseconds()
	}
	dead := a.Dead + a.letters
	err := t.exec(`INSERT INTO activities (id, uri, type, key_id, ordering_key, priority, created, first, total, delivered, dead,
		cancelled, letters, expires_next, done_at, role) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		id[:], a.URI, a.Type, a.KeyID, a.OrderingKey, int64(a.Priority), a.act.created, a.act.first,
		total, a.Delivered, dead, a.Cancelled, a.letters, expires, done, int64(a.Role))
	if err != nil {
		return err
	}
	a.act.seq = t.conn.LastInsertRowID()
	if len(a.Deliveries) == 0 {
		return nil
	}
	return t.insertBody(a.act, a.Body)
}

func (o *moving) insertDelivery(t *tx, a *movedActivity, id int64, d *queue.MovedDelivery) error {
	headers, err := encode(d.Headers, len(d.Headers) == 0)
	if err != nil {
		return err
	}
	last, err := encode(d.LastAttempt, d.LastAttempt == nil)
	if err != nil {
		return err
	}
	if d.Reason != "" {
		return t.exec("INSERT INTO dead (id, activity, host, inbox, headers, reason, attempts, last, died_at) VALUES (?,?,?,?,?,?,?,?,?)",
			id, a.act.seq, d.Host, d.Inbox, headers, string(d.Reason), d.Attempts, last, millis(d.DiedAt))
	}
	lane, err := t.lane(d.Host)
	if err != nil {
		return err
	}
	e := &entry{
		id: id, act: a.act, lane: newLane(lane, d.Host), inbox: &inbox{url: d.Inbox}, due: o.now + d.After.Milliseconds(),
		attempts: uint16(d.Attempts), //nolint:gosec // at most 1,000
	}
	if d.HostFailed {
		e.flags |= hostFailed
	}
	if d.LastAttempt != nil || d.Attempts > 0 {
		e.flags |= tried
	}
	if len(d.Headers) > 0 {
		e.flags |= headed
	}
	flags := e.flags
	if d.WaitKey {
		a.waiting[e] = true
		flags |= waitsKey
	}
	a.pending = append(a.pending, e)
	return t.exec(`INSERT INTO deliveries (id, activity, lane, inbox, headers, attempts, due, expires, flags, last)
		VALUES (?,?,?,?,?,?,?,?,?,?)`,
		id, a.act.seq, lane, d.Inbox, headers, d.Attempts, e.due, o.now+d.TTL.Milliseconds(), int64(flags), last)
}

// adopt puts a moved activity into the index.
func (s *Store) adopt(a *movedActivity, now int64) {
	x := s.index
	s.stats.activities++
	s.stats.dead += a.letters
	if len(a.pending) == 0 {
		return
	}
	x.addActivity(a.act)
	for _, e := range a.pending {
		if x.byID[e.lane.id] == nil {
			x.add(e.lane)
		}
		e.lane = x.byID[e.lane.id]
		if _, there := s.keys.get(a.KeyID); a.waiting[e] && !there {
			x.park(e)
		}
		x.push(e, e.inbox.url, nil, now)
		x.place(e.lane, now)
	}
	s.expiryAt(a.expires)
}
