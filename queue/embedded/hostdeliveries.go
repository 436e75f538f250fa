package embedded

import (
	"context"
	"errors"
	"strconv"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// inLane is a delivery on its way into the list of a host: its id, and that of its activity.
type inLane struct {
	id       int64
	activity uuid.UUID
}

// HostDeliveries implements queue.Watching. A cursor is the least id that may come next. What ends while a page is made is left
// out of it.
func (s *Store) HostDeliveries(ctx context.Context, host string, p queue.Page) (list queue.List[queue.DeliveryStatus], err error) {
	defer wrap(&err, "deliveries of host "+host)
	from, err := queue.ParseCursor(p.Cursor, 1)
	if err != nil {
		return list, err
	}
	all := s.waitingFor(host, from[0], p.Limit+1)
	if len(all) > p.Limit {
		list.Next = strconv.FormatInt(all[p.Limit].id, 10)
		all = all[:p.Limit]
	}
	var ids []int64 // of those listed
	err = s.db.read(ctx, func(c *sqlite.Conn) error {
		for _, w := range all {
			a, err := s.clock.readActivity(c, w.activity.String())
			if errors.Is(err, queue.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			d, found, err := s.clock.readOne(c, &a, w.id)
			if err != nil {
				return err
			}
			if found && d.State == queue.StatePending {
				list.Items, ids = append(list.Items, d), append(ids, w.id)
			}
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, id := range ids {
		s.showWait(&list.Items[i], id)
	}
	return list, err
}

// waitingFor returns what is pending for a host from an id on.
func (s *Store) waitingFor(host string, from int64, most int) (all []inLane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.index.lanes[host]
	if l == nil {
		return nil
	}
	for _, e := range l.pendingFrom(from, most) {
		all = append(all, inLane{e.id, e.act.id})
	}
	return all
}
