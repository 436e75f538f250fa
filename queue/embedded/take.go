package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"weak"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Take implements queue.Lanes.
func (s *Store) Take(ctx context.Context, leases []lockmgr.Lease, n int) (_ []queue.Turn, err error) {
	defer wrap(&err, "take")
	turns := make([]queue.Turn, 0, len(leases))
	for _, lease := range leases {
		c := choice{s: s, turn: queue.Turn{Lease: lease}}
		held := c.choose(n)
		if held {
			if held, err = c.give(ctx, n); err != nil {
				return nil, err
			}
		}
		if held {
			turns = append(turns, c.turn)
		}
	}
	return turns, nil
}

// choice is the deliveries chosen for one lease.
type choice struct {
	s          *Store
	turn       queue.Turn
	picks      []pick
	superseded []*entry // heads that are to be cancelled first
}

const (
	supersededAtOnce = 256 // how many deliveries of a lane are looked up and cancelled at once
	supersededSteps  = 8   // and how often in one Take: the next one continues
)

// choose adds to what a lease gets, of n in all, and reports whether it holds the lane.
func (c *choice) choose(n int) bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.pick(n, c.s.clock.now())
}

// give reads the chosen deliveries, n in all, and reports whether the lease still holds the lane. It first cancels those that
// tombstones supersede, and replaces them.
func (c *choice) give(ctx context.Context, n int) (held bool, err error) {
	defer func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.putBack(err)
	}()
	for step := 0; len(c.superseded) > 0 && step < supersededSteps; step++ {
		if err := c.supersede(ctx); err != nil {
			return false, err
		}
		c.superseded = nil
		if !c.choose(n) {
			return false, nil
		}
	}
	bad, err := c.fetch(ctx)
	if err == nil {
		err = c.setAside(ctx, bad)
	}
	return err == nil, err
}

// pick is a chosen delivery, without what has to be read from the database.
type pick struct {
	e        *entry
	inbox    string
	attempts int
	headed   bool
	early    bool
}

// pick adds to what a lease gets, of n in all, and reports whether it holds the lane.
func (c *choice) pick(n int, now int64) bool {
	lease := c.turn.Lease
	l := c.s.index.lanes[lease.Host]
	if l == nil || lease.Token < l.token {
		return false
	}
	if lease.Token > l.token {
		c.s.index.untake(l, now)
		l.token = lease.Token
	}
	l.hidden = now + lease.TTL.Milliseconds()
	l.ripen(now)
	n -= len(c.picks)
	if l.probing() {
		n = min(n, 1-len(l.taken))
	}
	for n > 0 && len(c.superseded) < supersededAtOnce && max(l.wait, l.held[pausing], l.held[blocking]) <= now {
		e, early := l.pop(l.probing(), c.s.index.random)
		if e == nil {
			break
		}
		e.flags |= taken
		l.taken = append(l.taken, e)
		if c.s.index.superseded(e, now) {
			c.superseded = append(c.superseded, e)
			continue
		}
		c.picks = append(c.picks, pick{e, e.inbox.url, int(e.attempts), e.flags&headed != 0, early})
		n--
	}
	_, c.turn.More = l.best()
	c.turn.Host, c.turn.Now = l.record, fromMillis(now)
	c.s.index.place(l, now)
	return true
}

// fetch reads the picked deliveries, and returns the damaged ones. A delivery that ended meanwhile is left out.
func (c *choice) fetch(ctx context.Context) (bad []unreadable, err error) {
	if len(c.picks) == 0 {
		return nil, nil
	}
	err = c.s.db.read(ctx, func(conn *sqlite.Conn) error {
		for _, p := range c.picks {
			d, err := c.delivery(conn, p)
			switch {
			case isDamage(err):
				bad = append(bad, unreadable{p.e, err})
			case err != nil:
				return err
			case d.Activity != nil:
				c.turn.Deliveries = append(c.turn.Deliveries, d)
			}
		}
		return nil
	})
	return bad, err
}

// delivery reads a picked delivery. It has no activity if it ended meanwhile.
func (c *choice) delivery(conn *sqlite.Conn, p pick) (d queue.Delivery, err error) {
	d = queue.Delivery{ID: deliveryID(p.e.act, p.e.id), Inbox: p.inbox, Attempts: p.attempts, Early: p.early}
	if d.Activity, err = c.activity(conn, p.e.act); err != nil {
		return d, err
	}
	if d.Activity == nil {
		return d, stillThere(conn, p.e)
	}
	if p.headed {
		err = readMore(conn, p.e.id, &d)
	}
	return d, err
}

// stillThere returns an error if a delivery pends though its activity or body is gone.
func stillThere(c *sqlite.Conn, e *entry) error {
	pends, err := exists(c, "SELECT 1 FROM deliveries WHERE id = ?", e.id)
	if pends {
		return &damage{"activities", e.act.seq, "it, or its body, is gone while deliveries wait"}
	}
	return err
}

// readMore reads the headers of a delivery and the IDs of its actors: none if it was cancelled meanwhile.
func readMore(c *sqlite.Conn, id int64, d *queue.Delivery) error {
	return each(c, "SELECT headers, ids FROM deliveries WHERE id = ?", []any{id}, func(row *sqlite.Stmt) error {
		if err := decode(row.ColumnText(0), &d.Headers); err != nil {
			return &damage{"deliveries", id, "its headers: " + err.Error()}
		}
		d.IDs = decoded[[]string](row, 1)
		return nil
	})
}

// activity returns an activity with its body: the one that is in use already, or else from the database. It is nil if the body
// is gone.
func (c *choice) activity(conn *sqlite.Conn, a *activity) (*queue.Activity, error) {
	c.s.mu.Lock()
	full := a.full.Value()
	c.s.mu.Unlock()
	if full != nil {
		return full, nil
	}
	body, err := readBody(conn, a.body) // not with the rest: SQLite would prepare a join each time
	if err != nil || body == nil {
		return nil, err
	}
	err = each(conn, "SELECT "+describing+", digest FROM activities WHERE seq = ?", []any{a.seq}, func(row *sqlite.Stmt) error {
		full = &queue.Activity{Body: body, Digest: sha256.Sum256(body)}
		return checked(c.s.clock, a, full, row)
	})
	if err != nil || full == nil {
		return nil, err
	}
	c.s.mu.Lock()
	a.full = weak.Make(full)
	c.s.mu.Unlock()
	return full, nil
}

// checked reads an activity, and compares it with its digest and with the index.
func checked(k *clock, a *activity, full *queue.Activity, row *sqlite.Stmt) error {
	err := k.describe(full, row, 0)
	digest := blob(row, 14)
	switch {
	case err != nil:
		return &damage{"activities", a.seq, err.Error()}
	case uuidOf(row, 0) != a.id || full.Priority != a.priority || full.Role >= queue.Roles || a.damaged:
		return &damage{"activities", a.seq, "it is not what was stored"}
	case !bytes.Equal(digest, full.Digest[:]):
		return &damage{"bodies", a.body, "it is not what was stored"}
	}
	return nil
}

// putBack leaves superseded heads for the next Take to cancel, and undoes the whole choice after an error.
func (c *choice) putBack(err error) {
	now := c.s.clock.now()
	for _, e := range c.superseded {
		c.s.index.putBack(e, c.turn.Lease.Token, now)
	}
	if err == nil {
		return
	}
	for _, p := range c.picks {
		c.s.index.putBack(p.e, c.turn.Lease.Token, now)
	}
}

// putBack puts back a delivery that was taken under a lease, if no later one took the lane.
func (x *index) putBack(e *entry, token uint64, now int64) {
	switch {
	case x.entries[e.id] != e || e.flags&taken == 0 || e.lane.token != token:
		return
	case e.flags&gone != 0:
		x.remove(e, now)
	default:
		x.reschedule(e, e.due, now)
	}
	x.place(e.lane, now)
}
