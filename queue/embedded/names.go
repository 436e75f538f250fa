package embedded

import (
	"cmp"

	"github.com/tidwall/btree"

	"github.com/postrider/postrider/queue"
)

// laneTree keeps lanes in an order.
type laneTree = btree.BTreeG[*lane]

// newLaneTree returns a tree by a time of each lane, which must not change while the lane is in it.
func newLaneTree(at func(*lane) int64) *laneTree {
	return btree.NewBTreeGOptions(func(a, b *lane) bool {
		return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a.id, b.id)) < 0
	}, btree.Options{NoLocks: true})
}

// names keeps the lanes of each state by name, and all under "", so that a page of a list costs no more than its items.
type names map[queue.HostState]*laneTree

func (n names) add(l *lane) {
	n.in("").Set(l)
	n.in(l.state).Set(l)
}

func (n names) remove(l *lane) {
	n.in("").Delete(l)
	n.in(l.state).Delete(l)
}

// move gives a lane another state.
func (n names) move(l *lane, to queue.HostState) {
	n.in(l.state).Delete(l)
	l.state = to
	n.in(to).Set(l)
}

// in returns the lanes of a state, or all if that is "".
func (n names) in(state queue.HostState) *laneTree {
	t := n[state]
	if t == nil {
		t = btree.NewBTreeGOptions(func(a, b *lane) bool { return a.host < b.host }, btree.Options{NoLocks: true})
		n[state] = t
	}
	return t
}

// after calls f for the lanes of a state, or all if that is "", whose names come after the one given, until f returns false.
func (n names) after(state queue.HostState, name string, f func(*lane) bool) {
	n.in(state).Ascend(&lane{host: name}, func(l *lane) bool { return l.host == name || f(l) })
}

// counts counts the lanes of each state.
func (n names) counts() map[queue.HostState]int {
	counts := map[queue.HostState]int{}
	for state, t := range n {
		if state != "" && t.Len() > 0 {
			counts[state] = t.Len()
		}
	}
	return counts
}
