package simulation

import (
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// taken checks the deliveries that a lease was given.
func (c *checker) taken(n *node, turns []queue.Turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range turns {
		t := &turns[i]
		h := c.hosts[t.Lease.Host]
		c.takeOver(h, t.Lease)
		c.given(n, h, t.Lease, t.Deliveries)
	}
}

// given checks the deliveries of a host that a lease was given.
func (c *checker) given(n *node, h *host, l lockmgr.Lease, deliveries []queue.Delivery) {
	if len(deliveries) == 0 {
		return
	}
	if h.held() {
		c.wrong("%s: taken although it is paused or blocked", h.name)
	}
	if time.Now().Before(h.wait.Add(-grain)) {
		c.wrong("%s: taken although it waits until %s", h.name, c.w.at(h.wait))
	}
	if h.probed() && len(deliveries) > 1 {
		c.wrong("%s: %d deliveries for one probe", h.name, len(deliveries))
	}
	for i := range deliveries {
		c.takenOne(n, h, l, &deliveries[i])
	}
}

// view is what a node knows in a turn.
type view struct {
	lag   time.Duration // by how much its idea of the store's time is late: as much as the answer that it is from
	epoch int64         // of the host's record
}

// view returns what the node that makes an attempt knows.
func (a *attempt) view() view {
	return a.node.turns[lockmgr.Lease{Host: a.pair.host.name, Token: a.token, TTL: a.node.w.lease}]
}

// recordView records a node's view at the first Take of a lease.
func (c *checker) recordView(n *node, turns []queue.Turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range turns {
		if t := &turns[i]; n.turns[t.Lease] == (view{}) {
			n.turns[t.Lease] = view{time.Since(t.Now), t.Host.Epoch}
		}
	}
}

// takeOver records that a later lease took the lane: attempts that an earlier one left unsettled are lost, which must
// have a cause.
func (c *checker) takeOver(h *host, l lockmgr.Lease) {
	if l.Token < h.token {
		c.wrong("%s: taken under token %d after %d", h.name, l.Token, h.token)
	}
	if l.Token == h.token {
		return
	}
	h.token = l.Token
	c.putBack(h, h.inHand()...)
	for _, a := range sorted(h.begun) {
		c.lose(a)
	}
}

// lose drops an attempt whose result never became durable.
func (c *checker) lose(a *attempt) {
	if !a.node.faulty(a.began, time.Now()) {
		c.wrong("%s: an attempt was not settled though nothing happened to node %d", a.pair, a.node.id)
	}
	c.drop(a)
	c.figures.lost++
}

// drop removes an attempt from the model.
func (c *checker) drop(a *attempt) {
	delete(a.pair.host.begun, a)
	c.free(a)
	if a.pair.open == a {
		a.pair.open = nil
	}
}

func (c *checker) free(a *attempt) {
	if a.freed {
		return
	}
	a.freed = true
	a.node.begun--
	if a.suspect {
		a.node.suspects--
	}
}

func (c *checker) takenOne(n *node, h *host, l lockmgr.Lease, d *queue.Delivery) {
	p := c.accepts(d)
	switch a := d.Activity; {
	case p == nil:
		c.wrong("%s: taken, but never accepted: %s", h.name, d.ID)
		return
	case string(a.Body) != p.post.body || a.URI != p.post.uri || a.OrderingKey != p.post.ordering:
		c.wrong("%s: taken as %q, %q, ordered by %q, must be ordered by %q", p, a.Body, a.URI, a.OrderingKey, p.post.ordering)
	case p.ended != "":
		c.wrong("%s: taken after it had ended (%s)", p, p.ended)
	case p.open != nil && !c.opened.After(p.took): // a store that was opened again no longer knows what was taken
		c.wrong("%s: taken again before it was settled", p)
	case d.Attempts != p.spent:
		c.wrong("%s: has spent %d attempts, must have spent %d", p, d.Attempts, p.spent)
	case d.Early && !h.probed():
		c.wrong("%s: early, though %s isn't to be probed", p, h.name)
	}
	c.checkDeleted(p)
	c.byID[d.ID] = p
	p.token = l.Token
	p.early = d.Early
	p.took = time.Now()
	n.taken[p] = l.Token
	h.hand[p] = true
}

// accepts returns the delivery that was accepted as this one, or nil.
func (c *checker) accepts(d *queue.Delivery) *pair {
	p := c.byPost(d.Activity.ID)
	if p == nil {
		return nil
	}
	return c.pairs[p.name+" "+d.Inbox]
}
