package simulation

import (
	"cmp"
	"maps"
	"slices"

	"github.com/postrider/postrider/queue"
)

func (p *pair) chain() string { return p.inbox + " " + p.post.ordering }

// line inserts a delivery that is pending again at its position among those of its ordering key: before all that were
// accepted later, unless these are taken.
func (c *checker) line(p *pair) {
	chain := slices.DeleteFunc(slices.Clone(c.chains[p.chain()]), func(q *pair) bool { return q == p })
	i := len(chain)
	for i > 0 && chain[i-1].nth > p.nth && !p.host.hand[chain[i-1]] {
		i--
	}
	c.chains[p.chain()] = slices.Insert(chain, i, p)
}

// putBack records that no node has taken these deliveries any more. Those still pending come after older ones.
func (c *checker) putBack(h *host, some ...*pair) {
	for _, p := range some {
		delete(h.hand, p)
	}
	for _, p := range some {
		c.line(p)
	}
}

// inHand returns the deliveries that a node has taken, the oldest first.
func (h *host) inHand() []*pair {
	return slices.SortedFunc(maps.Keys(h.hand), func(p, q *pair) int { return cmp.Compare(p.nth, q.nth) })
}

// checkOrder looks for an older delivery of the same ordering key that has not ended.
func (c *checker) checkOrder(p *pair) {
	chain := c.chains[p.chain()]
	for _, q := range chain {
		if q == p {
			break
		}
		if q.ended == "" && !q.revived.After(p.took) && c.pending(q) {
			c.wrong("%s: overtakes %s", p, q)
		}
	}
	// Deliveries that have ended are not checked again.
	if i := slices.IndexFunc(chain, func(q *pair) bool { return q.ended == "" }); i > 0 {
		c.chains[p.chain()] = chain[i:]
	}
}

// pending asks the store whether a delivery is still pending, and notes it if it ended without an attempt.
func (c *checker) pending(p *pair) bool { return c.pendingAt(glance{}, p) }

// glance is the store's deliveries at one moment, by activity and inbox.
type glance map[string]map[string]queue.DeliveryState

// of returns the states of an activity's deliveries that are pending or dead.
func (g glance) of(w *world, id string) map[string]queue.DeliveryState {
	if g[id] == nil {
		g[id] = map[string]queue.DeliveryState{}
		for _, d := range w.deliveries(id, "") {
			g[id][d.Inbox] = d.State
		}
	}
	return g[id]
}

func (c *checker) pendingAt(g glance, p *pair) bool {
	if p.host.blockedAt.After(p.took) {
		p.void = p.host.blockedAt // if it is not
	}
	switch state := g.of(c.w, p.post.id)[p.inbox]; state {
	case queue.StatePending:
		return true
	case "":
		p.ended = "cancelled"
		if !c.mayVanish(p) {
			c.wrong("%s: is lost", p)
		}
	default:
		p.ended = state
	}
	return false
}
