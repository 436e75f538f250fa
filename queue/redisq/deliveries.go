package redisq

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// found is one delivery of an activity, on its way into a list.
type found struct {
	listed
	*partition
	place int64
}

// Deliveries implements queue.Watching.
func (s *Store) Deliveries(ctx context.Context, id string, state queue.DeliveryState, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
	list, err := s.deliveries(ctx, id, state, p)
	if err != nil {
		return list, fmt.Errorf("deliveries of %s: %w", id, err)
	}
	return list, nil
}

func (s *Store) deliveries(ctx context.Context, id string, state queue.DeliveryState, p queue.Page) (list queue.List[queue.DeliveryStatus], err error) {
	from, err := parseCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	u, text, err := canonical(id)
	if err != nil {
		return list, err
	}
	parts, err := s.readReleased(ctx, u)
	if err != nil {
		return list, err
	}
	var all []found
	for _, part := range parts {
		some, err := s.findSome(ctx, part.partition, text, state, from, p.Limit+1)
		if err != nil {
			return list, err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.place, b.place) })
	if len(all) > p.Limit {
		list.Next = strconv.FormatInt(all[p.Limit].place, 10)
		all = all[:p.Limit]
	}
	list.Items, err = s.statuses(ctx, u, all)
	return list, err
}

func parseCursor(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(cursor, 10, 62)
	if err != nil {
		return 0, queue.ErrBadCursor
	}
	return int64(n), nil //nolint:gosec // it has 62 bits
}

// findSome finds the first deliveries of a partition from a place on.
func (s *Store) findSome(ctx context.Context, p *partition, id string, state queue.DeliveryState, from int64, limit int) (some []found, err error) {
	first := max(0, (from-int64(p.N)+int64(len(s.parts))-1)/int64(len(s.parts)))
	err = s.pages(ctx, p, id, first, func(page []listed) (bool, error) {
		for _, d := range page {
			is := queue.StatePending
			if d.dead {
				is = queue.StateDead
			}
			if d.host != "" && (state == "" || state == is) && len(some) < limit {
				some = append(some, found{d, p, s.place(p, d.ordinal)})
			}
		}
		return len(some) < limit, nil
	})
	return some, err
}

// statuses describes deliveries. Those that ended meanwhile are left out.
func (s *Store) statuses(ctx context.Context, id uuid.UUID, all []found) ([]queue.DeliveryStatus, error) {
	byPlace := map[int64]queue.DeliveryStatus{}
	for _, p := range s.parts {
		var pending []listed
		var dead []found
		for _, f := range all {
			switch {
			case f.partition != p:
			case f.dead:
				dead = append(dead, f)
			default:
				pending = append(pending, f.listed)
			}
		}
		if err := s.describePending(ctx, p, id, pending, byPlace); err != nil {
			return nil, err
		}
		if err := s.describeDead(ctx, p, id, dead, byPlace); err != nil {
			return nil, err
		}
	}
	var items []queue.DeliveryStatus
	for _, f := range all {
		if d, ok := byPlace[f.place]; ok {
			d.ID, d.Inbox, d.Host = s.deliveryID(f.partition, id.String(), f.ordinal), f.inbox, f.host
			items = append(items, d)
		}
	}
	return items, nil
}

func (s *Store) describePending(ctx context.Context, p *partition, id uuid.UUID, pending []listed, byPlace map[int64]queue.DeliveryStatus) error {
	hosts, args := wantPending(pending)
	if len(hosts) == 0 {
		return nil
	}
	a, err := s.array(ctx, findScript, p, p.lanes(p.activity(nil, id.String()), hosts), append([]string{string(id[:])}, args...))
	if err != nil {
		return err
	}
	for _, m := range a {
		f, err := fields(m, 4)
		if err != nil {
			return err
		}
		d := queue.DeliveryStatus{State: queue.StatePending, Attempts: int(f[1].number), NextAttemptAt: timeOf(f[2].number)}
		if d.LastAttempt, err = attemptOf(f[3].text); err != nil {
			return err
		}
		byPlace[s.place(p, f[0].number)] = d
	}
	return nil
}

func (s *Store) describeDead(ctx context.Context, p *partition, id uuid.UUID, dead []found, byPlace map[int64]queue.DeliveryStatus) error {
	names := make([]string, len(dead))
	for i, f := range dead {
		names[i] = letterName(id, f.ordinal)
	}
	letters, err := s.letters(ctx, p, names)
	if err != nil {
		return err
	}
	for i, l := range letters {
		if l != nil {
			byPlace[dead[i].place] = queue.DeliveryStatus{
				State: queue.StateDead, Reason: l.Reason, Attempts: l.Attempts, LastAttempt: l.LastAttempt,
			}
		}
	}
	return nil
}

// letterName is what a dead letter is called in its partition: its activity's ID and its ordinal.
func letterName(id uuid.UUID, ordinal int64) string {
	return string(binary.BigEndian.AppendUint32(id[:len(id):len(id)], uint32(ordinal))) //nolint:gosec // it counts recipients
}
