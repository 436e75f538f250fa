package redisq

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// found is one delivery of an activity, on its way into a list.
type found struct {
	listed
	*partition
	number int64
}

// Deliveries implements queue.Watching.
func (s *reader) Deliveries(ctx context.Context, id string, state queue.DeliveryState, p queue.Page) (list queue.List[queue.DeliveryStatus], err error) {
	defer wrap(&err, "deliveries of "+id)
	from, err := queue.ParseCursor(p.Cursor, 1)
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
		some, err := s.findSome(ctx, part.partition, text, state, from[0], p.Limit+1)
		if err != nil {
			return list, err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.number, b.number) })
	if len(all) > p.Limit {
		list.Next = strconv.FormatInt(all[p.Limit].number, 10)
		all = all[:p.Limit]
	}
	list.Items, err = s.statuses(ctx, u, all)
	for i := range list.Items {
		list.Items[i].DiedAt = time.Time{} // Delivery alone shows it
	}
	return list, err
}

// findSome finds the first deliveries of a partition from a place on.
func (s *reader) findSome(ctx context.Context, p *partition, id string, state queue.DeliveryState, from int64, limit int) (some []found, err error) {
	first := max(0, (from-int64(p.N)+int64(len(s.parts))-1)/int64(len(s.parts)))
	err = p.pages(ctx, id, first, func(page []listed) (bool, error) {
		for _, d := range page {
			is := queue.StatePending
			if d.dead {
				is = queue.StateDead
			}
			if d.host != "" && (state == "" || state == is) && len(some) < limit {
				some = append(some, found{d, p, p.numberOf(d.ordinal)})
			}
		}
		return len(some) < limit, nil
	})
	return some, err
}

// statuses describes deliveries. Those that ended meanwhile are left out.
func (s *reader) statuses(ctx context.Context, id uuid.UUID, all []found) ([]queue.DeliveryStatus, error) {
	byNumber := map[int64]queue.DeliveryStatus{}
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
		err := errors.Join(s.describePending(ctx, p, id, pending, byNumber), s.describeDead(ctx, p, id, dead, byNumber))
		if err != nil {
			return nil, err
		}
	}
	var items []queue.DeliveryStatus
	for _, f := range all {
		if d, ok := byNumber[f.number]; ok {
			s.complete(&d, &f.listed, f.partition, id.String())
			items = append(items, d)
		}
	}
	return items, nil
}

func (s *reader) describePending(ctx context.Context, p *partition, id uuid.UUID, pending []listed, byNumber map[int64]queue.DeliveryStatus) error {
	hosts, args := wantPending(pending)
	if len(hosts) == 0 {
		return nil
	}
	var all []rueidis.RedisMessage
	err := p.run(ctx, script.Find, p.lanes(p.activity(nil, id.String()), hosts), append([]string{string(id[:])}, args...), &all)
	for i := 0; err == nil && i < len(all); i++ {
		var ordinal int64
		var wait waiting
		d := queue.DeliveryStatus{State: queue.StatePending}
		if err = scan(all[i], &ordinal, &d.Attempts, &wait.due, &wait.what, &wait.last); err == nil {
			err = p.showWait(&d, &wait)
		}
		byNumber[p.numberOf(ordinal)] = d
	}
	return err
}

// waiting is what scripts say of how a pending delivery waits.
type waiting struct {
	due  int64 // in ms, 0 if it is not known
	what int   // its position in queue.WaitsFor
	last string
}

// showWait shows until when a delivery waits, for what, and its last attempt.
func (p *partition) showWait(d *queue.DeliveryStatus, w *waiting) error {
	d.NextAttemptAt = p.lag.shown(w.due)
	d.Waits = queue.WaitsFor[w.what]
	attempt, err := attemptOf(w.last)
	d.History = queue.History{}.With(attempt)
	return err
}

// complete adds to a delivery what its activity's list has of it.
func (s *conn) complete(d *queue.DeliveryStatus, l *listed, p *partition, id string) {
	d.ID = p.deliveryID(id, l.ordinal)
	d.Inbox = l.inbox
	d.Host = l.host
	d.IDs = unpackIDs(l.host, l.ids)
	var err error
	if d.History, err = historyOf(d.History.Last(), l.past); err != nil {
		s.logLimited("attempts", &damage{p.Of(rediskeys.Recipients, id), d.ID, err.Error()})
	}
}

// ofActivity adds to a delivery what is shown of its activity.
func (a *part) ofActivity(d *queue.DeliveryStatus, id string) {
	d.ActivityID = id
	d.URI = a.URI
	d.Type = a.Type
	d.Metadata = a.Metadata
	d.Priority = a.priority
	d.CreatedAt = a.lag.shown(a.created)
}

func (s *reader) describeDead(ctx context.Context, p *partition, id uuid.UUID, dead []found, byNumber map[int64]queue.DeliveryStatus) error {
	names := make([]string, len(dead))
	for i, f := range dead {
		names[i] = letterName(id, f.ordinal)
	}
	letters, err := p.letters(ctx, names)
	if err != nil {
		return err
	}
	for i, l := range letters {
		if l != nil {
			byNumber[dead[i].number] = queue.DeliveryStatus{
				State: queue.StateDead, Reason: l.Reason, Attempts: l.Attempts, DiedAt: l.DiedAt, History: l.History,
			}
		}
	}
	return nil
}
