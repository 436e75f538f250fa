package redisq

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
)

// looking is a beat of a node that looks for work.
func looking(name string, at time.Time, room bool) beat {
	return beat{at, note{Name: name, Looks: true, Room: room}}
}

// fleetOf returns nodes that have heard of each other.
func fleetOf(nodes, partitions int) []*company {
	var all []*company
	for i := range nodes {
		c := newCompany(partitions)
		c.self = fmt.Sprint("node ", i)
		all = append(all, c)
	}
	meet(all)
	return all
}

// meet has all nodes hear of each other.
func meet(all []*company) {
	for _, c := range all {
		for _, other := range all {
			_ = c.heard(looking(other.self, time.Now(), true))
		}
		c.share(time.Now(), true)
	}
}

// served returns how many partitions each node serves, and how many nodes serve the partition that has fewest and most.
func served(all []*company) (each []int, fewest, most int) {
	each, fewest = make([]int, len(all)), len(all)
	for n := range all[0].mine {
		servers := 0
		for i, c := range all {
			if c.served()[n] {
				each[i]++
				servers++
			}
		}
		fewest, most = min(fewest, servers), max(most, servers)
	}
	return each, fewest, most
}

func TestShares(t *testing.T) {
	for _, c := range []struct{ nodes, partitions, servers int }{
		{1, 1, 1}, {3, 1, 3}, {8, 4, 8}, {3, 64, 1}, {16, 64, 1}, {24, 64, 1}, {32, 64, 2}, {16, 512, 1}, {66, 512, 1},
	} {
		each, fewest, most := served(fleetOf(c.nodes, c.partitions))
		if fewest != c.servers || most != c.servers {
			t.Errorf("%d partitions of %d nodes have %d to %d servers, want %d", c.partitions, c.nodes, fewest, most, c.servers)
		}
		mean := float64(c.partitions*c.servers) / float64(c.nodes)
		for i, n := range each {
			if float64(n) < mean-1 || float64(n) > mean+1 {
				t.Errorf("of %d partitions node %d of %d serves %d", c.partitions, i, c.nodes, n)
			}
		}
	}
}

// TestFewPartitionsMove checks that a node which joins takes partitions from others, and that hardly more move between those.
func TestFewPartitionsMove(t *testing.T) {
	before, after := fleetOf(7, 512), fleetOf(8, 512)
	moved := 0
	for i, c := range before {
		for n := range c.mine {
			if after[i].served()[n] && !c.served()[n] {
				moved++
			}
		}
	}
	each, _, _ := served(after)
	if each[7] != 512/8 || moved > each[7] {
		t.Errorf("the node that joined serves %d of 512, and %d moved between others", each[7], moved)
	}
}

// TestNodesThatFallSilent checks that the others serve what a node did that is not heard any more, says that it goes, or has
// no room.
func TestNodesThatFallSilent(t *testing.T) {
	now := time.Now()
	for what, fall := range map[string]func(c *company, gone string){
		"silent": func(*company, string) {},
		"gone": func(c *company, gone string) {
			_ = c.heard(looking(gone, now.Add(queue.NodeSilence), true))
			c.left(gone)
		},
		"without room": func(c *company, gone string) { _ = c.heard(looking(gone, now.Add(queue.NodeSilence), false)) },
	} {
		all := fleetOf(3, 64)
		gone, left := all[0], all[1:]
		for _, c := range left {
			for _, other := range left {
				_ = c.heard(looking(other.self, now.Add(queue.NodeSilence), true))
			}
			fall(c, gone.self)
			changed, lost := c.share(now.Add(queue.NodeSilence+time.Second), true)
			if !changed {
				t.Errorf("a node is %s, and %s serves what it did", what, c.self)
			}
			if lost != (what == "silent") {
				t.Errorf("a node is %s, and %s says %t of whether one fell silent", what, c.self, lost)
			}
		}
		if _, fewest, most := served(left); fewest != 1 || most != 1 {
			t.Errorf("a node is %s: a partition has %d to %d servers", what, fewest, most)
		}
	}
}

// TestAllNodesWithoutRoom checks that nodes without room keep their shares: what one has too much of, the others have, too.
func TestAllNodesWithoutRoom(t *testing.T) {
	all := fleetOf(3, 64)
	for _, c := range all {
		for _, other := range all {
			_ = c.heard(looking(other.self, time.Now(), false))
		}
		if changed, _ := c.share(time.Now(), false); changed {
			t.Errorf("%s serves others than before", c.self)
		}
	}
}

// TestNodesThatTakeCallsOnly checks that nodes which do not look for work get no partitions, also while the others have no
// room.
func TestNodesThatTakeCallsOnly(t *testing.T) {
	c := newCompany(64)
	if err := c.heard(beat{time.Now(), note{Name: "api-1"}}); err != nil {
		t.Fatal(err)
	}
	for _, room := range []bool{true, false} {
		c.share(time.Now(), room)
		if each, _, _ := served([]*company{c}); each[0] != 64 {
			t.Errorf("the only node that looks for work, with room %t, serves %d of 64 partitions", room, each[0])
		}
	}
}
