package simulation

import (
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// intake is the required result of a submission, by what was pending before it.
type intake struct {
	ordering   string
	duplicates map[string]bool // by inbox
}

// offered records a post that may be accepted next, and returns the required result.
func (c *checker) offered(s *queue.Submission) intake {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, g := c.w.posts[s.ID], glance{}
	if !p.offered {
		p.offered = true
		c.posts = append(c.posts, p)
	}
	want := intake{c.ordering(p), map[string]bool{}}
	for _, r := range p.to {
		if tail := c.tail(g, r.Inbox+" "+want.ordering); tail != nil && tail.post.body == p.body && !c.outdated(tail.post) {
			want.duplicates[r.Inbox] = true
		}
	}
	return want
}

// ordering returns the ordering key that the store must give a post: that of the newest pending post that it refers to.
func (c *checker) ordering(p *post) string {
	if p.refers == "" || p.key != p.refers {
		return p.key
	}
	for _, q := range slices.Backward(c.posts) {
		if q.uri != p.refers || q.id == "" {
			continue
		}
		if a, err := c.w.store().Queue.Activity(c.w.life, q.id); err == nil && a.Counts.Pending > 0 {
			return q.ordering
		}
	}
	return p.key
}

// tail returns the newest delivery of a chain that is pending, or nil.
func (c *checker) tail(g glance, chain string) *pair {
	for _, q := range slices.Backward(c.chains[chain]) {
		if q.ended == "" && c.pendingAt(g, q) {
			return q
		}
	}
	return nil
}

// receipt checks the store's answer to a submission.
func (c *checker) receipt(s *queue.Submission, r queue.Receipt, want intake) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.w.posts[s.ID]
	c.note("receipt", p.name, r.Accepted, r.Duplicates, len(r.Refused), r.Replayed)
	switch {
	case r.Replayed && (!p.answered || p.keyless):
		c.wrong("%s: replayed, though it was never answered", p.name)
	case p.answered && p.id != "" && !r.Replayed:
		c.wrong("%s: a repeated call was not known again", p.name)
	case p.answered && (r.ID != p.id || r.Accepted != p.accepted):
		c.wrong("%s: a repeated call was answered otherwise: %+v", p.name, r)
	case len(s.Recipients) != r.Accepted+r.Duplicates+len(r.Refused):
		c.wrong("%s: %d recipients, but %+v", p.name, len(s.Recipients), r)
	case !r.Replayed && r.Duplicates != len(want.duplicates):
		c.wrong("%s: %d duplicates, must be %v", p.name, r.Duplicates, want.duplicates)
	}
	if r.Replayed || p.answered {
		return
	}
	p.answered = true
	p.id = r.ID
	p.accepted = r.Accepted
	p.ordering = want.ordering
	c.accepted += r.Accepted
	c.figures.duplicates += r.Duplicates
	if p.id != "" {
		c.stored++
		p.nth = c.stored
	}
	c.accept(p, r.Refused, want.duplicates)
	if p.id != "" {
		c.recordTombstone(p)
	}
}

// accept records the deliveries of a post.
func (c *checker) accept(p *post, refused []queue.Refusal, duplicates map[string]bool) {
	no := map[string]queue.Reason{}
	for _, f := range refused {
		no[f.Inbox] = f.Reason
	}
	now := time.Now()
	for _, to := range p.to {
		h := c.hosts[to.Host]
		q := &pair{post: p, inbox: to.Inbox, host: h, nth: len(c.pairs), accepted: now, expires: now.Add(p.ttl), first: !h.reached}
		c.pairs[p.name+" "+to.Inbox] = q
		why, isRefused := no[to.Inbox]
		switch {
		case isRefused:
			q.ended = "refused"
			if !(why == queue.ReasonHostUnavailable && h.unavailable || why == queue.ReasonHostBlocked && h.blocked) {
				c.wrong("%s: refused as %s", q, why)
			}
		case duplicates[to.Inbox]:
			q.ended = "duplicate"
		default:
			q.known = true
			c.chains[q.chain()] = append(c.chains[q.chain()], q)
			if p.priority == queue.High && h.unavailable {
				h.model.seen(now)
			}
		}
	}
}
