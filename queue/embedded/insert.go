package embedded

import (
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// arrival is a delivery that is to be stored: a new one, or one of another store.
type arrival struct {
	queue.Recipient
	lane         *lane // nil if there is none yet
	id           int64 // less its activity's first
	due, expires int64
	history      queue.History
	attempts     uint16
	flags        uint8 // of its row
}

// insert stores the activity with all that was accepted.
func (e *enqueue) insert(t *tx) (err error) {
	a := &e.sub.Activity
	e.act = &activity{
		seq: t.newSeq(), first: t.reserve(e.total()), id: e.id, keyName: a.KeyName(), uri: hashOf(a.URI),
		ordering: hashOf(e.full.OrderingKey), priority: a.Priority, makes: makes(a.Role, a.Object), created: e.created,
	}
	e.older = t.place(e.act.seq, e.created)
	if len(e.accepted)+e.letters > 0 {
		if e.act.body, err = t.hold(e.act.seq, e.digest, a.Body); err != nil {
			return err
		}
	}
	if err := e.insertActivity(t); err != nil {
		return err
	}
	t.remember(&e.sub.Idempotency.Key, e.act.seq)
	if e.older == 0 {
		t.marks = appendMarks(t.marks, e.act.seq, a.URI, a.Actor, a.KeyID)
	}
	t.totals.activities++
	if len(e.accepted) == 0 {
		return nil
	}
	t.uris[e.act.uri] = append(t.uris[e.act.uri], e.act.seq)
	if err := e.makeLanes(t); err != nil {
		return err
	}
	t.addTails(e)
	return e.insertDeliveries(t)
}

// total is how many deliveries the activity has and had.
func (e *enqueue) total() int {
	return len(e.accepted) + e.letters + e.before.Delivered + e.before.Dead + e.before.Cancelled
}

// newSeq returns the seq of a new activity or tombstone. No seq is used again, even if the row with the latest is dropped: the
// order of seqs is the order accepted.
func (t *tx) newSeq() int64 {
	t.seq = max(t.seq, t.ledger.seq) + 1
	return t.seq - 1
}

// place returns the value of older (see schema.go) of a new activity. One that was accepted after now, by the clock of another store,
// is not in its place either.
func (t *tx) place(seq, created int64) (older int64) {
	if t.newest == 0 {
		t.newest, t.older = max(t.ledger.newest, 1), t.ledger.older
	}
	switch {
	case created >= t.newest && created <= t.now:
		t.newest, t.older = created, 0
	case t.older == 0:
		t.older = seq
	}
	return t.older
}

// makes returns the hash of the object that an activity makes, 0 if there is none.
func makes(r queue.Role, object string) uint64 {
	if r != queue.Makes || object == "" {
		return 0
	}
	return hash64(object)
}

// reserve returns the first of n ids for the deliveries of an activity.
func (t *tx) reserve(n int) (first int64) {
	if t.next == 0 {
		t.next = t.ledger.next
	}
	first = t.next
	t.next += int64(n)
	return first
}

// insertActivity has so many columns that sqlitex would take half as long to bind them as SQLite takes for the row.
const insertActivity = `INSERT INTO activities (uri, type, key_id, actor, pin, ordering_key, object,
	seq, first, priority, role, created, older, total, delivered, dead, cancelled, letters, duplicates,
	id, note, metadata, trace, refused, final, expires_next, done_at, body, digest, idempotency, fingerprint)
	VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`

func (e *enqueue) insertActivity(t *tx) error {
	sub := e.sub
	b := binder{stmt: t.conn.Prep(insertActivity)}
	b.texts(sub.URI, sub.Type, sub.KeyID, sub.Actor, sub.Pin, e.full.OrderingKey, sub.Object)
	b.ints(e.act.seq, e.act.first, int64(sub.Priority), int64(sub.Role), e.act.created, e.older, int64(e.total()),
		int64(e.before.Delivered), int64(e.before.Dead+e.letters), int64(e.before.Cancelled), int64(e.letters), int64(e.receipt.Duplicates))
	b.bytes(e.id[:])
	b.bytes(sub.Note)
	b.optional(string(sub.Metadata))
	b.bytes(sub.Trace)
	bindJSON(b.stmt, b.next(), e.receipt.Refused)
	bindJSON(b.stmt, b.next(), sub.Final)
	if len(e.accepted) > 0 {
		b.ints(e.expires)
		b.null()
	} else {
		b.null()
		b.ints(e.finished)
	}
	if len(e.accepted)+e.letters > 0 {
		b.ints(e.act.body)
		b.bytes(e.full.Digest[:])
	} else {
		b.null()
		b.null()
	}
	if sub.Idempotency != (queue.Idempotency{}) {
		b.bytes(sub.Idempotency.Key[:])
		b.bytes(sub.Idempotency.Fingerprint[:])
	}
	return b.run()
}

// makeLanes makes the missing lanes.
func (e *enqueue) makeLanes(t *tx) error {
	for i := range e.accepted {
		a := &e.accepted[i]
		if a.lane != nil {
			continue
		}
		e.newLanes = true
		if a.lane = t.lanes[a.Host]; a.lane != nil {
			continue
		}
		id, err := t.lane(a.Host)
		if err != nil {
			return err
		}
		a.lane = newLane(id, a.Host)
		t.lanes[a.Host] = a.lane
	}
	return nil
}

// lane returns the id of a host's lane, making it if need be.
func (t *tx) lane(host string) (id int64, err error) {
	// The update does nothing but let an existing row be returned: another operation of this group may have made it.
	id, _, err = one(t.conn, (*sqlite.Stmt).ColumnInt64,
		"INSERT INTO hosts (host) VALUES (?) ON CONFLICT (host) DO UPDATE SET host = host RETURNING lane", host)
	return id, err
}

// atOnce is how many deliveries one statement writes where there are so many, as most of the cost is a statement's.
const atOnce = 64

var (
	insertOne = "INSERT INTO deliveries (activity, due, expires, id, lane, inbox, headers, ids, flags, attempts, history) " +
		"VALUES (?,?,?,?,?,?,?,?,?,?,?)"
	insertMany = "INSERT INTO deliveries (activity, due, expires, id, lane, inbox) VALUES (?1,?2,?3,?,?,?)" +
		strings.Repeat(",(?1,?2,?3,?,?,?)", atOnce-1)
)

func (e *enqueue) insertDeliveries(t *tx) error {
	for i := 0; i < len(e.accepted); {
		end, query := i+atOnce, insertMany
		if end > len(e.accepted) || e.moved || slices.ContainsFunc(e.accepted[i:end], func(a arrival) bool { return a.flags&headed != 0 }) {
			end, query = i+1, insertOne
		}
		if err := e.insertRows(t.conn.Prep(query), i, end); err != nil {
			return err
		}
		i = end
	}
	if last := e.act.first + e.accepted[len(e.accepted)-1].id; t.conn.LastInsertRowID() != last {
		return fmt.Errorf("the last delivery got the id %d, not %d", t.conn.LastInsertRowID(), last)
	}
	return nil
}

// insertRows writes the deliveries in [from,to); those of insertMany are new and have neither headers nor IDs. Of new ones only the first
// states its id: no id is greater, so SQLite counts on, and need not check that each is free.
func (e *enqueue) insertRows(s *sqlite.Stmt, from, to int) error {
	defer s.Reset()
	first := &e.accepted[from]
	s.BindInt64(1, e.act.seq)
	s.BindInt64(2, first.due)
	s.BindInt64(3, first.expires)
	p := 4
	for i := from; i < to; i++ {
		a := &e.accepted[i]
		if i == 0 || e.moved {
			s.BindInt64(p, e.act.first+a.id)
		} else {
			s.BindNull(p)
		}
		s.BindInt64(p+1, a.lane.id)
		s.BindText(p+2, a.Inbox)
		p += 3
	}
	if p <= s.BindParamCount() { // insertOne
		bindRest(s, p, first)
	}
	if _, err := s.Step(); err != nil {
		return err
	}
	return s.Reset()
}

// bindRest binds the columns that only insertOne has.
func bindRest(s *sqlite.Stmt, p int, a *arrival) {
	bindJSON(s, p, a.Headers)
	bindJSON(s, p+1, a.IDs)
	s.BindInt64(p+2, int64(a.flags))
	s.BindInt64(p+3, int64(a.attempts))
	bindJSON(s, p+4, a.history)
}

// bindJSON binds a list as encode returns it.
func bindJSON[T any](s *sqlite.Stmt, p int, list []T) {
	if len(list) == 0 {
		s.BindNull(p)
	} else {
		s.BindText(p, toJSON(list))
	}
}
