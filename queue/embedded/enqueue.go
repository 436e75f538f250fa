package embedded

import (
	"context"
	"crypto/sha256"
	"fmt"
	"weak"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// fullActivity is an activity with its body, for as long as a delivery of it is in use.
type fullActivity = weak.Pointer[queue.Activity]

// Enqueue implements queue.Intake.
func (s *Store) Enqueue(ctx context.Context, sub *queue.Submission) (_ queue.Receipt, err error) {
	defer wrap(&err, "enqueue")
	id, err := uuid.Parse(sub.ID)
	if err != nil {
		return queue.Receipt{}, fmt.Errorf("activity ID: %w", err)
	}
	e := newEnqueue(s, sub, id)
	if err := s.writer.await(ctx, &op{run: e.run, apply: e.apply, early: true}); err != nil {
		return queue.Receipt{}, err
	}
	return e.receipt, e.err
}

// enqueue is the operation of one submission: of a client, or of another store whose activity moves here.
type enqueue struct {
	s       *Store
	sub     *queue.Submission
	id      uuid.UUID
	full    *queue.Activity // as deliveries will carry it
	receipt queue.Receipt
	err     error // an answer to the caller, not a fault of the store

	moved    bool
	digest   digest
	accepted []arrival
	letters  int             // dead letters of another store
	before   queue.Counts    // of its deliveries that ended in the other store
	newLanes bool            // some lanes of accepted are new, or the same of another operation in the transaction
	hastened map[int64]int64 // by lane: until when, or 0
	act      *activity
	now      int64

	created, finished int64 // finished if nothing pends
	older             int64 // see schema.go
	expires           int64 // the first of accepted
}

func newEnqueue(s *Store, sub *queue.Submission, id uuid.UUID) *enqueue {
	full := sub.Activity
	full.Refers, full.Digest = "", sha256.Sum256(full.Body)
	return &enqueue{s: s, sub: sub, id: id, full: &full, digest: digestOf(full.Digest)}
}

func (e *enqueue) run(t *tx) error {
	e.begin(t)
	if known, err := e.replay(t); known || err != nil {
		return err
	}
	if err := e.order(t); err != nil {
		return err
	}
	e.expires = e.now + e.sub.TTL.Milliseconds()
	e.accepted = make([]arrival, len(e.sub.Recipients))
	for i, r := range e.sub.Recipients {
		e.accepted[i] = arrival{Recipient: r, due: e.now, expires: e.expires, flags: flagsOf(r)}
	}
	e.deduplicate(t)
	e.refuse(t)
	for i := range e.accepted {
		e.accepted[i].id = int64(i)
	}
	if len(e.accepted) == 0 && e.receipt.Duplicates == 0 {
		return nil
	}
	e.receipt.ID, e.receipt.URI = e.sub.ID, e.sub.URI
	e.receipt.Note = e.sub.Note
	e.receipt.Accepted = len(e.accepted)
	t.totals.accepted += int64(len(e.accepted))
	for _, step := range []func(*tx) error{e.insert, e.changeTombstones, e.hasten, e.feedDone} {
		if err := step(t); err != nil {
			return err
		}
	}
	return nil
}

// feedDone adds the entry of an activity that is done at once, as all of it is duplicate.
func (e *enqueue) feedDone(t *tx) error {
	if len(e.accepted) > 0 {
		return nil
	}
	return t.feed(queue.Event{
		Kind: queue.EventActivityDone, ActivityID: e.sub.ID, URI: e.sub.URI, Metadata: e.sub.Metadata, Counts: &queue.Counts{},
	})
}

// begin drops the results of an earlier run, as the writer may run it twice.
func (e *enqueue) begin(t *tx) {
	*e = enqueue{s: e.s, sub: e.sub, id: e.id, full: e.full, digest: e.digest, now: t.now, created: t.now, finished: t.now}
}

// flagsOf returns the flags of a new delivery.
func flagsOf(r queue.Recipient) uint8 {
	if len(r.Headers)+len(r.IDs) > 0 {
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
	if e.newLanes {
		e.addLanes()
	}
	e.full.CreatedAt = e.s.clock.shown(e.created)
	e.act.full = weak.Make(e.full)
	x.addActivity(e.act, nil)
	now := e.s.clock.now()
	for id, until := range e.hastened {
		x.byID[id].hasten(until)
	}
	for i := range e.accepted {
		a := &e.accepted[i]
		made := &entry{id: e.act.first + a.id, act: e.act, lane: a.lane, due: a.due, attempts: a.attempts}
		x.admit(made, a.flags, a.Inbox, now)
	}
	for i := range e.accepted {
		a := &e.accepted[i]
		if a.lane.fifos[e.act.priority].newest.id == e.act.first+a.id { // the last in this lane: each is placed once
			x.place(a.lane, now)
		}
	}
	x.expiryAt(e.expires)
}

// admit puts a delivery with the flags of its row into the index. It goes on waiting for its key, unless the key is there.
func (x *index) admit(e *entry, flags uint8, inbox string, now int64) {
	e.flags = flags & lasting
	if flags&waitsKey != 0 {
		if _, there := x.keys.get(e.act.keyName); !there {
			x.awaitKey(e)
		}
	}
	x.push(e, inbox, nil, now)
}

// addLanes puts lanes that are new into the index, unless another operation of the transaction did.
func (e *enqueue) addLanes() {
	x := e.s.index
	for i := range e.accepted {
		a := &e.accepted[i]
		if x.byID[a.lane.id] == nil {
			x.add(a.lane)
		}
		a.lane = x.byID[a.lane.id]
	}
}
