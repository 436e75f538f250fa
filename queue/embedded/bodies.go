package embedded

import (
	"crypto/sha256"
)

// digest is the start of the SHA-256 of a body, long enough that no two bodies share it.
type digest [sha256.Size / 2]byte

func digestOf(sum [sha256.Size]byte) digest { return digest(sum[:len(digest{})]) }

// heldBody is a body that activities hold: all with the same bytes, while they have pending deliveries or dead letters.
type heldBody struct {
	id      int64 // its row's: the seq of the activity that brought it
	holders int64
}

// bodies finds the bodies that are held. Only the writer uses it. It is rebuilt from the activities at start, so a crash cannot
// make it wrong.
type bodies map[digest]heldBody

// body returns the body with a digest as the transaction has it; it has no holders if there is none.
func (t *tx) body(d digest) heldBody { return latest(t.ledger.bodies, t.bodies, d) }

func (b heldBody) held() bool { return b.holders > 0 } // it is less than 0 where a digest was damaged

// hold has an activity hold its body, which is written if no other activity holds it, and returns the body's id.
func (t *tx) hold(activity int64, d digest, body []byte) (id int64, err error) {
	b := t.body(d)
	if !b.held() {
		b = heldBody{id: activity}
		err = t.exec("INSERT INTO bodies (activity, body) VALUES (?, ?)", activity, body)
	}
	b.holders++
	t.bodies[d] = b
	return b.id, err
}

// release undoes hold, and deletes the body if no other activity is known to hold it: sum may be damaged.
func (t *tx) release(id int64, sum []byte) error {
	if len(sum) == sha256.Size {
		d := digestOf([sha256.Size]byte(sum))
		b := t.body(d)
		b.holders--
		t.bodies[d] = b
		if b.holders > 0 {
			return nil
		}
	}
	return t.exec("DELETE FROM bodies WHERE activity = ?", id)
}

// load counts an activity that holds a body.
func (all bodies) load(id int64, sum []byte) {
	if len(sum) != sha256.Size {
		return
	}
	d := digestOf([sha256.Size]byte(sum))
	all[d] = heldBody{id: id, holders: all[d].holders + 1}
}
