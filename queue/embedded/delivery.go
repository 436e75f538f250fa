package embedded

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Delivery implements queue.Watching.
func (s *Store) Delivery(ctx context.Context, id string) (d queue.DeliveryStatus, err error) {
	defer wrap(&err, "delivery "+id)
	act, ordinal, ok := splitID(id)
	if !ok || id != act.String()+"."+strconv.FormatInt(ordinal, 10) {
		return d, queue.ErrNotFound
	}
	var key int64
	found := false
	err = s.db.read(ctx, func(c *sqlite.Conn) error {
		a, err := s.clock.readActivity(c, act.String())
		if err != nil {
			return err
		}
		key = a.first + ordinal
		return each(c, selectDeliveries, []any{key, min(key+1, a.end), ""}, func(row *sqlite.Stmt) error {
			found, d = true, s.clock.readDelivery(row)
			d.ID, d.ActivityID = id, a.ID
			d.URI, d.Metadata = a.URI, a.Metadata
			return nil
		})
	})
	if err != nil || !found {
		return d, cmp.Or(err, queue.ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.State == queue.StatePending {
		d.NextAttemptAt = s.clock.shown(s.index.nextAttempt(key))
	}
	return d, nil
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
