package simulation

import (
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
