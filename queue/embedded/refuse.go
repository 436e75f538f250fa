package embedded

import "github.com/postrider/postrider/queue"

// refuse removes recipients on blocked and unavailable hosts, and finds the lanes of the others.
func (e *enqueue) refuse(t *tx) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	taken := e.accepted[:0]
	for _, a := range e.accepted {
		switch a.lane = e.s.index.lanes[a.Host]; {
		case e.s.index.blocks(a.Host, a.lane, e.now):
			e.receipt.Refused = append(e.receipt.Refused, queue.Refusal{Inbox: a.Inbox, Reason: queue.ReasonHostBlocked})
		case a.lane != nil && a.lane.record.Unavailable && !e.probes(t, a.lane):
			e.receipt.Refused = append(e.receipt.Refused, queue.Refusal{Inbox: a.Inbox, Reason: queue.ReasonHostUnavailable})
		default:
			taken = append(taken, a)
		}
	}
	e.accepted = taken
}

// blocks reports whether a host is blocked, which may have no lane.
func (x *index) blocks(host string, l *lane, now int64) bool {
	if l == nil {
		return x.orders.ends(host)[blocking] > now
	}
	return l.held[blocking] > now
}

// probes reports whether a delivery may be the next probe of an unavailable host.
func (e *enqueue) probes(t *tx, l *lane) bool {
	if e.sub.Priority == queue.High {
		if e.hastened == nil {
			e.hastened = map[int64]int64{}
		}
		e.hastened[l.id] = 0
		return true
	}
	if l.wait > e.now || l.pending > 0 || t.probes[l.id] {
		return false
	}
	t.probes[l.id] = true
	return true
}

// hasten hastens the probes that the submission makes.
func (e *enqueue) hasten(t *tx) (err error) {
	for id := range e.hastened {
		if e.hastened[id], err = t.hasten(id); err != nil {
			return err
		}
	}
	return nil
}
