package redisq

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// Delivery implements queue.Watching.
func (s *reader) Delivery(ctx context.Context, id string) (d queue.DeliveryStatus, err error) {
	defer wrap(&err, "delivery "+id)
	p, u, ordinal, ok := s.deliveryOf(id)
	if !ok {
		return d, queue.ErrNotFound
	}
	here, known, err := p.readPart(ctx, u.String())
	if err == nil && here.staged != "" {
		_, err = s.decide(ctx, p, []string{string(u[:])})
	}
	text := ""
	if err == nil && known {
		err = s.read(ctx, p.readListing(u.String(), ordinal), &text)
	}
	l := readListed(ordinal, text)
	if err != nil || l.host == "" {
		return d, cmp.Or(err, queue.ErrNotFound)
	}
	items, err := s.statuses(ctx, u, []found{{l, p, p.numberOf(ordinal)}})
	if err != nil || len(items) == 0 {
		return d, cmp.Or(err, queue.ErrNotFound)
	}
	d = items[0]
	here.ofActivity(&d, u.String())
	return d, nil
}

// deliveryOf returns the partition, the activity and the ordinal of a delivery by its ID, if it can be one.
func (s *conn) deliveryOf(id string) (p *partition, activity uuid.UUID, ordinal int64, ok bool) {
	_, number, _ := strings.Cut(id, ".")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return nil, activity, 0, false
	}
	p = s.parts[n%uint64(len(s.parts))]
	activity, ordinal, ok = p.splitID(id)
	return p, activity, ordinal, ok && p.deliveryID(activity.String(), ordinal) == id
}
