package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	"weak"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// fullActivity is an activity with its body, for as long as anybody delivers it.
type fullActivity = weak.Pointer[queue.Activity]

// Enqueue implements queue.Intake.
func (s *Store) Enqueue(ctx context.Context, sub *queue.Submission) (queue.Receipt, error) {
	id, err := uuid.Parse(sub.ID)
	if err != nil {
		return queue.Receipt{}, fmt.Errorf("enqueue: activity ID: %w", err)
	}
	e := &enqueue{s: s, sub: sub, id: id}
	if err := s.writer.do(ctx, e.run, e.apply); err != nil {
		return queue.Receipt{}, fmt.Errorf("enqueue: %w", err)
	}
	return e.receipt, e.err
}

// enqueue is one submission on its way in.
type enqueue struct {
	s       *Store
	sub     *queue.Submission
	id      uuid.UUID
	receipt queue.Receipt
	err     error // an answer to the caller, nothing wrong with the store

	accepted []queue.Recipient
	lanes    []int64          // of accepted
	created  []*lane          // lanes that are new
	hastened map[int64]hasted // by lane
	needless []*entry         // deliveries that this one supersedes
	act      *activity
	now      int64
}

func (e *enqueue) run(t *tx) error {
	*e = enqueue{s: e.s, sub: e.sub, id: e.id, now: millis(t.now)} // may run twice
	if known, err := e.replay(t); known || err != nil {
		return err
	}
	e.accepted = slices.Clone(e.sub.Recipients)
	if err := e.deduplicate(t); err != nil {
		return err
	}
	e.refuse(t)
	if len(e.accepted) == 0 && e.receipt.Duplicates == 0 {
		return nil
	}
	e.receipt.ID, e.receipt.URI, e.receipt.Note = e.sub.ID, e.sub.URI, e.sub.Note
	e.receipt.Accepted = len(e.accepted)
	for _, step := range []func(*tx) error{e.supersede, e.insert, e.hasten} {
		if err := step(t); err != nil {
			return err
		}
	}
	return nil
}

// replay answers from the first receipt if the idempotency key is known.
func (e *enqueue) replay(t *tx) (known bool, err error) {
	var stale int64
	err = each(t.conn, `SELECT seq, id, uri, total, duplicates, refused, note, fingerprint, created, superseded FROM activities
		WHERE idempotency = ?`, []any{e.sub.Idempotency.Key[:]}, func(row *sqlite.Stmt) error {
		if row.ColumnInt64(8) <= e.now-queue.IdempotencyTTL.Milliseconds() {
			stale = row.ColumnInt64(0)
			return nil
		}
		known = true
		if !bytes.Equal(blob(row, 7), e.sub.Idempotency.Fingerprint[:]) {
			e.err = queue.ErrIdempotencyMismatch
			return nil
		}
		e.receipt = queue.Receipt{
			ID: uuid.UUID(blob(row, 1)).String(), URI: row.ColumnText(2), Accepted: row.ColumnInt(3),
			Duplicates: row.ColumnInt(4), Superseded: row.ColumnInt(9), Note: blob(row, 6), Replayed: true,
		}
		return decode(row.ColumnText(5), &e.receipt.Refused)
	})
	if err == nil && stale != 0 {
		err = t.exec("UPDATE activities SET idempotency = NULL WHERE seq = ?", stale)
	}
	return known, err
}

// deduplicate sorts out recipients to whom an activity of the same URI is still pending.
func (e *enqueue) deduplicate(t *tx) error {
	pending := map[string]bool{}
	// In two steps: SQLite would prepare a join of them anew for each value of the URI.
	err := each(t.conn, "SELECT first, first + total FROM activities WHERE uri = ? AND expires_next IS NOT NULL", []any{e.sub.URI}, func(row *sqlite.Stmt) error {
		ids := []any{row.ColumnInt64(0), row.ColumnInt64(1)}
		return each(t.conn, "SELECT inbox FROM deliveries WHERE id >= ? AND id < ?", ids, func(row *sqlite.Stmt) error {
			pending[row.ColumnText(0)] = true
			return nil
		})
	})
	if err != nil || len(pending) == 0 {
		return err
	}
	fresh := e.accepted[:0]
	for _, r := range e.accepted {
		if !pending[r.Inbox] {
			fresh = append(fresh, r)
		}
	}
	e.receipt.Duplicates = len(e.accepted) - len(fresh)
	e.accepted = fresh
	return nil
}

func (e *enqueue) insert(t *tx) error {
	first, err := t.nextFirst()
	if err != nil {
		return err
	}
	if err := e.insertActivity(t, first); err != nil {
		return err
	}
	t.totals.activities++
	t.totals.accepted += int64(len(e.accepted))
	e.act = &activity{
		seq: t.conn.LastInsertRowID(), first: first, id: e.id, keyID: e.sub.KeyID, ordering: orderingHash(e.sub.OrderingKey),
		priority: e.sub.Priority, role: e.sub.Role, created: e.now,
	}
	if len(e.accepted) == 0 {
		return nil
	}
	if err := t.exec("INSERT INTO bodies (activity, body) VALUES (?, ?)", e.act.seq, e.sub.Body); err != nil {
		return err
	}
	if err := e.findLanes(t); err != nil {
		return err
	}
	return e.insertDeliveries(t)
}

// nextFirst returns the id of the next activity's first delivery.
func (t *tx) nextFirst() (int64, error) {
	first := int64(1)
	err := each(t.conn, "SELECT first + total FROM activities ORDER BY seq DESC LIMIT 1", nil, func(row *sqlite.Stmt) error {
		first = row.ColumnInt64(0)
		return nil
	})
	return first, err
}

func (e *enqueue) insertActivity(t *tx, first int64) error {
	sub := e.sub
	var expires, done any
	if len(e.accepted) > 0 {
		expires = e.now + sub.TTL.Milliseconds()
	} else {
		done = e.now
	}
	refused, err := encode(e.receipt.Refused, len(e.receipt.Refused) == 0)
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO activities (id, uri, type, key_id, ordering_key, priority, created, first, total, expires_next,
		done_at, idempotency, fingerprint, duplicates, refused, note, role, superseded) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		e.id[:], sub.URI, sub.Type, sub.KeyID, sub.OrderingKey, int64(sub.Priority), e.now, first,
		len(e.accepted), expires, done, sub.Idempotency.Key[:], sub.Idempotency.Fingerprint[:], e.receipt.Duplicates,
		refused, sub.Note, int64(sub.Role), e.receipt.Superseded)
}

// findLanes finds the lane of each accepted recipient, and makes those that are new.
func (e *enqueue) findLanes(t *tx) error {
	e.lanes = make([]int64, len(e.accepted))
	e.s.mu.Lock()
	for i, r := range e.accepted {
		if l := e.s.index.lanes[r.Host]; l != nil {
			e.lanes[i] = l.id
		}
	}
	e.s.mu.Unlock()
	for i, r := range e.accepted {
		if e.lanes[i] != 0 {
			continue
		}
		id, err := t.lane(r.Host)
		if err != nil {
			return err
		}
		e.lanes[i] = id
		e.created = append(e.created, newLane(id, r.Host))
	}
	return nil
}

// lane returns the id of a host's lane, making it if need be.
func (t *tx) lane(host string) (id int64, err error) {
	// The update does nothing but let an existing row be returned: another operation of this group may have made it.
	s := t.conn.Prep("INSERT INTO hosts (host) VALUES (?) ON CONFLICT (host) DO UPDATE SET host = host RETURNING lane")
	defer s.Reset()
	s.BindText(1, host)
	if _, err := s.Step(); err != nil {
		return 0, err
	}
	id = s.ColumnInt64(0)
	return id, s.Reset()
}

func (e *enqueue) insertDeliveries(t *tx) error {
	s := t.conn.Prep("INSERT INTO deliveries (id, activity, lane, inbox, headers, due, expires) VALUES (?,?,?,?,?,?,?)")
	defer s.Reset()
	s.BindInt64(2, e.act.seq)
	s.BindInt64(6, e.now)
	s.BindInt64(7, e.now+e.sub.TTL.Milliseconds())
	for i, r := range e.accepted {
		s.BindInt64(1, e.act.first+int64(i))
		s.BindInt64(3, e.lanes[i])
		s.BindText(4, r.Inbox)
		s.BindNull(5)
		if len(r.Headers) > 0 {
			h, err := json.Marshal(r.Headers)
			if err != nil {
				return err
			}
			s.BindText(5, string(h))
		}
		if _, err := s.Step(); err != nil {
			return err
		}
		if err := s.Reset(); err != nil {
			return err
		}
	}
	return nil
}

// apply puts the deliveries into the index.
func (e *enqueue) apply() {
	if e.act == nil {
		return
	}
	x := e.s.index
	for _, l := range e.created {
		if x.byID[l.id] == nil {
			x.add(l)
		}
	}
	if len(e.accepted) == 0 {
		return
	}
	e.act.full = weak.Make(e.s.full(e.act, e.sub))
	x.addActivity(e.act)
	now := millis(time.Now())
	for _, old := range e.needless {
		if x.entries[old.id] == old {
			x.drop(old, now)
		}
	}
	for id, h := range e.hastened {
		x.byID[id].hasten(h.until, h.sooner)
	}
	for i := range e.accepted {
		l := x.byID[e.lanes[i]]
		x.push(&entry{id: e.act.first + int64(i), act: e.act, lane: l, due: e.now}, nil, now)
		x.place(l, now)
	}
	e.s.expiryAt(e.now + e.sub.TTL.Milliseconds())
}

// full makes an activity as deliveries carry it.
func (s *Store) full(a *activity, sub *queue.Submission) *queue.Activity {
	full := sub.Activity
	full.Body = bytes.Clone(sub.Body) // the caller's may be part of something larger
	full.Digest = sha256.Sum256(full.Body)
	full.CreatedAt = fromMillis(a.created)
	return &full
}

// orderingHash shortens an ordering key. That two keys may share a hash only means that one may wait for the other.
func orderingHash(key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key)) // never fails
	return h.Sum64()
}

// encode returns v as JSON, or nil if it is empty.
func encode(v any, empty bool) (any, error) {
	if empty {
		return nil, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// decode reads what encode wrote.
func decode(text string, v any) error {
	if text == "" {
		return nil
	}
	return json.NewDecoder(strings.NewReader(text)).Decode(v)
}

func blob(row *sqlite.Stmt, col int) []byte {
	b := make([]byte, row.ColumnLen(col))
	row.ColumnBytes(col, b)
	return b
}
