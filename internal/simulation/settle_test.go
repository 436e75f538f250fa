package simulation

import (
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// settled checks a durable settlement, and the deliveries that it gave.
func (c *checker) settled(n *node, l lockmgr.Lease, s *queue.Settlement, next []queue.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, now := c.hosts[l.Host], time.Now()
	if l.Token < h.token {
		c.wrong("%s: a settlement under token %d was accepted after %d", h.name, l.Token, h.token)
		return
	}
	if s.Release && len(next) == 0 {
		c.putBack(h, h.inHand()...)
	}
	var vs []verdict
	for i := range s.Results {
		if v, ok := c.result(n, l, &s.Results[i]); ok {
			vs = append(vs, v)
		}
	}
	if len(s.Results) > 0 {
		if n.turns[l].epoch < h.epoch {
			h.outdatedSettlement(vs, now)
		} else {
			h.apply(c.rules, vs, l.Token, now)
		}
		c.note("settled", n.id, h.name, len(s.Results), h.failures, h.trips, h.unavailable)
	}
	c.given(n, h, l, next)
}

// noteEnded finds out which of the deliveries in a settlement were ended by another call.
func (c *checker) noteEnded(s *queue.Settlement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range s.Results {
		if p := c.byID[s.Results[i].ID]; p != nil && p.ended == "" && p.host.blockedAt.After(p.took) {
			c.pending(p)
		}
	}
}

// result checks the result of one attempt, and returns the verdict on its host.
func (c *checker) result(n *node, l lockmgr.Lease, r *queue.Result) (verdict, bool) {
	p := c.byID[r.ID]
	if h := c.hosts[l.Host]; h.hand[p] {
		c.putBack(h, p)
	}
	if p == nil || p.open == nil || p.open.token != l.Token || p.open.node != n {
		return verdict{}, false // settled before
	}
	a := p.open
	v := a.meaning()
	if r.Verdict == queue.Defer && r.Attempt == nil { // cut off
		if v.means != nothing && !n.faulty(a.began, time.Now()) {
			c.wrong("%s: cut off, though nothing happened to node %d", p, n.id)
		}
		v = verdict{}
	}
	c.drop(a)
	if p.ended != "" {
		return v, true // another call ended it: the result counts for its host only
	}
	p.last = v.means
	if r.Attempt != nil {
		p.tried, p.result = true, r.Attempt
	}
	spends := v.means == again || v.means == failed && !a.early
	switch {
	case spends:
		p.spent++
	case v.means == final:
		p.spent++
		p.ended = queue.StateDead
	case v.means == delivered:
		p.ended = stateDelivered
	}
	if spends && p.spent >= c.attempts(p.post) {
		p.ended = queue.StateDead
	}
	if p.ended != "" {
		c.feed.owed = append(c.feed.owed, p)
	}
	c.checkVerdict(p, v, r, a.early)
	return v, true
}

func (c *checker) attempts(p *post) int {
	if p.priority == queue.Low {
		return min(9, c.rules.maxAttempts)
	}
	return c.rules.maxAttempts
}

// checkVerdict compares the pool's decision with the promised one.
func (c *checker) checkVerdict(p *pair, v verdict, r *queue.Result, early bool) {
	ok := false
	switch r.Verdict {
	case queue.Delivered:
		ok = v.means == delivered
	case queue.Dead:
		ok = p.ended == queue.StateDead
	case queue.Retry:
		ok = p.ended == "" && (v.means == again || v.means == failed)
	case queue.Defer:
		ok = p.ended == "" && (v.means == nothing || v.means == throttled || v.means == failed && early)
	}
	if !ok {
		c.wrong("%s: settled by verdict %d (%s), though the host's answer means %d", p, r.Verdict, r.Reason, v.means)
	}
}
