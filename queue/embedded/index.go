package embedded

import (
	"container/heap"
	"math"
	"math/rand/v2"

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
	byURI      map[uint32]*activity        // the newest with each hash
	tails      map[chainKey]*entry         // the newest of each ordering key in each lane
	parked     map[string]map[int64]*entry // by key ID: what waits for the key
	inboxes    inboxes
	names      names
	excess     map[*lane]struct{} // lanes of which Sweep may have something to give up
	gone       int                // how many entries are
	laneCap    int                // how many deliveries may be pending in a lane, 0 is any number

	due    [classes][queue.Priorities]laneSet // lanes with work due, by class and best priority
	future laneHeap                           // lanes with work due later
	wake   func()                             // called when a lane becomes due earlier than may be known
	turned func(*lane)                        // called when a lane's state is another than before
	random func(n int) int                    // a random number in [0,n)
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
	uri        uint32    // its hash
	namesake   *activity // an older one with that hash
	ordering   uint32    // a hash, too
	priority   queue.Priority
	role       queue.Role
	pending    int32
	created    int64
	full       fullActivity
}

// chainKey is small, because there may be as many as there are deliveries.
type chainKey struct{ lane, ordering uint32 }

// chain returns the key of what a lane holds of an ordering key.
func (l *lane) chain(ordering uint32) chainKey {
	return chainKey{uint32(l.id), ordering} //nolint:gosec // there are never so many lanes
}

// entry is a pending delivery. Those of one lane and ordering key are chained in the order accepted; only the head of
// a chain, while it is not taken, is in one of its lane's heaps.
type entry struct {
	id           int64
	act          *activity
	lane         *lane
	inbox        *inbox
	due          int64
	prev, next   *entry // in its chain
	older, newer *entry // in its fifo
	pos          int32  // in the heap it is in, -1 in none
	attempts     uint16
	flags        uint8
}

// chain tells which chain a delivery is in.
func (e *entry) chain() chainKey { return e.lane.chain(e.act.ordering) }

// waitsForHost tells that a delivery waits because the host failed.
func (e *entry) waitsForHost() bool { return e.flags&hostFailed != 0 && e.flags&waitsKey == 0 }

const (
	hostFailed uint8 = 1 << iota // waits because the host failed
	waitsKey                     // waits for its key
	taken
	gone   // ended while it is taken: leaves when that is over
	tried  // was attempted, whether or not that spent an attempt
	headed // has headers of its own, which are read when it is taken

	lasting = hostFailed | tried | headed // what of an entry's flags is in the database, beside waitsKey
)

const never = math.MaxInt64

func newIndex() *index {
	return &index{
		lanes: map[string]*lane{}, byID: map[int64]*lane{}, entries: map[int64]*entry{},
		activities: map[int64]*activity{}, bySeq: map[[16]byte]*activity{}, byURI: map[uint32]*activity{},
		tails: map[chainKey]*entry{}, parked: map[string]map[int64]*entry{},
		inboxes: inboxes{}, names: newNames(), excess: map[*lane]struct{}{}, random: rand.IntN,
	}
}

// add puts a lane in.
func (x *index) add(l *lane) {
	x.lanes[l.host] = l
	x.byID[l.id] = l
	x.names.add(l)
}

// addActivity puts an activity in.
func (x *index) addActivity(a *activity) {
	x.activities[a.seq] = a
	x.bySeq[a.id] = a
	a.namesake, x.byURI[a.uri] = x.byURI[a.uri], a
}

// removeActivity takes an activity out.
func (x *index) removeActivity(a *activity) {
	delete(x.activities, a.seq)
	delete(x.bySeq, a.id)
	newest := x.byURI[a.uri]
	switch {
	case newest != a:
		for newest.namesake != a {
			newest = newest.namesake
		}
		newest.namesake = a.namesake
	case a.namesake != nil:
		x.byURI[a.uri] = a.namesake
	default:
		delete(x.byURI, a.uri)
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

// place puts a lane where Due finds it, after anything about it changed.
func (x *index) place(l *lane, now int64) {
	x.lift(l)
	l.ripen(now)
	x.judge(l)
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

// judge brings up to date what follows from how a lane is now.
func (x *index) judge(l *lane) {
	if state := l.judge(); state != l.state {
		x.names.move(l, state)
		x.turned(l)
	}
	if x.excessive(l) {
		x.excess[l] = struct{}{}
	} else {
		delete(x.excess, l)
	}
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

// ripen places the lanes whose time has come.
func (x *index) ripen(now int64) {
	for len(x.future) > 0 && x.future[0].at <= now {
		x.place(x.future[0], now)
	}
}

// draw returns a random lane that is due, or nil. Healthy and suspect lanes take turns at random.
func (x *index) draw(suspects bool) *lane {
	class := x.random(classes)
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
	switch n := x.random(16); {
	case n >= 14:
		first = int(queue.Low)
	case n >= 9:
		first = int(queue.Normal)
	}
	sets := &x.due[class]
	for i := range sets {
		if set := sets[(first+i)%len(sets)]; len(set.ls) > 0 {
			return set.ls[x.random(len(set.ls))]
		}
	}
	return nil
}
