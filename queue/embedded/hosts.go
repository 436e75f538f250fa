package embedded

import (
	"context"
	"fmt"
	"strings"

	"github.com/postrider/postrider/queue"
)

// Host implements queue.Watching.
func (s *Store) Host(_ context.Context, host string) (queue.HostStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	s.index.endThrottles(now)
	if l := s.index.lanes[host]; l != nil {
		return s.status(l, now), nil
	}
	unknown := newLane(0, host)
	unknown.held = s.index.orders.ends(host)
	return s.status(unknown, now), nil
}

// status returns what the API shows of a lane.
func (s *Store) status(l *lane, now int64) queue.HostStatus {
	k := s.clock
	h := queue.HostStatus{
		Host: l.host, State: l.stateAt(now), Pending: l.pending, InFlight: min(len(l.taken), max(1, l.record.Breaker.Window)),
		Record: k.shownRecord(l.record), ChangedAt: k.shown(l.told.at),
	}
	if l.held != (orderEnds{}) {
		h.Orders = s.index.ordersFor(l.host, k, now)
	}
	if l.wait > now {
		h.RetryAt = k.shown(l.wait)
	}
	if oldest := l.oldest(); oldest != nil {
		h.OldestPendingAt = k.shown(oldest.act.created)
	}
	return h
}

// hostsAtOnce is how many hosts are looked at under the lock at once.
const hostsAtOnce = 500

// Hosts implements queue.Watching.
func (s *Store) Hosts(ctx context.Context, f queue.HostFilter, p queue.Page) (list queue.List[queue.HostStatus], err error) {
	f.Query = strings.ToLower(f.Query)
	o := hostPage{s: s, HostFilter: f, limit: p.Limit}
	if !f.ChangedSince.IsZero() {
		o.since = s.clock.stored(f.ChangedSince)
	}
	if f.Sort == queue.ByName {
		list, err = o.byName(ctx, p.Cursor)
	} else {
		list, err = (&rankedPage{hostPage: o}).read(ctx, p.Cursor)
	}
	if err != nil {
		return queue.List[queue.HostStatus]{}, fmt.Errorf("hosts: %w", err)
	}
	return list, nil
}

// hostPage is a page of hosts while it is filled.
type hostPage struct {
	s *Store
	queue.HostFilter
	since int64 // ChangedSince
	limit int
	after string // the last name looked at
	list  queue.List[queue.HostStatus]
	done  bool
}

func (o *hostPage) byName(ctx context.Context, cursor string) (list queue.List[queue.HostStatus], err error) {
	if o.after, err = queue.ParseNameCursor(cursor); err != nil {
		return list, err
	}
	for !o.done {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		o.add()
	}
	return o.list, nil
}

// add looks at the next few hosts.
func (o *hostPage) add() {
	s := o.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now, looked := s.clock.now(), 0
	s.index.endThrottles(now)
	o.done = true
	s.index.names.after(o.State, o.after, func(l *lane) bool {
		if looked == hostsAtOnce {
			o.done = false
			return false
		}
		looked++
		o.after = l.host
		if !o.passes(l, now) {
			return true
		}
		if len(o.list.Items) == o.limit {
			o.list.Next = queue.NameCursor(o.list.Items[o.limit-1].Host)
			return false
		}
		o.list.Items = append(o.list.Items, s.status(l, now))
		return true
	})
}

// passes reports whether a host passes the filter.
func (o *hostPage) passes(l *lane, now int64) bool {
	return (o.State == "" || o.State == l.stateAt(now)) && l.told.at >= o.since && strings.Contains(l.host, o.Query)
}
