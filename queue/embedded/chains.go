package embedded

import (
	"github.com/tidwall/btree"

	"github.com/postrider/postrider/queue"
)

// fifo are the deliveries of one priority in a lane, in the order accepted.
type fifo struct {
	oldest, newest *entry
	steps          *btree.BTreeG[*entry] // those that isStep, nil if there was none: from the nearest one seek has a few hundred to go
}

// isStep reports whether a delivery is one of the few that a fifo finds at once: one in 256, at random.
func isStep(e *entry) bool {
	h := uint64(e.id) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h>>56 == 0
}

// insert puts e in its position, searched backwards from near: one that is newer, or nil for the newest of all.
func (f *fifo) insert(e, near *entry) {
	var newer *entry
	older := f.newest
	if near != nil {
		older = near
	}
	for older != nil && older.id > e.id {
		newer, older = older, older.older
	}
	e.older, e.newer = older, newer
	if older != nil {
		older.newer = e
	} else {
		f.oldest = e
	}
	if newer != nil {
		newer.older = e
	} else {
		f.newest = e
	}
	if isStep(e) {
		if f.steps == nil {
			f.steps = btree.NewBTreeGOptions(func(a, b *entry) bool { return a.id < b.id }, btree.Options{NoLocks: true})
		}
		f.steps.Set(e)
	}
}

// seek returns the oldest delivery with this id or a greater one, or nil.
func (f *fifo) seek(id int64) *entry {
	e := f.oldest
	if f.steps != nil {
		f.steps.Descend(&entry{id: id}, func(step *entry) bool {
			e = step
			return false
		})
	}
	for e != nil && e.id < id {
		e = e.newer
	}
	return e
}

func (f *fifo) remove(e *entry) {
	if f.steps != nil && isStep(e) {
		f.steps.Delete(e)
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		f.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		f.newest = e.older
	}
	e.older, e.newer = nil, nil
}

// hints remember where deliveries were put, so that each older one finds its position quickly. Nil is none.
type hints struct {
	chains map[chainKey]*entry
	fifos  map[*fifo]*entry
	uris   map[uint32]*activity
}

func newHints() *hints {
	return &hints{chains: map[chainKey]*entry{}, fifos: map[*fifo]*entry{}, uris: map[uint32]*activity{}}
}

// near returns the last delivery before e that was put in its chain, and in its fifo, and remembers e.
func (h *hints) near(e *entry, f *fifo) (inChain, inFifo *entry) {
	if h == nil {
		return nil, nil
	}
	key := e.chain()
	inChain, inFifo = h.chains[key], h.fifos[f]
	h.chains[key], h.fifos[f] = e, e
	return inChain, inFifo
}

// push puts a delivery to an inbox into its lane, in the order accepted; with hints it must be older than those before. The
// caller places the lane.
func (x *index) push(e *entry, inbox string, h *hints, now int64) {
	e.pos = -1
	e.inbox = x.inboxes.get(inbox)
	x.entries[e.id] = e
	e.act.pending++
	e.lane.begin()
	if e.lane.pending++; e.lane.pending == 1 {
		x.busy[e.lane] = struct{}{}
	}
	x.signing[e.act.keyName]++
	f := &e.lane.fifos[e.act.priority]
	inChain, inFifo := h.near(e, f)
	f.insert(e, inFifo)
	x.chain(e, inChain, now)
}

// chain puts a delivery into its chain: before those accepted later, unless they are taken. It searches backwards from near:
// one that is newer, or nil for the newest of all.
func (x *index) chain(e, near *entry, now int64) {
	var next *entry
	prev := x.tails[e.chain()]
	if near != nil {
		prev = near
	}
	for prev != nil && prev.id > e.id && prev.flags&taken == 0 {
		next, prev = prev, prev.prev
	}
	e.prev, e.next = prev, next
	if next != nil {
		next.prev = e
	} else {
		x.tails[e.chain()] = e
	}
	if prev != nil {
		prev.next = e
		return
	}
	if next != nil {
		e.lane.withdraw(next) // it is no longer the head
	}
	e.lane.offer(e, now)
}

// unchain takes a delivery out of its chain, and lets the next one move up.
func (x *index) unchain(e *entry, now int64) {
	if e.prev != nil {
		e.prev.next = e.next
	}
	switch key := e.chain(); {
	case e.next != nil:
		e.next.prev = e.prev
	case e.prev != nil:
		x.tails[key] = e.prev
	default:
		delete(x.tails, key)
	}
	if e.next != nil && e.prev == nil {
		e.lane.offer(e.next, now)
	}
}

// reschedule gives a delivery another due time and puts it back, if it was taken: behind older ones that were retried
// meanwhile. The caller places the lane.
func (x *index) reschedule(e *entry, due, now int64) {
	e.lane.withdraw(e)
	e.due = due
	switch {
	case e.prev != nil: // it waits for its turn
	case e.next == nil || e.id < e.next.id:
		e.lane.offer(e, now)
	default:
		x.stepBack(e, now)
	}
}

// stepBack puts a head that is in no heap behind those older than it.
func (x *index) stepBack(e *entry, now int64) {
	newer := e.next
	for newer != nil && newer.id < e.id {
		newer = newer.next
	}
	x.unchain(e, now)
	x.chain(e, newer, now)
}

// remove takes a delivery out, wherever it is. The caller places the lane.
func (x *index) remove(e *entry, now int64) {
	if e.flags&gone == 0 {
		x.discount(e)
	} else {
		x.gone--
	}
	e.lane.withdraw(e)
	delete(x.entries, e.id)
	x.endAwait(e)
	x.unchain(e, now)
	x.inboxes.put(e.inbox)
	if e.act.pending--; e.act.pending == 0 {
		x.removeActivity(e.act)
	}
}

// drop takes a delivery out; but if it is taken it stays in its chain until that ends, so that nothing overtakes it. The caller
// places the lane.
func (x *index) drop(e *entry, now int64) {
	if e.flags&taken == 0 {
		x.remove(e, now)
		return
	}
	x.discount(e)
	e.flags |= gone
	x.gone++
}

// discount stops counting a delivery as pending.
func (x *index) discount(e *entry) {
	e.lane.fifos[e.act.priority].remove(e)
	if e.lane.pending--; e.lane.pending == 0 {
		delete(x.busy, e.lane)
	}
	key := e.act.keyName
	if x.signing[key]--; x.signing[key] > 0 {
		return
	}
	delete(x.signing, key)
	if _, there := x.retiring[key]; there {
		x.expiryAt(0)
	}
}

// pending counts what is pending.
func (x *index) pending() int { return len(x.entries) - x.gone }

// untake puts everything taken back.
func (x *index) untake(l *lane, now int64) {
	if len(l.taken) == 0 {
		return // all lanes without work share one backlog, so nothing may be written to it
	}
	back := l.taken
	l.taken = nil
	for _, e := range back {
		e.flags &^= taken
		if e.flags&gone != 0 {
			x.remove(e, now)
			continue
		}
		x.reschedule(e, e.due, now)
	}
}

// oldest returns the oldest pending delivery of a lane, or nil.
func (l *lane) oldest() (oldest *entry) {
	for p := range l.fifos {
		if e := l.fifos[p].oldest; e != nil && (oldest == nil || e.id < oldest.id) {
			oldest = e
		}
	}
	return oldest
}

// pendingFrom returns at most n pending deliveries of a lane, in the order accepted, from an id on.
func (l *lane) pendingFrom(id int64, n int) (es []*entry) {
	var next [queue.Priorities]*entry
	for p := range next {
		next[p] = l.fifos[p].seek(id)
	}
	for len(es) < n {
		var oldest *entry
		var from int
		for p, e := range next {
			if e != nil && (oldest == nil || e.id < oldest.id) {
				oldest, from = e, p
			}
		}
		if oldest == nil {
			break
		}
		es = append(es, oldest)
		next[from] = oldest.newer
	}
	return es
}

// probe returns the delivery that is kept for the next probe of an unavailable host: the newest, of those that don't wait for a
// key if there are any.
func (l *lane) probe() (newest *entry) {
	better := func(e *entry) bool {
		if newest == nil {
			return true
		}
		if waits := e.flags & waitsKey; waits != newest.flags&waitsKey {
			return waits == 0
		}
		return e.id > newest.id
	}
	for p := range l.fifos {
		for e := l.fifos[p].newest; e != nil; e = e.older {
			if better(e) {
				newest = e
			}
			if e.flags&waitsKey == 0 {
				break
			}
		}
	}
	return newest
}

// oldestOf returns at most n pending deliveries of a lane that are not spared, priority by priority, oldest first.
func (l *lane) oldestOf(n int, spare func(*entry) bool, priorities ...queue.Priority) (es []*entry) {
	for _, p := range priorities {
		for e := l.fifos[p].oldest; e != nil && len(es) < n; e = e.newer {
			if !spare(e) {
				es = append(es, e)
			}
		}
	}
	return es
}
