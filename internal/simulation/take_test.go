package simulation

import (
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// taken judges what a lease was given.
func (c *checker) taken(n *node, turns []queue.Turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i := range turns {
		t := &turns[i]
		h := c.hosts[t.Lease.Host]
		c.takeOver(h, t.Lease)
		if len(t.Deliveries) == 0 {
			continue
		}
		if h.held() {
			c.wrong("%s: taken although it is paused or blocked", h.name)
		}
		if now.Before(h.wait.Add(-grain)) {
			c.wrong("%s: taken although it waits until %s", h.name, c.w.at(h.wait))
		}
		if h.probed() && len(t.Deliveries) > 1 {
			c.wrong("%s: %d deliveries for one probe", h.name, len(t.Deliveries))
		}
		for j := range t.Deliveries {
			c.takenOne(n, h, t.Lease, &t.Deliveries[j])
		}
	}
}

// view is what a node believes in a turn.
type view struct {
	lag   time.Duration // how much what it takes for the store's time is late: as much as the answer that told it
	epoch int64         // of the host's record
}

// view returns what the node believes that makes an attempt.
func (a *attempt) view() view {
	return a.node.turns[lockmgr.Lease{Host: a.pair.host.name, Token: a.token, TTL: a.node.w.lease}]
}

// heard notes what a node believes from the first that a lease is given.
func (c *checker) heard(n *node, turns []queue.Turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range turns {
		if t := &turns[i]; n.turns[t.Lease] == (view{}) {
			n.turns[t.Lease] = view{time.Since(t.Now), t.Host.Epoch}
		}
	}
}

// takeOver notes that a later lease took the lane: what an earlier one left unsettled is lost, which has to have a cause.
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

// lose gives an attempt up whose result never came to be durable.
func (c *checker) lose(a *attempt) {
	if !a.node.faulty(a.began, time.Now()) {
		c.wrong("%s: an attempt was not settled though nothing happened to node %d", a.pair, a.node.id)
	}
	c.drop(a)
	c.figures.lost++
}

// drop takes an attempt out of the account.
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
	p := c.pairs[string(d.Activity.Body)+" "+d.Inbox]
	switch {
	case p == nil:
		c.wrong("%s: taken, but never accepted: %s", h.name, d.ID)
		return
	case p.ended != "":
		c.wrong("%s: taken after it had ended (%s)", p, p.ended)
	case p.open != nil:
		c.wrong("%s: taken again before it was settled", p)
	case d.Attempts != p.spent:
		c.wrong("%s: has spent %d attempts, must have spent %d", p, d.Attempts, p.spent)
	case d.Early && !h.probed():
		c.wrong("%s: early, though %s isn't to be probed", p, h.name)
	}
	c.byID[d.ID] = p
	p.token, p.early, p.took = l.Token, d.Early, time.Now()
	n.taken[p] = l.Token
	h.hand[p] = true
}
