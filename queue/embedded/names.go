package embedded

import (
	"github.com/tidwall/btree"

	"github.com/postrider/postrider/queue"
)

// names keeps all lanes by name, and those of each state, so that a page of a list costs no more than its items.
type names struct {
	all     *btree.BTreeG[*lane]
	byState map[queue.HostState]*btree.BTreeG[*lane]
}

func newNames() names {
	return names{all: newNameTree(), byState: map[queue.HostState]*btree.BTreeG[*lane]{}}
}

func newNameTree() *btree.BTreeG[*lane] {
	return btree.NewBTreeGOptions(func(a, b *lane) bool { return a.host < b.host }, btree.Options{NoLocks: true})
}

func (n *names) add(l *lane) {
	n.all.Set(l)
	n.tree(l.state).Set(l)
}

func (n *names) remove(l *lane) {
	n.all.Delete(l)
	n.tree(l.state).Delete(l)
}

// move gives a lane another state.
func (n *names) move(l *lane, to queue.HostState) {
	n.tree(l.state).Delete(l)
	l.state = to
	n.tree(to).Set(l)
}

func (n *names) tree(state queue.HostState) *btree.BTreeG[*lane] {
	t := n.byState[state]
	if t == nil {
		t = newNameTree()
		n.byState[state] = t
	}
	return t
}

// in returns the lanes of a state.
func (n *names) in(state queue.HostState) []*lane { return n.tree(state).Items() }

// after calls f for the lanes of a state, or all if that is "", whose names come after the one given, until f returns false.
func (n *names) after(state queue.HostState, name string, f func(*lane) bool) {
	t := n.all
	if state != "" {
		t = n.tree(state)
	}
	t.Ascend(&lane{host: name}, func(l *lane) bool { return l.host == name || f(l) })
}

// counts counts the lanes of each state.
func (n *names) counts() map[queue.HostState]int {
	counts := map[queue.HostState]int{}
	for state, t := range n.byState {
		if t.Len() > 0 {
			counts[state] = t.Len()
		}
	}
	return counts
}
