package embedded

import (
	"math"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"

	"github.com/postrider/postrider/queue"
)

// index decides which delivery is next. It holds a small entry for every pending delivery, without its contents; all times are
// in milliseconds since the Unix epoch. It is not safe for concurrent use.
type index struct {
	lanes      map[string]*lane
	byID       map[int64]*lane
	entries    map[int64]*entry // by delivery
	activities map[int64]*activity
	bySeq      map[[16]byte]*activity
	byURI      map[uint32]*activity // the newest with each hash
	tails      map[chainKey]*entry  // the newest of each chain
	tombstones tombstones
	awaiting   map[string]map[int64]*entry // by the key's name: deliveries that wait for the key
	signing    map[string]int              // by the key's name: how many deliveries wait to be signed by it
	retiring   map[string]struct{}         // names of keys to be removed when idle
	inboxes    inboxes
	names      names
	busy       map[*lane]struct{} // lanes with pending deliveries
	unused     idleLanes
	answers    [queue.AnswerKinds]int // hosts that ever answered, by how they did so last
	orders     *orders
	excess     map[*lane]struct{} // lanes in which Sweep may have something to shed
	gone       int                // how many entries are gone
	keys       *keyring
	sweepAt    int64 // when Sweep may find something, in ms
	throttled  int64 // when the wait of the first throttled host ends, or before
	laneCap    int   // how many deliveries may be pending in a lane, 0 is any number

	due     [classes][queue.Priorities]laneSet // lanes with work due, by class and best priority
	waiting *laneTree                          // the healthy ones of these, by since when they are due
	future  *laneTree                          // lanes with work due later, by when that is
	wake    signal                             // called when a lane becomes due earlier than may be known
	changed func(*lane)                        // called when a host changed state
	random  func(n int) int                    // a random number in [0,n)
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
	keyName    string
	body       int64  // the id of its body, which equal activities share
	makes      uint64 // the hash of the object that it makes, 0 if there is none
	uri        uint32 // its hash
	ordering   uint32 // a hash, too
	priority   queue.Priority
	pending    int32
	created    int64
	full       fullActivity
	damaged    bool // as its row was when it was loaded: nothing of it is sent

	older, newer *activity // with the same hash of the URI
}

// chainKey is small, because there may be as many as there are deliveries.
type chainKey struct{ inbox, ordering uint32 }

// entry is a pending delivery. Those to one inbox with one ordering key are chained in the order accepted; only the head of
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

// chain returns the key of a delivery's chain.
func (e *entry) chain() chainKey { return chainKey{e.inbox.id, e.act.ordering} }

// waitsForHost reports whether a delivery waits because the host failed.
func (e *entry) waitsForHost() bool { return e.flags&hostFailed != 0 && e.flags&waitsKey == 0 }

const (
	hostFailed uint8 = queue.FlagHostFailed
	waitsKey   uint8 = queue.FlagWaitsKey
	taken      uint8 = queue.FlagTaken
	gone       uint8 = queue.FlagGone
	tried      uint8 = queue.FlagTried
	headed     uint8 = queue.FlagHeaded // they are read when it is taken

	lasting = hostFailed | tried | headed // what of an entry's flags is in the database, beside waitsKey
)

const never = math.MaxInt64

func newIndex(keys *keyring) *index {
	return &index{
		lanes: map[string]*lane{}, byID: map[int64]*lane{}, entries: map[int64]*entry{},
		activities: map[int64]*activity{}, bySeq: map[[16]byte]*activity{}, byURI: map[uint32]*activity{},
		tails: map[chainKey]*entry{}, awaiting: map[string]map[int64]*entry{},
		signing: map[string]int{}, retiring: map[string]struct{}{},
		tombstones: newTombstones(), inboxes: inboxes{byURL: map[string]*inbox{}}, names: names{}, excess: map[*lane]struct{}{}, busy: map[*lane]struct{}{},
		orders:    newOrders(),
		unused:    idleLanes{newLaneTree(func(l *lane) int64 { return l.idle })},
		future:    newLaneTree(func(l *lane) int64 { return l.at }),
		waiting:   newLaneTree(func(l *lane) int64 { return l.dueSince }),
		throttled: never, keys: keys, random: rand.IntN,
	}
}

// add puts a lane in.
func (x *index) add(l *lane) {
	x.lanes[l.host] = l
	x.byID[l.id] = l
	l.held = x.orders.ends(l.host)
	x.names.add(l)
}

// lane returns the lane with an id, and puts it in if it is not there: its row is new, or its host was forgotten.
func (x *index) lane(id int64, host string) *lane {
	if x.byID[id] == nil {
		x.add(newLane(id, host))
	}
	return x.byID[id]
}

// expiryAt notes that something may expire at a time, so that a sweep runs by then.
func (x *index) expiryAt(ms int64) { x.sweepAt = min(x.sweepAt, ms) }

// addActivity puts an activity in, in order among those with the same hash of the URI. It searches backwards from near: one that
// is newer, or nil for the newest of all.
func (x *index) addActivity(a, near *activity) {
	x.activities[a.seq] = a
	x.bySeq[a.id] = a
	var newer *activity
	older := x.byURI[a.uri]
	if near != nil {
		older = near
	}
	for older != nil && older.seq > a.seq {
		newer, older = older, older.older
	}
	a.older, a.newer = older, newer
	if older != nil {
		older.newer = a
	}
	if newer != nil {
		newer.older = a
	} else {
		x.byURI[a.uri] = a
	}
}

// removeActivity takes an activity out.
func (x *index) removeActivity(a *activity) {
	delete(x.activities, a.seq)
	delete(x.bySeq, a.id)
	if a.older != nil {
		a.older.newer = a.newer
	}
	switch {
	case a.newer != nil:
		a.newer.older = a.older
	case a.older != nil:
		x.byURI[a.uri] = a.older
	default:
		delete(x.byURI, a.uri)
	}
	a.older, a.newer = nil, nil
}

// awaitKey makes a delivery wait for its key, which endAwait ends. It must be in no heap.
func (x *index) awaitKey(e *entry) {
	e.flags |= waitsKey
	e.due = never
	m := x.awaiting[e.act.keyName]
	if m == nil {
		m = map[int64]*entry{}
		x.awaiting[e.act.keyName] = m
	}
	m[e.id] = e
}

func (x *index) endAwait(e *entry) {
	if e.flags&waitsKey == 0 {
		return
	}
	e.flags &^= waitsKey
	delete(x.awaiting[e.act.keyName], e.id)
	if len(x.awaiting[e.act.keyName]) == 0 {
		delete(x.awaiting, e.act.keyName)
	}
}

// place puts a lane where Due finds it, after a change.
func (x *index) place(l *lane, now int64) {
	since := now
	if l.at != 0 && l.at < now {
		since = l.at
	}
	x.lift(l)
	l.end()
	l.ripen(now)
	x.reclassify(l, now)
	x.unused.note(l, now)
	at := l.dueAt(now)
	x.noteWaiting(l, at == 0, since)
	switch at {
	case never:
	case 0:
		x.due[l.class()][l.urgency()].add(l)
		x.wake.send()
	default:
		l.at = at
		x.future.Set(l)
		if first, _ := x.future.Min(); first == l {
			x.wake.send()
		}
	}
}

// noteWaiting notes since when a lane is due, if it is due and healthy. One that goes on waiting keeps its time.
func (x *index) noteWaiting(l *lane, due bool, since int64) {
	switch waits := due && l.class() == healthy; {
	case !waits && l.dueSince != 0:
		x.waiting.Delete(l)
		l.dueSince = 0
	case waits && l.dueSince == 0:
		l.dueSince = since
		x.waiting.Set(l)
	}
}

// waitingSince returns since when the lane is due that waits the longest, 0 if none does.
func (x *index) waitingSince() int64 {
	first, found := x.waiting.Min()
	if !found {
		return 0
	}
	return first.dueSince
}

// reclassify updates what follows from the state of a lane.
func (x *index) reclassify(l *lane, now int64) {
	x.classify(l, now)
	if x.excessive(l, now) {
		x.excess[l] = struct{}{}
	} else {
		delete(x.excess, l)
	}
}

// lift takes a lane from where Due finds it.
func (x *index) lift(l *lane) {
	switch {
	case l.set != nil:
		l.set.remove(l)
	case l.at != 0:
		x.future.Delete(l)
		l.at = 0
	}
}

// ripen places the lanes that have become due.
func (x *index) ripen(now int64) {
	for first, found := x.future.Min(); found && first.at <= now; first, found = x.future.Min() {
		x.place(first, now)
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

// drawFrom returns a random lane of a class. It begins with a priority drawn by queue.DueShares, so that each priority gets its
// share while there is work of it.
func (x *index) drawFrom(class int) *lane {
	first := int(queue.DueShares[x.random(len(queue.DueShares))])
	sets := &x.due[class]
	for i := range sets {
		if set := sets[(first+i)%len(sets)]; len(set.ls) > 0 {
			return set.ls[x.random(len(set.ls))]
		}
	}
	return nil
}

// hashOf shortens an ordering key or a URI. If two ordering keys share a hash, deliveries of one may wait for the other; if two
// URIs do, more rows are read.
func hashOf(text string) uint32 {
	return uint32(xxhash.Sum64String(text)) // half of it is enough
}
