package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// observer tells the checker what is true in the store: it stands before the store itself, behind all faults.
type observer struct {
	queue.Queue
	c *checker
}

func (o *observer) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	o.c.offered(s)
	r, err := o.Queue.Enqueue(ctx, s)
	if err == nil {
		o.c.receipt(s, r)
	}
	return r, err
}

func (o *observer) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := o.Queue.Take(ctx, leases, n)
	if err == nil {
		o.c.taken(nodeOf(ctx), turns)
	}
	return turns, err
}

func (o *observer) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement) error {
	o.c.look(&s)
	err := o.Queue.Settle(ctx, l, s)
	switch {
	case err == nil:
		o.c.settled(nodeOf(ctx), l, &s)
	case errors.Is(err, queue.ErrNotHeld):
		o.c.refused(l, &s)
	}
	return err
}

func (o *observer) Act(ctx context.Context, host string, a queue.HostAction) (queue.HostStatus, error) {
	h, err := o.Queue.Act(ctx, host, a)
	switch {
	case err != nil:
	case a == queue.Seen:
		o.c.seen(host)
	default:
		o.c.acted(host, a, h)
	}
	return h, err
}

func (o *observer) Cancel(ctx context.Context, id string) (queue.ActivityStatus, error) {
	before, err := o.Activity(ctx, id)
	if err != nil {
		return before, err
	}
	after, err := o.Queue.Cancel(ctx, id)
	if err == nil {
		o.c.cancelled(before, after)
	}
	return after, err
}

func (o *observer) RetryDead(ctx context.Context, which queue.DeadLetterChoice, lasts time.Duration) (queue.DeadLetterCount, error) {
	before := o.c.w.deadLetters()
	n, err := o.Queue.RetryDead(ctx, which, lasts)
	if err == nil {
		o.c.changed(before, true, lasts, n)
	}
	return n, err
}

func (o *observer) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
	before := o.c.w.deadLetters()
	n, err := o.Queue.DeleteDead(ctx, which)
	if err == nil {
		o.c.changed(before, false, 0, n)
	}
	return n, err
}

func (o *observer) Sweep(ctx context.Context) (time.Duration, error) {
	next, err := o.Queue.Sweep(ctx)
	if err != nil {
		return next, err
	}
	return next, nil
}

// refused counts settlements that came too late.
func (c *checker) refused(l lockmgr.Lease, s *queue.Settlement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(s.Results) > 0 {
		c.figures.late++
		c.note("refused", l.Host, l.Token)
	}
}

// seen notes that the store was told that a host was heard from. One that is well again must be served soon.
func (c *checker) seen(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	before := h.quick
	h.model.seen(time.Now())
	if h.quick > before && h.is(c.w.since()) == well {
		c.w.expect(h, h.wait.Add(slack), "it was seen")
	}
}

// offered notes what is about to be accepted, perhaps.
func (c *checker) offered(s *queue.Submission) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.w.posts[string(s.Body)]
	if p.offered {
		return
	}
	p.offered = true
	c.posts = append(c.posts, p)
	for _, r := range s.Recipients {
		q := &pair{post: p, inbox: r.Inbox, host: c.hosts[r.Host], nth: len(c.pairs), accepted: time.Now(), expires: time.Now().Add(p.ttl)}
		c.pairs[p.body+" "+r.Inbox] = q
		c.chains[q.chain()] = append(c.chains[q.chain()], q)
	}
}

// receipt judges what the store said to a submission.
func (c *checker) receipt(s *queue.Submission, r queue.Receipt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, now := c.w.posts[string(s.Body)], time.Now()
	c.note("receipt", p.body, r.Accepted, r.Duplicates, r.Superseded, len(r.Refused), r.Replayed)
	switch {
	case r.Replayed && !p.answered:
		c.wrong("%s: replayed before it was answered", p.body)
	case p.answered && p.id != "" && !r.Replayed:
		c.wrong("%s: a repeated call was not known again", p.body)
	case p.answered && (r.ID != p.id || r.Accepted != p.accepted):
		c.wrong("%s: a repeated call was answered otherwise: %+v", p.body, r)
	case len(s.Recipients) != r.Accepted+r.Duplicates+len(r.Refused):
		c.wrong("%s: %d recipients, but %+v", p.body, len(s.Recipients), r)
	case r.Duplicates > 0 && p.twin == "":
		c.wrong("%s: %d duplicates of nothing", p.body, r.Duplicates)
	}
	if r.Replayed || p.answered {
		return
	}
	p.answered, p.id, p.accepted = true, r.ID, r.Accepted
	c.accepted += r.Accepted
	c.ended += r.Superseded
	no := map[string]bool{}
	for _, f := range r.Refused {
		no[f.Inbox] = true
		q := c.pairs[p.body+" "+f.Inbox]
		q.ended = "refused"
		if !(f.Reason == queue.ReasonHostUnavailable && q.host.unavailable || f.Reason == queue.ReasonHostBlocked && q.host.blocked) {
			c.wrong("%s: refused as %s", q, f.Reason)
		}
	}
	for _, rec := range s.Recipients {
		q := c.pairs[p.body+" "+rec.Inbox]
		q.accepted, q.expires = now, now.Add(p.ttl)
		q.known, q.first = r.Duplicates == 0 && !no[rec.Inbox], !q.host.reached
		if q.known && s.Priority == queue.High && q.host.unavailable {
			q.host.model.seen(now)
		}
	}
}
