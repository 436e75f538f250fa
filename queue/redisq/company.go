package redisq

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/postrider/postrider/queue"
)

var errManyNodes = errors.New("too many nodes")

const (
	beatEvery = time.Second // well within queue.NodeSilence
	maxNodes  = 1000        // that a node remembers
	// roomLasts is how long after it should have looked for work a node counts as one that has room for more.
	roomLasts = 2 * time.Second

	sharesEach = 4 // partitions that each node has at least, where there are enough
)

// company is which nodes there are and look for work, as far as this one hears, and so which partitions are this node's to
// look at first. That only keeps what nodes send to Redis in few hands: a lease decides who works on a host, however nodes
// see each other.
//
// Each partition is served by the nodes that come first in an order drawn from its number and their names (rendezvous
// hashing), so that few partitions change hands when a node comes or goes. While there are few partitions, several nodes
// serve each, and all of them serve the only one. Nodes that have no room, as their slots are all held by slow hosts or
// their name servers are away, are passed over by those that have: so no work waits for a node that can't do it.
type company struct {
	mu     sync.Mutex
	self   string
	others map[string]beat // by their names; guarded by mu, and what is below, too
	names  []string        // of the nodes among which mine was drawn
	mine   []bool          // by partition; never modified
	echo   time.Time       // when this node heard itself last, or began to beat; zero if it does not beat
}

// newCompany returns that of a node which has heard of no other: all is its own.
func newCompany(partitions int) *company {
	return &company{self: queue.NewNodeName(), others: map[string]beat{}, mine: slices.Repeat([]bool{true}, partitions)}
}

// served reports of each partition whether it is this node's to look at. The answer must not be modified.
func (c *company) served() []bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mine
}

// heard notes that a node is there. It returns an error if there are too many nodes to remember.
func (c *company) heard(b beat) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.Name == c.self {
		c.echo = b.at
		return nil
	}
	if _, known := c.others[b.Name]; !known && len(c.others) >= maxNodes {
		return errManyNodes
	}
	c.others[b.Name] = b
	return nil
}

// left notes that a node is gone.
func (c *company) left(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.others, name)
}

// share finds out which partitions are this node's, and reports whether these are others than before, and whether a node has
// fallen silent since. A node without room leaves all others in their places.
func (c *company) share(now time.Time, room bool) (changed, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	heard := len(c.others)
	maps.DeleteFunc(c.others, func(_ string, b beat) bool { return now.Sub(b.at) > queue.NodeSilence })
	lost = len(c.others) < heard
	names := []string{c.self}
	for name, b := range c.others {
		if b.Looks && (b.Room || !room) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if slices.Equal(names, c.names) {
		return false, lost
	}
	c.names = names
	servers := max(1, sharesEach*len(names)/len(c.mine))
	mine := make([]bool, len(c.mine))
	for n := range mine {
		mine[n] = c.place(n) < servers
	}
	changed = !slices.Equal(mine, c.mine)
	c.mine = mine
	return changed, lost
}

// known returns the names of the nodes among which the partitions are shared.
func (c *company) known() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.names)
}

// place returns how many of the nodes come before this one in the order drawn for a partition.
func (c *company) place(n int) (before int) {
	rank := func(name string) uint64 { return xxhash.Sum64String(name + " " + strconv.Itoa(n)) }
	own := rank(c.self)
	for _, name := range c.names {
		if rank(name) < own {
			before++
		}
	}
	return before
}

// beats notes that this node begins to beat.
func (c *company) beats(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.echo = now
}

// deaf reports whether this node beats, but does not hear itself.
func (c *company) deaf(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.echo.IsZero() && now.Sub(c.echo) > queue.NodeSilence
}

// there returns the other nodes that were heard of late.
func (c *company) there(now time.Time) (nodes []queue.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.others {
		if now.Sub(b.at) <= queue.NodeSilence {
			nodes = append(nodes, b.node())
		}
	}
	return nodes
}

// hasRoom reports whether this node looks for work when there is some, and takes what it finds. If all its slots are taken for
// long, it doesn't.
func (s *channels) hasRoom() bool {
	idle := time.Duration(s.idle.Load())
	return !s.choosy.Load() && (idle == never || time.Since(s.start) < idle+roomLasts)
}

// reshare has the wakes of other partitions heard if this node serves others now. If a node has died, this one sweeps, and so
// learns when to finish what that one may have begun.
func (s *channels) reshare() {
	changed, lost := s.company.share(time.Now(), s.hasRoom())
	if changed {
		s.poke()
	}
	if lost {
		s.sweepIn(0)
	}
}

func (s *channels) poke() {
	select {
	case s.reshared <- struct{}{}:
	default:
	}
}
