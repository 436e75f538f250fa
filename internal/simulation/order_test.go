package simulation

import (
	"cmp"
	"maps"
	"slices"

	"github.com/postrider/postrider/queue"
)

func (p *pair) chain() string { return p.host.name + " " + p.post.key }

// line puts a delivery that is pending again into its place among those of its ordering key: before what was accepted
// later, unless that is taken just now.
func (c *checker) line(p *pair) {
	chain := slices.DeleteFunc(slices.Clone(c.chains[p.chain()]), func(q *pair) bool { return q == p })
	i := len(chain)
	for i > 0 && chain[i-1].nth > p.nth && !p.host.hand[chain[i-1]] {
		i--
	}
	c.chains[p.chain()] = slices.Insert(chain, i, p)
}

// putBack notes that deliveries are in nobody's hand any more. What is still pending comes behind what is older.
func (c *checker) putBack(h *host, some ...*pair) {
	for _, p := range some {
		delete(h.hand, p)
	}
	for _, p := range some {
		c.line(p)
	}
}

// inHand returns what is in somebody's hand, the oldest first.
func (h *host) inHand() []*pair {
	return slices.SortedFunc(maps.Keys(h.hand), func(p, q *pair) int { return cmp.Compare(p.nth, q.nth) })
}

// judgeOrder looks for something older of the same ordering key that has not ended.
func (c *checker) judgeOrder(p *pair) {
	chain := c.chains[p.chain()]
	for _, q := range chain {
		if q == p {
			break
		}
		if q.ended == "" && !q.revived.After(p.took) && c.pending(q) {
			c.wrong("%s: overtakes %s", p, q)
		}
	}
	// What has ended is not looked at again.
	if i := slices.IndexFunc(chain, func(q *pair) bool { return q.ended == "" }); i > 0 {
		c.chains[p.chain()] = chain[i:]
	}
}

// pending asks the store whether a delivery is still pending, and notes it if it ended without an attempt.
func (c *checker) pending(p *pair) bool {
	if p.post.id == "" {
		return false // it was not accepted
	}
	if p.host.blockedAt.After(p.took) {
		p.void = p.host.blockedAt // if it is not
	}
	for _, d := range c.w.deliveries(p.post.id, "") {
		if d.Inbox == p.inbox {
			if d.State != queue.StatePending {
				p.ended = d.State
			}
			return d.State == queue.StatePending
		}
	}
	p.ended = "cancelled"
	return false
}
