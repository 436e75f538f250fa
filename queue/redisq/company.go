package redisq

import (
	"cmp"
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
// hashing), so that few partitions change hands when a node comes or goes. Nodes that have their share by then are passed over,
// so that all have as much. While there are few partitions, several nodes serve each, and all of them serve the only one.
// Nodes that have no room, as their slots are all held by slow hosts or their name servers are away, are passed over by those
// that have: so no work waits for a node that can't do it.
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
	mine := sharesOf(c.self, names, len(c.mine))
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

// sharesOf returns of each partition whether a node serves it. All nodes that hear of the same nodes find the same.
func sharesOf(self string, names []string, partitions int) []bool {
	servers := min(len(names), max(1, sharesEach*len(names)/partitions))
	share := partitions * servers / len(names)
	rest := partitions * servers % len(names) // so many nodes have one more
	order := make([]candidate, len(names))
	has := make(map[string]int, len(names))
	mine := make([]bool, partitions)
	for n := range mine {
		for i, name := range names {
			full := has[name] > share || has[name] == share && rest == 0
			order[i] = candidate{name, full, xxhash.Sum64String(name + " " + strconv.Itoa(n))}
		}
		slices.SortFunc(order, candidate.compare)
		for _, c := range order[:servers] {
			if has[c.name] == share && rest > 0 {
				rest--
			}
			has[c.name]++
			mine[n] = mine[n] || c.name == self
		}
	}
	return mine
}

// candidate is a node that may serve a partition, with its place in the order drawn for that.
type candidate struct {
	name string
	full bool // it has its share
	rank uint64
}

// compare compares by rank. Nodes that have their share come last: they serve a partition for which there are too few others.
func (c candidate) compare(other candidate) int {
	switch {
	case c.full == other.full:
		return cmp.Compare(c.rank, other.rank)
	case c.full:
		return 1
	}
	return -1
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
