package embedded

import (
	"context"
	"hash/maphash"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// tombstones finds tombstones by hashes of the object and of the Delete's URI. A tombstone's seq is its position in the order
// accepted. Only the writer changes them, under the store's mutex. The row must be compared too.
type tombstones struct{ objects, deletions map[uint64]int64 }

func newTombstones() tombstones {
	return tombstones{objects: map[uint64]int64{}, deletions: map[uint64]int64{}}
}

var textSeed = maphash.MakeSeed()

// hash64 is a hash that is valid in this process. Its seed is random, so that nobody outside can provoke collisions.
func hash64(text string) uint64 { return maphash.String(textSeed, text) }

// put adds a tombstone or, if seq is 0, removes it.
func put(all map[uint64]int64, text string, seq int64) { all[hash64(text)] = seq }

// tombstone returns the seq of the tombstone of an object, with the changes of the transaction, 0 if there is none.
func (t *tx) tombstone(object string) (int64, error) {
	return t.findTombstone(t.ledger.tombstones.objects, t.tombstones.objects, "object", object)
}

func (t *tx) findTombstone(all, changed map[uint64]int64, column, text string) (int64, error) {
	seq := latest(all, changed, hash64(text))
	if seq == 0 || text == "" {
		return 0, nil
	}
	known, err := exists(t.conn, "SELECT 1 FROM tombstones WHERE seq = ? AND "+column+" = ?", seq, text)
	if !known {
		return 0, err
	}
	return seq, err
}

// superseded reports whether the object of an activity was deleted by one accepted later.
func (t *tx) superseded(activity int64, object string) (bool, error) {
	seq, err := t.tombstone(object)
	return seq > activity, err
}

// leaveTombstone leaves a tombstone, which replaces one that the object may have.
func (t *tx) leaveTombstone(seq int64, m *queue.MovedTombstone) error {
	old, err := t.tombstone(m.Object)
	if err != nil {
		return err
	}
	if _, err := t.dropTombstones("seq = ?", old); err != nil {
		return err
	}
	id, err := uuid.Parse(m.ActivityID)
	if err != nil {
		return err
	}
	put(t.tombstones.objects, m.Object, seq)
	put(t.tombstones.deletions, m.Deletion, seq)
	return t.exec("INSERT INTO tombstones (seq, object, uri, activity, created) VALUES (?,?,?,?,?)",
		seq, m.Object, m.Deletion, id[:], t.ledger.clock.stored(m.CreatedAt))
}

// dropTombstones removes tombstones, and returns how many.
func (t *tx) dropTombstones(which string, args ...any) (dropped int, err error) {
	changed, all := &t.tombstones, &t.ledger.tombstones
	err = each(t.conn, "DELETE FROM tombstones WHERE "+which+" RETURNING seq, object, uri", args, func(row *sqlite.Stmt) error {
		seq, object := row.ColumnInt64(0), row.ColumnText(1)
		deletion := row.ColumnText(2)
		if latest(all.objects, changed.objects, hash64(object)) == seq {
			put(changed.objects, object, 0)
		}
		if latest(all.deletions, changed.deletions, hash64(deletion)) == seq { // or another Delete has this URI too
			put(changed.deletions, deletion, 0)
		}
		dropped++
		return nil
	})
	return dropped, err
}

// changeTombstones follows the role of an activity: a Delete leaves a tombstone, its Undo removes it.
func (e *enqueue) changeTombstones(t *tx) error {
	switch a := &e.sub.Activity; {
	case a.Role == queue.Deletes && a.Object != "":
		return t.leaveTombstone(e.act.seq, &queue.MovedTombstone{
			Object: a.Object, Deletion: a.URI, ActivityID: a.ID, CreatedAt: e.s.clock.shown(e.now),
		})
	case a.Role == queue.Restores:
		seq, err := t.tombstone(a.Object)
		if a.Object == "" {
			seq, err = t.findTombstone(t.ledger.tombstones.deletions, t.tombstones.deletions, "uri", a.Refers)
		}
		if seq == 0 || err != nil {
			return err
		}
		_, err = t.dropTombstones("seq = ?", seq)
		return err
	}
	return nil
}

// superseded reports whether a delivery may be superseded: it would make an object that was deleted since. It goes out all the
// same if it waited for less than queue.SupersededAfter, or was attempted.
func (x *index) superseded(e *entry, now int64) bool {
	a := e.act
	return a.makes != 0 && e.attempts == 0 && e.flags&tried == 0 && now-a.created > queue.SupersededAfter.Milliseconds() &&
		x.tombstones.objects[a.makes] > a.seq
}

// supersede cancels those of the heads found superseded that are. The others go back to where they were, and are not looked
// at again.
func (c *choice) supersede(ctx context.Context) error {
	s, es := c.s, c.superseded
	var cancelled map[*entry]bool
	return s.writer.do(ctx, func(t *tx) (err error) {
		cancelled, err = t.cancelSuperseded(es)
		return err
	}, func() {
		x, now := s.index, s.clock.now()
		var back []*entry
		for _, e := range es {
			switch {
			case x.entries[e.id] != e:
				continue // it ended meanwhile
			case cancelled[e]:
				x.remove(e, now)
			case e.act.makes != 0:
				back = append(back, e)
			}
			x.place(e.lane, now)
		}
		for _, e := range back {
			e.act.makes = 0
			x.reschedule(e, e.due, now)
			x.place(e.lane, now)
		}
	})
}

func (t *tx) cancelSuperseded(es []*entry) (map[*entry]bool, error) {
	cancelled := map[*entry]bool{}
	for _, e := range es {
		object, _, err := one(t.conn, (*sqlite.Stmt).ColumnText, "SELECT object FROM activities WHERE seq = ?", e.act.seq)
		if err != nil {
			return nil, err
		}
		superseded, err := t.superseded(e.act.seq, object)
		if err != nil {
			return nil, err
		}
		if !superseded {
			continue
		}
		if cancelled[e], err = t.deleteDelivery(e.id); err != nil {
			return nil, err
		}
		if cancelled[e] {
			t.count(e.act.seq).cancelled++
		}
	}
	return cancelled, nil
}
