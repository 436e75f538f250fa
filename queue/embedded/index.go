package embedded

import (
	"container/heap"
	"math"
	"math/rand/v2"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// index decides who goes next. It holds a small entry for every pending delivery and no bytes of any; all times are in
// milliseconds since the Unix epoch. It is not safe for concurrent use.
type index struct {
	lanes      map[string]*lane
	byID       map[int64]*lane
	entries    map[int64]*entry // by delivery
	activities map[int64]*activity
	bySeq      map[[16]byte]*activity
	tails      map[chainKey]*entry         // the newest of each ordering key in each lane
	parked     map[string]map[int64]*entry // by key ID: what waits for the key

	due    [classes][queue.Priorities]laneSet // lanes with work due, by class and best priority
	future laneHeap                           // lanes with work due later
	wake   func()                             // called when a lane becomes due earlier than may be known
}

// A lane is in one of two classes, which share a node's slots differently.
const (
	healthy = iota
	suspect
	classes
)

// activity is what deliveries of one pending activity share.
type activity struct {
	seq, first int64
	id         [16]byte
	keyID      string
	ordering   uint64
	priority   queue.Priority
	created    int64
	pending    int
	full       fullActivity
}

type chainKey struct {
	lane     int64
	ordering uint64
}

// entry is a pending delivery. Those of one lane and ordering key are chained in the order accepted; only the head of
// a chain, while it is not taken, is in one of its lane's heaps.
type entry struct {
	id         int64
	act        *activity
	lane       *lane
	due        int64
	prev, next *entry
	pos        int32 // in the heap it is in, -1 in none
	attempts   uint16
	flags      uint8
}

const (
	hostFailed uint8 = 1 << iota // waits because the host failed
	waitsKey                     // waits for its key
	taken
)

const never = math.MaxInt64

func newIndex(wake func()) *index {
	return &index{
		lanes: map[string]*lane{}, byID: map[int64]*lane{}, entries: map[int64]*entry{},
		activities: map[int64]*activity{}, bySeq: map[[16]byte]*activity{},
		tails: map[chainKey]*entry{}, parked: map[string]map[int64]*entry{}, wake: wake,
	}
}

// lane is the queue of one host.
type lane struct {
	id      int64
	host    string
	record  queue.HostRecord
	wait    int64  // nothing is due before
	hidden  int64  // offered or leased until
	token   uint64 // the latest seen
	paused  bool
	blocked bool
	pending int
	taken   []*entry
	ready   [queue.Priorities]entryHeap // heads due, oldest first
	later   entryHeap                   // heads due later, soonest first
	turn    uint8                       // whose turn it is among the priorities
	at      int64                       // when it is due, if in future
	pos     int32                       // in the set or heap it is in, -1 in none
	set     *laneSet                    // the set it is in, nil in none or in future
}

func newLane(id int64, host string) *lane {
	return &lane{id: id, host: host, pos: -1, later: entryHeap{byDue: true}}
}

// add puts a lane in.
func (x *index) add(l *lane) {
	x.lanes[l.host] = l
	x.byID[l.id] = l
}

// addActivity puts an activity in.
func (x *index) addActivity(a *activity) {
	x.activities[a.seq] = a
	x.bySeq[a.id] = a
}

// push appends a delivery to its lane. The caller places the lane.
func (x *index) push(e *entry, now int64) {
	e.pos = -1
	x.entries[e.id] = e
	e.act.pending++
	e.lane.pending++
	key := chainKey{e.lane.id, e.act.ordering}
	if tail := x.tails[key]; tail != nil {
		tail.next, e.prev = e, tail
	}
	x.tails[key] = e
	if e.prev == nil {
		e.lane.offer(e, now)
	}
}

// remove takes a delivery out, wherever it is, and lets the next of its chain move up. The caller places the lane.
func (x *index) remove(e *entry, now int64) {
	l := e.lane
	l.withdraw(e)
	delete(x.entries, e.id)
	x.unpark(e)
	l.pending--
	if e.act.pending--; e.act.pending == 0 {
		delete(x.activities, e.act.seq)
		delete(x.bySeq, e.act.id)
	}
	if e.prev != nil {
		e.prev.next = e.next
	}
	switch key := (chainKey{l.id, e.act.ordering}); {
	case e.next != nil:
		e.next.prev = e.prev
	case e.prev != nil:
		x.tails[key] = e.prev
	default:
		delete(x.tails, key)
	}
	if e.next != nil && e.prev == nil {
		l.offer(e.next, now)
	}
}

// park makes a delivery wait for its key, which unpark ends. It must be in no heap.
func (x *index) park(e *entry) {
	e.flags |= waitsKey
	e.due = never
	m := x.parked[e.act.keyID]
	if m == nil {
		m = map[int64]*entry{}
		x.parked[e.act.keyID] = m
	}
	m[e.id] = e
}

func (x *index) unpark(e *entry) {
	if e.flags&waitsKey == 0 {
		return
	}
	e.flags &^= waitsKey
	delete(x.parked[e.act.keyID], e.id)
	if len(x.parked[e.act.keyID]) == 0 {
		delete(x.parked, e.act.keyID)
	}
}

// reschedule puts a head back with another due time. The caller places the lane.
func (l *lane) reschedule(e *entry, due, now int64) {
	l.withdraw(e)
	e.due = due
	l.offer(e, now)
}

// offer puts a head where Take finds it.
func (l *lane) offer(e *entry, now int64) {
	if e.due <= now {
		heap.Push(&l.ready[e.act.priority], e)
		return
	}
	heap.Push(&l.later, e)
}

// withdraw undoes offer, or takes e from what is taken.
func (l *lane) withdraw(e *entry) {
	if e.flags&taken != 0 {
		e.flags &^= taken
		for i, t := range l.taken {
			if t == e {
				last := len(l.taken) - 1
				l.taken[i], l.taken[last] = l.taken[last], nil
				l.taken = l.taken[:last]
				break
			}
		}
		return
	}
	if e.pos < 0 {
		return
	}
	if h := &l.ready[e.act.priority]; int(e.pos) < len(h.es) && h.es[e.pos] == e {
		heap.Remove(h, int(e.pos))
		return
	}
	heap.Remove(&l.later, int(e.pos))
}

// ripen moves heads whose time has come from later to ready.
func (l *lane) ripen(now int64) {
	for len(l.later.es) > 0 && l.later.es[0].due <= now {
		e := heap.Pop(&l.later).(*entry)
		heap.Push(&l.ready[e.act.priority], e)
	}
}

// untake puts everything taken back as it was.
func (l *lane) untake(now int64) {
	for _, e := range l.taken {
		e.flags &^= taken
		l.offer(e, now)
	}
	clear(l.taken)
	l.taken = l.taken[:0]
}

// shares says whose turn it is: of eight takes five begin at High, two at Normal and one at Low, so that all get on.
var shares = [8]queue.Priority{queue.High, queue.Normal, queue.High, queue.High, queue.Low, queue.High, queue.Normal, queue.High}

// best returns the first priority with something ready.
func (l *lane) best() (queue.Priority, bool) {
	for p := range l.ready {
		if len(l.ready[p].es) > 0 {
			return queue.Priority(p), true
		}
	}
	return 0, false
}

// pop takes the next head out of the heaps: one that is ready or, if the lane is probed, the one due first.
func (l *lane) pop(probe bool) (e *entry, early bool) {
	best, ok := l.best()
	if !ok {
		if !probe || len(l.later.es) == 0 || l.later.es[0].due == never {
			return nil, false
		}
		return heap.Pop(&l.later).(*entry), true
	}
	p := shares[l.turn%uint8(len(shares))]
	l.turn++
	if len(l.ready[p].es) == 0 {
		p = best
	}
	return heap.Pop(&l.ready[p]).(*entry), false
}

// probing tells that the lane gives one delivery only, and that one also before its time.
func (l *lane) probing() bool { return l.record.Breaker.State != breaker.Closed }

// dueAt returns when the lane is due, or never.
func (l *lane) dueAt(now int64) int64 {
	if l.paused || l.blocked {
		return never
	}
	at := int64(never)
	if _, ok := l.best(); ok {
		at = 0
	} else if len(l.later.es) > 0 {
		if at = l.later.es[0].due; at != never && l.probing() {
			at = 0
		}
	}
	if len(l.taken) > 0 {
		at = 0 // to be taken over once the holder has been silent for the time of its lease
	}
	if at == never {
		return never
	}
	if at = max(at, l.wait, l.hidden); at <= now {
		return 0
	}
	return at
}

// place puts a lane where Due finds it, after anything about it changed.
func (x *index) place(l *lane, now int64) {
	x.lift(l)
	l.ripen(now)
	switch at := l.dueAt(now); at {
	case never:
	case 0:
		x.due[l.class()][l.urgency()].add(l)
		x.wake()
	default:
		l.at = at
		heap.Push(&x.future, l)
		if l.pos == 0 {
			x.wake()
		}
	}
}

// urgency is the priority of what a lane that is due has to give.
func (l *lane) urgency() queue.Priority {
	best, ok := l.best()
	switch {
	case ok:
		return best
	case len(l.later.es) > 0:
		return l.later.es[0].act.priority
	}
	return l.taken[0].act.priority
}

// lift takes a lane from where Due finds it.
func (x *index) lift(l *lane) {
	switch {
	case l.pos < 0:
	case l.set != nil:
		l.set.remove(l)
	default:
		heap.Remove(&x.future, int(l.pos))
	}
	l.pos = -1
}

func (l *lane) class() int {
	if l.record.Breaker.Suspect() {
		return suspect
	}
	return healthy
}

// ripen places the lanes whose time has come.
func (x *index) ripen(now int64) {
	for len(x.future) > 0 && x.future[0].at <= now {
		x.place(x.future[0], now)
	}
}

// draw returns a random lane that is due, or nil. Healthy and suspect lanes take turns at random.
func (x *index) draw(suspects bool) *lane {
	class := rand.IntN(classes)
	if !suspects {
		class = healthy
	}
	l := x.drawFrom(class)
	if l == nil && suspects {
		l = x.drawFrom(classes - 1 - class)
	}
	return l
}

// drawFrom returns a random lane of a class: of sixteen draws nine look at lanes with High work first, five at Normal,
// two at Low, so that each gets its share while there is any of it.
func (x *index) drawFrom(class int) *lane {
	first := 0
	switch n := rand.IntN(16); {
	case n >= 14:
		first = int(queue.Low)
	case n >= 9:
		first = int(queue.Normal)
	}
	sets := &x.due[class]
	for i := range sets {
		if set := sets[(first+i)%len(sets)]; len(set.ls) > 0 {
			return set.ls[rand.IntN(len(set.ls))]
		}
	}
	return nil
}
