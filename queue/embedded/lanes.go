package embedded

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"
	"weak"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Due implements queue.Lanes.
func (s *Store) Due(_ context.Context, want queue.Want) (queue.Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := millis(time.Now())
	s.index.ripen(now)
	var o queue.Offer
	for len(o.Hosts) < want.Lanes {
		l := s.index.draw(want.Suspect > 0)
		if l == nil {
			break
		}
		if l.class() == suspect {
			want.Suspect--
		}
		l.hidden = now + queue.OfferTTL.Milliseconds()
		s.index.place(l, now)
		o.Hosts = append(o.Hosts, l.host)
	}
	o.Next = s.opts.Idle
	if len(s.index.future) > 0 {
		o.Next = min(o.Next, max(0, time.Duration(s.index.future[0].at-now)*time.Millisecond))
	}
	return o, nil
}

// Take implements queue.Lanes.
func (s *Store) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns := make([]queue.Turn, 0, len(leases))
	picks := make([][]pick, 0, len(leases))
	s.mu.Lock()
	now := millis(time.Now())
	for _, lease := range leases {
		if t, p, ok := s.pick(lease, n, now); ok {
			turns, picks = append(turns, t), append(picks, p)
		}
	}
	s.mu.Unlock()
	for i := range turns {
		if err := s.fetch(ctx, &turns[i], picks[i]); err != nil {
			s.putBack(picks[i:])
			return nil, fmt.Errorf("take: %w", err)
		}
	}
	return turns, nil
}

// pick is a delivery chosen, but without what has to be read of it.
type pick struct {
	e        *entry
	inbox    string
	attempts int
	headed   bool
	early    bool
}

// pick chooses what a lease gets.
func (s *Store) pick(lease lockmgr.Lease, n int, now int64) (t queue.Turn, picks []pick, ok bool) {
	l := s.index.lanes[lease.Host]
	if l == nil || lease.Token < l.token {
		return t, nil, false
	}
	if lease.Token > l.token {
		s.index.untake(l, now)
		l.token = lease.Token
	}
	l.hidden = now + lease.TTL.Milliseconds()
	l.ripen(now)
	if l.probing() {
		n = min(n, 1-len(l.taken))
	}
	for len(picks) < n && l.wait <= now && !l.paused && !l.blocked {
		e, early := l.pop(l.probing())
		if e == nil {
			break
		}
		e.flags |= taken
		l.taken = append(l.taken, e)
		picks = append(picks, pick{e, e.inbox.url, int(e.attempts), e.flags&headed != 0, early})
	}
	_, more := l.best()
	s.index.place(l, now)
	return queue.Turn{Lease: lease, Host: l.record, Now: fromMillis(now), More: more}, picks, true
}

// fetch reads what was picked. A delivery whose activity was finished meanwhile is left out.
func (s *Store) fetch(ctx context.Context, t *queue.Turn, picks []pick) error {
	if len(picks) == 0 {
		return nil
	}
	return s.read(ctx, func(c *sqlite.Conn) error {
		for _, p := range picks {
			full, err := s.activity(c, p.e.act)
			if err != nil {
				return err
			}
			if full == nil {
				continue
			}
			d := queue.Delivery{ID: deliveryID(p.e.act, p.e.id), Activity: full, Inbox: p.inbox, Attempts: p.attempts, Early: p.early}
			if p.headed {
				if d.Headers, err = readHeaders(c, p.e.id); err != nil {
					return err
				}
			}
			t.Deliveries = append(t.Deliveries, d)
		}
		return nil
	})
}

// readHeaders reads the headers of a delivery: none if it was cancelled meanwhile.
func readHeaders(c *sqlite.Conn, id int64) (hs []queue.Header, err error) {
	err = each(c, "SELECT headers FROM deliveries WHERE id = ?", []any{id}, func(row *sqlite.Stmt) error {
		return decode(row.ColumnText(0), &hs)
	})
	return hs, err
}

// activity returns an activity with its body: the one that is in use already, or read anew. It is nil if the body is
// gone.
func (s *Store) activity(c *sqlite.Conn, a *activity) (*queue.Activity, error) {
	s.mu.Lock()
	full := a.full.Value()
	s.mu.Unlock()
	if full != nil {
		return full, nil
	}
	body, err := readBody(c, a.seq) // not with the rest: SQLite would prepare a join anew each time
	if err != nil || body == nil {
		return nil, err
	}
	err = each(c, "SELECT uri, type, key_id, ordering_key FROM activities WHERE seq = ?", []any{a.seq}, func(row *sqlite.Stmt) error {
		full = &queue.Activity{
			ID: uuid.UUID(a.id).String(), URI: row.ColumnText(0), Type: row.ColumnText(1), KeyID: row.ColumnText(2),
			OrderingKey: row.ColumnText(3), Priority: a.priority, Role: a.role, Body: body, CreatedAt: fromMillis(a.created),
			Digest: sha256.Sum256(body),
		}
		return nil
	})
	if err != nil || full == nil {
		return nil, err
	}
	s.mu.Lock()
	a.full = weak.Make(full)
	s.mu.Unlock()
	return full, nil
}

// putBack undoes picks that could not be read.
func (s *Store) putBack(picks [][]pick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := millis(time.Now())
	for _, ps := range picks {
		for _, p := range ps {
			switch e := p.e; {
			case s.index.entries[e.id] != e || e.flags&taken == 0:
			case e.flags&gone != 0:
				s.index.remove(e, now)
			default:
				s.index.reschedule(e, e.due, now)
			}
		}
	}
}

// deliveryID is the activity's ID and the delivery's place among the recipients.
func deliveryID(a *activity, id int64) string {
	return uuid.UUID(a.id).String() + "." + strconv.FormatInt(id-a.first, 10)
}

func splitID(s string) (act uuid.UUID, ordinal int64, ok bool) {
	id, n, ok := strings.Cut(s, ".")
	if !ok {
		return act, 0, false
	}
	act, err := uuid.Parse(id)
	if err != nil {
		return act, 0, false
	}
	ordinal, err = strconv.ParseInt(n, 10, 32)
	return act, ordinal, err == nil && ordinal >= 0
}
