package embedded

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

// Host implements queue.Watching.
func (s *Store) Host(_ context.Context, host string) (queue.HostStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.index.lanes[host]; l != nil {
		return l.status(millis(time.Now())), nil
	}
	return queue.HostStatus{Host: host, State: queue.HostHealthy}, nil
}

func (l *lane) status(now int64) queue.HostStatus {
	h := queue.HostStatus{
		Host: l.host, State: l.state, Pending: l.pending, InFlight: min(len(l.taken), max(1, l.record.Breaker.Window)), Record: l.record,
	}
	if l.wait > now {
		h.RetryAt = fromMillis(l.wait)
	}
	if oldest := l.oldest(); oldest != nil {
		h.OldestPendingAt = fromMillis(oldest.act.created)
	}
	return h
}

// hostsAtOnce is how many hosts are looked at under the lock at once.
const hostsAtOnce = 500

// Hosts implements queue.Watching.
func (s *Store) Hosts(ctx context.Context, f queue.HostFilter, p queue.Page) (queue.List[queue.HostStatus], error) {
	after, err := nameAfter(p.Cursor)
	if err != nil {
		return queue.List[queue.HostStatus]{}, err
	}
	o := &hostPage{HostFilter: f, limit: p.Limit, after: after}
	o.Query = strings.ToLower(o.Query)
	for !o.done {
		if err := ctx.Err(); err != nil {
			return queue.List[queue.HostStatus]{}, fmt.Errorf("hosts: %w", err)
		}
		s.addHosts(o)
	}
	return o.list, nil
}

// hostPage is a page of hosts in the making.
type hostPage struct {
	queue.HostFilter
	limit int
	after string // the last name looked at
	list  queue.List[queue.HostStatus]
	done  bool
}

// addHosts looks at the next few hosts.
func (s *Store) addHosts(o *hostPage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, looked := millis(time.Now()), 0
	o.done = true
	s.index.names.after(o.State, o.after, func(l *lane) bool {
		if looked == hostsAtOnce {
			o.done = false
			return false
		}
		looked++
		o.after = l.host
		if !strings.Contains(l.host, o.Query) {
			return true
		}
		if len(o.list.Items) == o.limit {
			o.list.Next = cursorAfter(o.list.Items[o.limit-1].Host)
			return false
		}
		o.list.Items = append(o.list.Items, l.status(now))
		return true
	})
}
