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
	key := int64(0)
	err = s.db.read(ctx, func(c *sqlite.Conn) error {
		a, err := s.clock.readActivity(c, act.String())
		if err != nil {
			return err
		}
		key = a.first + ordinal
		d, ok, err = s.clock.readOne(c, &a, key)
		return err
	})
	if err != nil || !ok {
		return d, cmp.Or(err, queue.ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showWait(&d, key)
	return d, nil
}

// readOne reads a delivery of an activity, if it is pending or dead.
func (k *clock) readOne(c *sqlite.Conn, a *stored, id int64) (d queue.DeliveryStatus, found bool, err error) {
	err = each(c, selectDeliveries, []any{id, min(id+1, a.end), ""}, func(row *sqlite.Stmt) error {
		found, d = true, k.readDelivery(row)
		d.ID = a.ID + "." + strconv.FormatInt(id-a.first, 10)
		d.ActivityID, d.URI = a.ID, a.URI
		d.Type, d.Metadata = a.Type, a.Metadata
		d.Priority, d.CreatedAt = a.priority, a.CreatedAt
		return nil
	})
	return d, found, err
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
