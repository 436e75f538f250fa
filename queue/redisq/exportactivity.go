package redisq

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// numbered is a delivery and its place in the activity.
type numbered struct {
	number int64
	queue.MovedDelivery
}

func (x *export) activity(ctx context.Context, id uuid.UUID) (*queue.MovedActivity, error) {
	text := id.String()
	parts, err := x.s.readParts(ctx, text)
	if err != nil {
		return nil, err
	}
	home := parts[0]
	finished := int64(0)
	pending := 0
	m := &queue.MovedActivity{Activity: home.asActivity(text)}
	m.CreatedAt = home.lag.shown(home.created)
	wall, err := x.s.wallTime(ctx)
	if err != nil {
		return nil, err
	}
	now := home.lag.stored(wall)
	var all []numbered
	for _, part := range parts {
		m.Delivered += part.counts.Delivered
		m.Dead += part.counts.Dead - part.letters
		m.Cancelled += part.counts.Cancelled
		pending += part.counts.Pending
		finished = max(finished, part.finished)
		var some []numbered
		if some, err = x.part(ctx, part.partition, id, m, lasts{now: now, created: home.created}); err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	if pending == 0 {
		m.Finished = max(0, time.Duration(now-finished)*time.Millisecond)
	}
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	for _, d := range all {
		m.Deliveries = append(m.Deliveries, d.MovedDelivery)
	}
	return m, nil
}

// lasts says when deliveries expire, in ms, those that were revived have a time of their own, and since when those are due
// that have no time.
type lasts struct{ now, created, all, revived int64 }

// left is what is left of the TTL of a delivery.
func (l lasts) left(flags int) time.Duration {
	at := l.all
	if flags&queue.FlagRevived != 0 && l.revived > 0 {
		at = l.revived
	}
	return time.Duration(at-l.now) * time.Millisecond
}

// due is what is left until a delivery is due, by the time that its lane has.
func (l lasts) due(at int64) time.Duration {
	return time.Duration(cmp.Or(at, l.created)-l.now) * time.Millisecond
}

// part reads the deliveries that a partition has of an activity, and what else there is to be known.
func (x *export) part(ctx context.Context, p *partition, id uuid.UUID, m *queue.MovedActivity, until lasts) (all []numbered, err error) {
	var body string
	err = x.s.read(ctx, x.s.client.B().Hmget().Key(p.Of(rediskeys.Activity, m.ID)).Field("q", "e", "v", "b").Build(),
		&m.Priority, &until.all, &until.revived, &body)
	if err == nil && m.Body == nil { // a partition may have it no longer
		err = x.s.read(ctx, p.readBody(body), &m.Body)
	}
	if err != nil {
		return nil, err
	}
	err = p.pages(ctx, m.ID, 0, func(page []listed) (bool, error) {
		some, err := x.deliveries(ctx, p, id, page, until)
		all = append(all, some...)
		return true, err
	})
	return all, err
}

// deliveries completes a page of an activity's list.
func (x *export) deliveries(ctx context.Context, p *partition, id uuid.UUID, page []listed, until lasts) (all []numbered, err error) {
	for _, l := range page {
		to := queue.Recipient{Host: l.host, Inbox: l.inbox, IDs: unpackIDs(l.host, l.ids)}
		d := numbered{p.numberOf(l.ordinal), queue.MovedDelivery{Recipient: to}}
		switch {
		case l.host == "":
			continue
		case l.dead:
			err = x.letter(ctx, p, letterName(id, l.ordinal), &d.MovedDelivery)
		default:
			err = x.pending(deliveryKey{id, d.number}, &d.MovedDelivery, until)
		}
		if err == nil {
			d.History, err = historyOf(d.History.Last(), l.past)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (x *export) pending(at deliveryKey, d *queue.MovedDelivery, until lasts) error {
	known := x.details[at]
	if known == nil {
		d.TTL = until.left(0)
		d.After = until.due(0)
		return nil
	}
	delete(x.details, at)
	d.Attempts = known.attempts
	d.HostFailed = known.flags&queue.FlagHostFailed != 0
	d.WaitKey = known.flags&queue.FlagWaitsKey != 0
	d.TTL = until.left(known.flags)
	if !d.WaitKey {
		d.After = until.due(known.due)
	}
	last, err := attemptOf(known.last)
	d.History = queue.History{}.With(last)
	return errors.Join(err, decode(known.headers.Value(), &d.Headers))
}

func (x *export) letter(ctx context.Context, p *partition, name string, d *queue.MovedDelivery) error {
	text := ""
	if err := x.s.read(ctx, x.s.client.B().Hget().Key(p.Key(rediskeys.Letters)).Field(name).Build(), &text); err != nil {
		return err
	}
	l, headers, err := p.letter(name, text)
	if err != nil {
		return err
	}
	d.Reason = l.Reason
	d.Attempts = l.Attempts
	d.History = l.History
	d.DiedAt = l.DiedAt
	return decode(headers, &d.Headers)
}
