package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Import implements queue.Moving. All records of a call share a transaction.
func (s *Store) Import(ctx context.Context, records []queue.Record) (_ int, err error) {
	defer wrap(&err, "import")
	o := &moving{s: s, records: records}
	if err := s.writer.do(ctx, o.run, o.apply); err != nil {
		return 0, err
	}
	return o.stored, nil
}

// moving is the operation that stores some records.
type moving struct {
	s       *Store
	records []queue.Record
	now     int64
	stored  int
	applies []func() // the changes in memory
}

func (o *moving) run(t *tx) error {
	o.now, o.stored = t.now, 0
	o.applies = nil // may run twice
	for _, r := range o.records {
		var isNew bool
		var err error
		switch {
		case r.Key != nil:
			isNew, err = o.key(t, r.Key)
		case r.Order != nil:
			isNew, err = o.order(t, r.Order)
		case r.Host != nil:
			isNew, err = o.host(t, r.Host)
		case r.Activity != nil:
			isNew, err = o.activity(t, r.Activity)
		case r.Tombstone != nil:
			isNew, err = o.tombstone(t, r.Tombstone)
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
	stored := *k
	stored.CreatedAt = fromMillis(o.s.clock.stored(k.CreatedAt))
	err = t.exec("INSERT OR IGNORE INTO keys ("+keyColumns+") VALUES (?,?,?,?,?,?,?)",
		k.Name(), k.Algorithm, k.PublicPEM, k.Fingerprint, k.Sealed, millis(stored.CreatedAt), k.WhenIdle)
	if err != nil || t.conn.Changes() == 0 {
		return false, err
	}
	o.later(func() {
		o.s.keys.put(stored)
		o.s.index.keyCame(k.Name(), o.now)
		o.s.index.retiresAt(&stored)
	})
	return true, nil
}

func (o *moving) host(t *tx, m *queue.MovedHost) (isNew bool, err error) {
	record := o.s.clock.storedRecord(m.Record)
	var wait, since int64
	if m.Wait > 0 {
		wait, since = o.now+m.Wait.Milliseconds(), o.now-m.Waited.Milliseconds()
	}
	if known, err := exists(t.conn, "SELECT 1 FROM hosts WHERE host = ?", m.Host); known || err != nil {
		return false, err
	}
	l := newLane(0, m.Host)
	l.record, l.wait = record, wait
	l.since, l.quick = since, m.Hastened
	for i := range m.Orders {
		if _, err := o.order(t, &m.Orders[i]); err != nil {
			return false, err
		}
	}
	l.held = t.holding(m.Host).ends()
	l.told = turned{l.stateAt(o.now), o.s.clock.stored(m.ChangedAt)} // which is nothing new
	err = t.exec("INSERT INTO hosts (host, record, wait_until, wait_since, hastened, state, changed) VALUES (?,?,?,?,?,?,?)",
		m.Host, toJSON(record), wait, since, m.Hastened, string(l.told.state), l.told.at)
	if err != nil {
		return false, err
	}
	l.id = t.conn.LastInsertRowID()
	o.later(func() {
		o.s.index.add(l)
		o.s.index.place(l, o.now)
	})
	return true, nil
}

// order stores an order, unless its host has one.
func (o *moving) order(t *tx, m *queue.MovedOrder) (isNew bool, err error) {
	for kind := range orderActions {
		if orderActions[kind].give != m.Action || t.ordersOf(m.Host)[kind] != nil {
			continue
		}
		c := orderChange{m.Host, kind, newOrder(m.Order, nil, o.now)}
		c.order.since = o.s.clock.stored(m.Since)
		o.later(func() { o.s.index.setOrder(c, o.now) })
		return true, t.setOrder(c)
	}
	return false, nil
}

// receipt gives an activity its idempotency key and receipt back. A receipt ends a day after its activity was created; that time
// is moved if the other store's clock was behind.
func (o *moving) receipt(t *tx, m *queue.MovedReceipt) (isNew bool, err error) {
	const clocksDiffer = int64(time.Minute / time.Millisecond)
	id, err := uuid.Parse(m.ID)
	if err != nil {
		return false, fmt.Errorf("activity ID: %w", err)
	}
	day := queue.IdempotencyTTL.Milliseconds()
	if known, err := t.hasReceipt(&m.Key, o.now-day); known || err != nil {
		return false, err
	}
	created := o.now + m.TTL.Milliseconds() - day
	seq, isNew, err := one(t.conn, (*sqlite.Stmt).ColumnInt64, `UPDATE activities SET idempotency = ?1, fingerprint = ?2, duplicates = ?3,
		refused = ?4, note = ?5, created = iif(created < ?6, ?7, created), older = iif(created < ?6, seq, older)
		WHERE id = ?8 AND idempotency IS NULL RETURNING seq`,
		m.Key[:], m.Fingerprint[:], m.Duplicates, encode(m.Refused), m.Note, created-clocksDiffer, created, id[:])
	if isNew {
		t.remember(&m.Key, seq)
	}
	return isNew, err
}

// tombstone stores a tombstone as later than everything imported before.
func (o *moving) tombstone(t *tx, m *queue.MovedTombstone) (isNew bool, err error) {
	if known, err := t.tombstone(m.Object); known != 0 || err != nil {
		return false, err
	}
	return true, t.leaveTombstone(t.newSeq(), m)
}

// activity stores an activity and its deliveries as a submission is stored.
func (o *moving) activity(t *tx, m *queue.MovedActivity) (isNew bool, err error) {
	id, err := uuid.Parse(m.ID)
	if err != nil {
		return false, fmt.Errorf("activity ID: %w", err)
	}
	if known, err := exists(t.conn, "SELECT 1 FROM activities WHERE id = ?", id[:]); known || err != nil {
		return false, err
	}
	e := newEnqueue(o.s, &queue.Submission{Activity: m.Activity}, id)
	e.begin(t)
	e.arrive(m)
	o.later(e.apply)
	if err := e.insert(t); err != nil {
		return false, err
	}
	return true, e.insertLetters(t, m)
}

// arrive makes arrivals of the deliveries that were pending in another store.
func (e *enqueue) arrive(m *queue.MovedActivity) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.moved, e.created = true, e.s.clock.stored(m.CreatedAt)
	e.finished, e.expires = e.now-m.Finished.Milliseconds(), never
	e.before = queue.Counts{Delivered: m.Delivered, Dead: m.Dead, Cancelled: m.Cancelled}
	for i := range m.Deliveries {
		d := &m.Deliveries[i]
		if d.Reason != "" {
			e.letters++
			continue
		}
		a := arrival{
			Recipient: d.Recipient, lane: e.s.index.lanes[d.Host], id: int64(i), due: e.now + d.After.Milliseconds(),
			expires: e.now + d.TTL.Milliseconds(), history: d.History, flags: flagsOf(d.Recipient),
			attempts: uint16(d.Attempts), // at most 1,000
		}
		for flag, is := range map[uint8]bool{hostFailed: d.HostFailed, waitsKey: d.WaitKey, tried: len(d.History) > 0 || d.Attempts > 0} {
			if is {
				a.flags |= flag
			}
		}
		e.expires = min(e.expires, a.expires)
		e.accepted = append(e.accepted, a)
	}
}

// insertLetters stores the dead letters of another store.
func (e *enqueue) insertLetters(t *tx, m *queue.MovedActivity) error {
	t.totals.dead += e.letters
	for i, d := range m.Deliveries {
		if d.Reason == "" {
			continue
		}
		err := t.exec("INSERT INTO dead (id, activity, host, inbox, headers, ids, reason, attempts, history, died_at, uri) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
			e.act.first+int64(i), e.act.seq, d.Host, d.Inbox, encode(d.Headers), encode(d.IDs), string(d.Reason), d.Attempts,
			encode(d.History), e.s.clock.stored(d.DiedAt), int64(e.act.uri))
		if err != nil {
			return err
		}
	}
	return nil
}
