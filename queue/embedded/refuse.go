package embedded

import "github.com/postrider/postrider/queue"

// refuse sorts out recipients on hosts that take nothing, and finds the lanes of the others.
func (e *enqueue) refuse(t *tx) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	taken := e.accepted[:0]
	e.lanes = make([]*lane, 0, len(e.accepted))
	for _, r := range e.accepted {
		switch l := e.s.index.lanes[r.Host]; {
		case l != nil && l.blocked:
			e.receipt.Refused = append(e.receipt.Refused, queue.Refusal{Inbox: r.Inbox, Reason: queue.ReasonHostBlocked})
		case l != nil && l.record.Unavailable && !e.probes(t, l):
			e.receipt.Refused = append(e.receipt.Refused, queue.Refusal{Inbox: r.Inbox, Reason: queue.ReasonHostUnavailable})
		default:
			taken, e.lanes = append(taken, r), append(e.lanes, l)
		}
	}
	e.accepted = taken
}

// probes tells whether a delivery may be the next probe of a host that was given up.
func (e *enqueue) probes(t *tx, l *lane) bool {
	if e.sub.Priority == queue.High {
		if e.hastened == nil {
			e.hastened = map[int64]hasted{}
		}
		e.hastened[l.id] = hasted{}
		return true
	}
	if l.wait > e.now || l.pending > 0 || t.probes[l.id] {
		return false
	}
	t.probes[l.id] = true
	return true
}

// hasted is what tx.hasten said.
type hasted struct {
	until  int64
	sooner bool
}

// hasten hastens the probes that the submission makes.
func (e *enqueue) hasten(t *tx) (err error) {
	for id, h := range e.hastened {
		if h.until, h.sooner, err = t.hasten(id); err != nil {
			return err
		}
		e.hastened[id] = h
	}
	return nil
}

// supersede cancels what hosts that hear nothing now have not to hear of any more.
func (e *enqueue) supersede(t *tx) error {
	if e.sub.Role != queue.Deletes {
		return nil
	}
	for _, old := range e.untried() {
		// That ordering keys share a hash must not cancel what is about something else.
		err := t.exec(`DELETE FROM deliveries WHERE id = ? AND
			(SELECT ordering_key FROM activities WHERE seq = deliveries.activity) = ?`, old.id, e.sub.OrderingKey)
		if err != nil {
			return err
		}
		if t.conn.Changes() > 0 {
			t.count(old.act.seq).cancelled++
			e.needless = append(e.needless, old)
		}
	}
	e.receipt.Superseded = len(e.needless)
	return nil
}

// untried returns what may be superseded in the lanes of the recipients.
func (e *enqueue) untried() (es []*entry) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	looked := map[*lane]bool{}
	for _, r := range e.accepted {
		l := e.s.index.lanes[r.Host]
		if l == nil || looked[l] || !l.silent(e.now) {
			continue
		}
		looked[l] = true
		for o := e.s.index.tails[l.chain(hashOf(e.sub.OrderingKey))]; o != nil; o = o.prev {
			if o.act.role == queue.Makes && o.attempts == 0 && o.flags&(taken|tried) == 0 {
				es = append(es, o)
			}
		}
	}
	return es
}
