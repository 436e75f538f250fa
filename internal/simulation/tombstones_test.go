package simulation

import (
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// tombstone is the tombstone of an object, as it must be.
type tombstone struct {
	deletion *post
	undone   int // the place in the order accepted of what took it away, 0 while it is there
}

// recordTombstone records the effect of a post on tombstones.
func (c *checker) recordTombstone(p *post) {
	switch {
	case p.role == queue.Deletes && p.object != "":
		if g := c.tombstoneOf(p.object); g != nil {
			g.undone = p.nth
		}
		c.tombstones[p.object] = append(c.tombstones[p.object], &tombstone{deletion: p})
	case p.role == queue.Restores:
		if g := c.undoes(p); g != nil {
			g.undone = p.nth
			c.restore(p, g.deletion.object)
		}
	}
}

// tombstoneOf returns the tombstone that an object has, or nil.
func (c *checker) tombstoneOf(object string) *tombstone {
	all := c.tombstones[object]
	if len(all) == 0 || all[len(all)-1].undone > 0 {
		return nil
	}
	return all[len(all)-1]
}

// undoes returns the tombstone that an Undo takes away: that of its object or, where it only names the Delete, the
// newest that this left.
func (c *checker) undoes(p *post) *tombstone {
	if p.object != "" {
		return c.tombstoneOf(p.object)
	}
	for _, q := range slices.Backward(c.posts) {
		if q.role != queue.Deletes || q.uri != p.refers || q.id == "" {
			continue
		}
		if g := c.tombstoneOf(q.object); g != nil && g.deletion == q {
			return g
		}
	}
	return nil
}

// restore records what an Undo of a Delete saved: what is still pending must not be taken for superseded afterwards.
func (c *checker) restore(undo *post, object string) {
	for _, p := range c.posts {
		if p.role != queue.Makes || p.object != object || p.id == "" {
			continue
		}
		g := glance{}
		for _, r := range p.to {
			if q := c.pairs[p.name+" "+r.Inbox]; q.ended == "" && c.pendingAt(g, q) {
				q.restored = undo.nth
			}
		}
	}
}

// supersedes returns the tombstone that stands against a post, or nil.
func (c *checker) supersedes(p *post) *tombstone {
	if g := c.tombstoneOf(p.object); p.object != "" && g != nil && g.deletion.nth > p.nth {
		return g
	}
	return nil
}

// outdated reports whether a delivery of a post may be cancelled by the time that it would go out.
func (c *checker) outdated(p *post) bool { return p.role == queue.Makes && c.supersedes(p) != nil }

// mayVanish reports whether a delivery may have been cancelled, with or without a tombstone.
func (c *checker) mayVanish(p *pair) bool {
	if p.post.cancelled {
		return true
	}
	if p.post.role != queue.Makes || p.tried {
		return false
	}
	return slices.ContainsFunc(c.tombstones[p.post.object], func(g *tombstone) bool {
		return g.deletion.nth > p.post.nth && (g.undone == 0 || g.undone > p.restored)
	})
}

// checkDeleted checks that a delivery that is taken was not deleted long before.
func (c *checker) checkDeleted(p *pair) {
	if c.outdated(p.post) && !p.tried && time.Since(p.accepted) > queue.SupersededAfter+2*grain {
		c.wrong("%s: taken although its object was deleted since", p)
	}
}
