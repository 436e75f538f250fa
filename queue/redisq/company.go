package redisq

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"
)

const (
	beatEvery = time.Second
	beatLasts = 3 * time.Second // a node that was not heard for that long is gone, or stands still
	// roomLasts is how long after it should have looked for work a node counts as one that has room for more.
	roomLasts = 2 * time.Second

	sharesEach = 4 // partitions that each node has at least, where there are enough
)

// company is which nodes look for work, as far as this one hears, and so which partitions are this node's to look at first.
// That only keeps what nodes send to Redis in few hands: a lease decides who works on a host, however nodes see each other.
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
}

// beat is what was heard of a node last.
type beat struct {
	at   time.Time
	room bool
}

// newCompany returns that of a node which has heard of no other: all is its own.
func newCompany(partitions int) *company {
	return &company{self: uuid.NewString(), others: map[string]beat{}, mine: slices.Repeat([]bool{true}, partitions)}
}

// served reports of each partition whether it is this node's to look at. The answer must not be modified.
func (c *company) served() []bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mine
}

// heard notes that a node is there.
func (c *company) heard(name string, b beat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name != c.self {
		c.others[name] = b
	}
}

// left notes that a node is gone.
func (c *company) left(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.others, name)
}

// share finds out which partitions are this node's, and reports whether these are others than before. A node without room
// leaves all others in their places.
func (c *company) share(now time.Time, room bool) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.others, func(_ string, b beat) bool { return now.Sub(b.at) > beatLasts })
	names := []string{c.self}
	for name, b := range c.others {
		if b.room || !room {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if slices.Equal(names, c.names) {
		return false
	}
	c.names = names
	servers := max(1, sharesEach*len(names)/len(c.mine))
	mine := make([]bool, len(c.mine))
	for n := range mine {
		mine[n] = c.place(n) < servers
	}
	changed = !slices.Equal(mine, c.mine)
	c.mine = mine
	return changed
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

// beat tells the other nodes again and again, from the first Due until ctx ends, that this one looks for work.
func (s *channels) beat(ctx context.Context) {
	select {
	case <-s.looking:
	case <-ctx.Done():
		return
	}
	again := time.Tick(beatEvery)
	for ctx.Err() == nil {
		s.broadcast(ctx, beatMessage+" "+s.company.self+" "+flag(s.hasRoom()))
		s.reshare()
		select {
		case <-ctx.Done():
		case <-again:
		}
	}
}

// hasRoom reports whether this node looks for work when there is some, and takes what it finds. If all its slots are taken for
// long, it doesn't.
func (s *channels) hasRoom() bool {
	idle := time.Duration(s.idle.Load())
	return !s.choosy.Load() && (idle == never || time.Since(s.start) < idle+roomLasts)
}

// reshare has the wakes of other partitions heard if this node serves others now.
func (s *channels) reshare() {
	if s.company.share(time.Now(), s.hasRoom()) {
		s.poke()
	}
}

func (s *channels) poke() {
	select {
	case s.reshared <- struct{}{}:
	default:
	}
}

// sayGone tells the others that this node is gone.
func (s *channels) sayGone() {
	select {
	case <-s.looking:
	default:
		return // they have not heard of it
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), readyTimeout, errSlow)
	defer cancel()
	s.broadcast(ctx, goneMessage+" "+s.company.self)
}
