package embedded

import (
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
	e := s.newEnqueue(sub, id)
	if err := s.writer.await(ctx, &op{run: e.run, apply: e.apply, early: true}); err != nil {
		return queue.Receipt{}, fmt.Errorf("enqueue: %w", err)
	}
	return e.receipt, e.err
}

// enqueue is one submission on its way in.
type enqueue struct {
	s       *Store
	sub     *queue.Submission
	id      uuid.UUID
	full    *queue.Activity // as deliveries will carry it
	receipt queue.Receipt
	err     error // an answer to the caller, nothing wrong with the store

	accepted []queue.Recipient
	lanes    []*lane          // of accepted; nil if there is none yet
	created  bool             // some of them are new, or the same of another operation in the transaction
	hastened map[int64]hasted // by lane
	needless []*entry         // deliveries that this one supersedes
	act      *activity
	now      int64
	expires  int64
}

func (s *Store) newEnqueue(sub *queue.Submission, id uuid.UUID) *enqueue {
	full := sub.Activity
	full.Digest = sha256.Sum256(full.Body)
	return &enqueue{s: s, sub: sub, id: id, full: &full}
}

func (e *enqueue) run(t *tx) error {
	*e = enqueue{s: e.s, sub: e.sub, id: e.id, full: e.full, now: millis(t.now)} // may run twice
	e.expires = e.now + e.sub.TTL.Milliseconds()
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

// deduplicate sorts out recipients to whom an activity of the same URI is still pending.
func (e *enqueue) deduplicate(t *tx) error {
	pending := map[string]bool{}
	for _, seq := range e.namesakes(t) {
		// In two steps: SQLite would prepare a join of them anew for each value of the URI.
		err := each(t.conn, "SELECT first, first + total FROM activities WHERE seq = ? AND uri = ?", []any{seq, e.sub.URI}, func(row *sqlite.Stmt) error {
			ids := []any{row.ColumnInt64(0), row.ColumnInt64(1)}
			return each(t.conn, "SELECT inbox FROM deliveries WHERE id >= ? AND id < ?", ids, func(row *sqlite.Stmt) error {
				pending[row.ColumnText(0)] = true
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	if len(pending) > 0 {
		e.accepted = slices.DeleteFunc(e.accepted, func(r queue.Recipient) bool { return pending[r.Inbox] })
		e.receipt.Duplicates = len(e.sub.Recipients) - len(e.accepted)
	}
	return nil
}

// namesakes returns the activities that may have the same URI and something pending.
func (e *enqueue) namesakes(t *tx) []int64 {
	uri := hashOf(e.sub.URI)
	seqs := slices.Clone(t.uris[uri])
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	for a := e.s.index.byURI[uri]; a != nil; a = a.namesake {
		seqs = append(seqs, a.seq)
	}
	return seqs
}

func (e *enqueue) insert(t *tx) error {
	e.act = &activity{
		first: e.s.reserve(t, len(e.accepted)), id: e.id, keyID: e.sub.KeyID, uri: hashOf(e.sub.URI),
		ordering: hashOf(e.sub.OrderingKey), priority: e.sub.Priority, role: e.sub.Role, created: e.now,
	}
	if err := e.insertActivity(t); err != nil {
		return err
	}
	e.act.seq = t.conn.LastInsertRowID()
	t.remember(&e.sub.Idempotency.Key, e.act.seq)
	t.totals.activities++
	t.totals.accepted += int64(len(e.accepted))
	if len(e.accepted) == 0 {
		return nil
	}
	if err := t.insertBody(e.act, e.sub.Body); err != nil {
		return err
	}
	if err := e.makeLanes(t); err != nil {
		return err
	}
	return e.insertDeliveries(t)
}

// reserve returns the first of n ids for the deliveries of an activity.
func (s *Store) reserve(t *tx, n int) (first int64) {
	if t.next == 0 {
		t.next = s.next
	}
	first = t.next
	t.next += int64(n)
	return first
}

// insertBody writes the body of an activity with something pending or dead.
func (t *tx) insertBody(a *activity, body []byte) error {
	if t.uris == nil {
		t.uris = map[uint32][]int64{}
	}
	t.uris[a.uri] = append(t.uris[a.uri], a.seq)
	return t.exec("INSERT INTO bodies (activity, body) VALUES (?, ?)", a.seq, body)
}

func (e *enqueue) insertActivity(t *tx) error {
	sub := e.sub
	var expires, done any
	if len(e.accepted) > 0 {
		expires = e.expires
	} else {
		done = e.now
	}
	refused, err := encode(e.receipt.Refused, len(e.receipt.Refused) == 0)
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO activities (id, uri, type, key_id, ordering_key, priority, created, first, total, expires_next,
		done_at, idempotency, fingerprint, duplicates, refused, note, role, superseded) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		e.id[:], sub.URI, sub.Type, sub.KeyID, sub.OrderingKey, int64(sub.Priority), e.now, e.act.first,
		len(e.accepted), expires, done, sub.Idempotency.Key[:], sub.Idempotency.Fingerprint[:], e.receipt.Duplicates,
		refused, sub.Note, int64(sub.Role), e.receipt.Superseded)
}

// makeLanes makes the lanes that there are not yet.
func (e *enqueue) makeLanes(t *tx) error {
	for i, r := range e.accepted {
		if e.lanes[i] != nil {
			continue
		}
		e.created = true
		if e.lanes[i] = t.lanes[r.Host]; e.lanes[i] != nil {
			continue
		}
		id, err := t.lane(r.Host)
		if err != nil {
			return err
		}
		e.lanes[i] = newLane(id, r.Host)
		if t.lanes == nil {
			t.lanes = map[string]*lane{}
		}
		t.lanes[r.Host] = e.lanes[i]
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

// atOnce is how many deliveries one statement writes where there are so many, as most of the cost is a statement's.
const atOnce = 64

var (
	insertOne  = "INSERT INTO deliveries (activity, due, expires, id, lane, inbox, headers, flags) VALUES (?,?,?,?,?,?,?,?)"
	insertMany = "INSERT INTO deliveries (activity, due, expires, id, lane, inbox) VALUES (?1,?2,?3,?,?,?)" +
		strings.Repeat(",(?1,?2,?3,?,?,?)", atOnce-1)
)

func (e *enqueue) insertDeliveries(t *tx) error {
	for i := 0; i < len(e.accepted); {
		end, query := i+atOnce, insertMany
		if end > len(e.accepted) || slices.ContainsFunc(e.accepted[i:end], hasHeaders) {
			end, query = i+1, insertOne
		}
		if err := e.insertRows(t.conn.Prep(query), i, end); err != nil {
			return err
		}
		i = end
	}
	if last := e.act.first + int64(len(e.accepted)) - 1; t.conn.LastInsertRowID() != last {
		return fmt.Errorf("the last delivery got the id %d, not %d", t.conn.LastInsertRowID(), last)
	}
	return nil
}

// insertRows writes the deliveries from one to before another, of which those of insertMany have no headers. Only the very
// first is told its id: no id is greater, so SQLite counts on, and need not look whether each is free.
func (e *enqueue) insertRows(s *sqlite.Stmt, from, to int) error {
	defer s.Reset()
	s.BindInt64(1, e.act.seq)
	s.BindInt64(2, e.now)
	s.BindInt64(3, e.expires)
	p := 4
	for i, r := range e.accepted[from:to] {
		if from+i == 0 {
			s.BindInt64(p, e.act.first)
		} else {
			s.BindNull(p)
		}
		s.BindInt64(p+1, e.lanes[from+i].id)
		s.BindText(p+2, r.Inbox)
		p += 3
	}
	if p <= s.BindParamCount() { // insertOne
		if err := bindHeaders(s, p, &e.accepted[from]); err != nil {
			return err
		}
	}
	if _, err := s.Step(); err != nil {
		return err
	}
	return s.Reset()
}

func hasHeaders(r queue.Recipient) bool { return len(r.Headers) > 0 }

// bindHeaders binds the headers and the flags of a delivery.
func bindHeaders(s *sqlite.Stmt, p int, r *queue.Recipient) error {
	s.BindNull(p)
	s.BindInt64(p+1, int64(flagsOf(*r)))
	if len(r.Headers) == 0 {
		return nil
	}
	h, err := json.Marshal(r.Headers)
	s.BindText(p, string(h))
	return err
}

// flagsOf returns the flags of a new delivery.
func flagsOf(r queue.Recipient) uint8 {
	if hasHeaders(r) {
		return headed
	}
	return 0
}

// apply puts the deliveries into the index. The submission is the caller's again by then.
func (e *enqueue) apply() {
	if e.act == nil || len(e.accepted) == 0 {
		return
	}
	x := e.s.index
	if e.created {
		e.addLanes()
	}
	e.full.CreatedAt = fromMillis(e.now)
	e.act.full = weak.Make(e.full)
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
	for i, r := range e.accepted {
		x.push(&entry{id: e.act.first + int64(i), act: e.act, lane: e.lanes[i], due: e.now, flags: flagsOf(r)}, r.Inbox, nil, now)
	}
	for i, l := range e.lanes {
		if l.fifos[e.act.priority].newest.id == e.act.first+int64(i) { // the last in this lane: each is placed once
			x.place(l, now)
		}
	}
	e.s.expiryAt(e.expires)
}

// addLanes puts lanes that are new into the index, unless another operation of the transaction did.
func (e *enqueue) addLanes() {
	x := e.s.index
	for i, l := range e.lanes {
		if x.byID[l.id] == nil {
			x.add(l)
		}
		e.lanes[i] = x.byID[l.id]
	}
}

// hashOf shortens an ordering key or a URI. That two ordering keys may share a hash only means that one may wait for the
// other; of URIs, that more is looked at.
func hashOf(text string) uint32 {
	h := fnv.New64a()
	h.Write([]byte(text))                    // never fails
	return uint32(h.Sum64()>>32 ^ h.Sum64()) //nolint:gosec // half of it is enough
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
