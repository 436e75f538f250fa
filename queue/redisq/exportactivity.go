package redisq

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

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
	home, finished, pending := parts[0], int64(0), 0
	m := &queue.MovedActivity{Activity: queue.Activity{
		ID: text, URI: home.URI, Type: home.Type, KeyID: home.KeyID, OrderingKey: home.OrderingKey, Role: home.Role,
		CreatedAt: timeOf(home.created),
	}}
	now, err := x.s.now(ctx)
	if err != nil {
		return nil, err
	}
	var all []numbered
	for _, part := range parts {
		m.Delivered += part.counts.Delivered
		m.Dead += part.counts.Dead - part.letters
		m.Cancelled += part.counts.Cancelled
		pending += part.counts.Pending
		finished = max(finished, part.finished)
		var some []numbered
		if some, err = x.part(ctx, part.partition, id, m, now); err != nil {
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

// lasts says when deliveries expire, in ms: those that were revived have a time of their own.
type lasts struct{ now, all, revived int64 }

// left is what is left of the TTL of a delivery.
func (l lasts) left(flags int) time.Duration {
	at := l.all
	if flags&revived != 0 && l.revived > 0 {
		at = l.revived
	}
	return time.Duration(at-l.now) * time.Millisecond
}

// part reads the deliveries that a partition has of an activity, and what else there is to be known. now is Redis's
// time.
func (x *export) part(ctx context.Context, p *partition, id uuid.UUID, m *queue.MovedActivity, now int64) (all []numbered, err error) {
	b := x.s.client.B
	answers, err := x.s.do(ctx, b().Hmget().Key(p.Of("a", m.ID)).Field("q", "e", "v").Build(), b().Get().Key(p.Of("b", m.ID)).Build())
	if err != nil {
		return nil, err
	}
	about, err := fields(answers[0], 3)
	if err != nil {
		return nil, err
	}
	priority, err := strconv.ParseUint(about[0].text, 10, 8)
	if err != nil {
		return nil, err
	}
	until := lasts{now: now}
	if until.all, err = strconv.ParseInt(about[1].text, 10, 64); err != nil {
		return nil, err
	}
	if about[2].text != "" {
		if until.revived, err = strconv.ParseInt(about[2].text, 10, 64); err != nil {
			return nil, err
		}
	}
	m.Priority = queue.Priority(priority)
	if !answers[1].IsNil() && m.Body == nil {
		if m.Body, err = answers[1].AsBytes(); err != nil {
			return nil, err
		}
	}
	err = x.s.pages(ctx, p, m.ID, 0, func(page []listed) (bool, error) {
		some, err := x.deliveries(ctx, p, id, page, until)
		all = append(all, some...)
		return true, err
	})
	return all, err
}

// deliveries completes a page of an activity's list.
func (x *export) deliveries(ctx context.Context, p *partition, id uuid.UUID, page []listed, until lasts) (all []numbered, err error) {
	for _, l := range page {
		d := numbered{x.s.place(p, l.ordinal), queue.MovedDelivery{Recipient: queue.Recipient{Host: l.host, Inbox: l.inbox}}}
		switch {
		case l.host == "":
			continue
		case l.dead:
			err = x.letter(ctx, p, letterName(id, l.ordinal), &d.MovedDelivery)
		default:
			err = x.pending(place{id, d.number}, &d.MovedDelivery, until)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (x *export) pending(at place, d *queue.MovedDelivery, until lasts) error {
	known := x.details[at]
	if known == nil {
		d.TTL = until.left(0)
		return nil
	}
	delete(x.details, at)
	d.Attempts, d.HostFailed, d.WaitKey = known.attempts, known.flags&hostFailed != 0, known.flags&waitsKey != 0
	d.TTL = until.left(known.flags)
	if !d.WaitKey {
		d.After = time.Duration(max(0, known.due-until.now)) * time.Millisecond
	}
	last, err := attemptOf(known.last)
	d.LastAttempt = last
	return errors.Join(err, decode(known.headers, &d.Headers))
}

func (x *export) letter(ctx context.Context, p *partition, name string, d *queue.MovedDelivery) error {
	answers, err := x.s.do(ctx, x.s.client.B().Hget().Key(p.Key("letters")).Field(name).Build())
	if err != nil {
		return err
	}
	text, err := answers[0].ToString()
	if err != nil {
		return err
	}
	l, err := x.s.letter(p, name, text)
	if err != nil {
		return err
	}
	var parts []any
	about, _, _ := strings.Cut(text, "\n")
	if err := decode(about, &parts); err != nil {
		return err
	}
	d.Reason, d.Attempts, d.LastAttempt, d.DiedAt = l.Reason, l.Attempts, l.LastAttempt, l.DiedAt
	headers, _ := parts[2].(string) // letter checked it
	return decode(headers, &d.Headers)
}
