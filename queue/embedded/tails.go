package embedded

import (
	"slices"

	"zombiezen.com/go/sqlite"
)

// Intake looks up pending work: the ordering key of another activity, and the newest delivery of a chain. Operations see what
// earlier ones of their transaction add; what these end, only the next transaction sees.

// order finds the ordering key of the activity.
func (e *enqueue) order(t *tx) (err error) {
	e.full.OrderingKey = e.sub.OrderingKey
	if e.sub.Refers == "" || e.sub.OrderingKey != e.sub.Refers {
		return nil
	}
	uri := hashOf(e.sub.Refers)
	for _, seq := range slices.Backward(t.uris[uri]) {
		if found, err := e.orderAs(t, seq); found || err != nil {
			return err
		}
	}
	e.s.mu.Lock()
	a := e.s.index.byURI[uri]
	e.s.mu.Unlock()
	for a != nil { // once, but for URIs that share a hash and what is about to end
		if found, err := e.orderAs(t, a.seq); found || err != nil {
			return err
		}
		e.s.mu.Lock()
		a = a.older
		e.s.mu.Unlock()
	}
	return nil
}

// orderAs takes the ordering key of an activity, if that is the one referred to and pends.
func (e *enqueue) orderAs(t *tx, seq int64) (found bool, err error) {
	key, found, err := one(t.conn, (*sqlite.Stmt).ColumnText,
		"SELECT ordering_key FROM activities WHERE seq = ? AND uri = ? AND expires_next IS NOT NULL", seq, e.sub.Refers)
	if found {
		e.full.OrderingKey = key
	}
	return found, err
}

// deduplicate removes recipients for whom the newest delivery of the chain has the same body. There are none unless an activity
// holds that body.
func (e *enqueue) deduplicate(t *tx) {
	body := t.body(e.digest)
	if body.holders == 0 {
		return
	}
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	ordering := hashOf(e.full.OrderingKey)
	e.accepted = slices.DeleteFunc(e.accepted, func(r arrival) bool {
		newest := t.tails[ordering].newest(r.Inbox)
		if newest == nil {
			newest = e.s.index.newest(r.Inbox, ordering)
		}
		return newest != nil && newest.body == body.id && !t.outdated(newest)
	})
	e.receipt.Duplicates = len(e.sub.Recipients) - len(e.accepted)
}

// outdated reports whether an activity may be superseded by the time that it would go out.
func (t *tx) outdated(a *activity) bool {
	return a.makes != 0 && latest(t.ledger.tombstones.objects, t.tombstones.objects, a.makes) > a.seq
}

// newest returns the activity of the newest delivery of a chain, or nil.
func (x *index) newest(url string, ordering uint32) *activity {
	in := x.inboxes.byURL[url]
	if in == nil {
		return nil
	}
	tail := x.tails[chainKey{in.id, ordering}]
	if tail == nil || tail.flags&gone != 0 { // it was taken, so nothing is before it
		return nil
	}
	return tail.act
}

// newTails is what a transaction adds to chains of an ordering key. It is sorted by inbox once something is looked up: most
// submissions are the only one of their ordering key in a transaction.
type newTails struct {
	unsorted []*enqueue
	byInbox  map[string]*activity
}

func (n *newTails) newest(url string) *activity {
	if n == nil {
		return nil
	}
	for _, e := range n.unsorted {
		for _, r := range e.accepted {
			n.byInbox[r.Inbox] = e.act
		}
	}
	n.unsorted = nil
	return n.byInbox[url]
}

// addTails notes what a submission adds to chains.
func (t *tx) addTails(e *enqueue) {
	n := t.tails[e.act.ordering]
	if n == nil {
		n = &newTails{byInbox: map[string]*activity{}}
		t.tails[e.act.ordering] = n
	}
	n.unsorted = append(n.unsorted, e)
}
