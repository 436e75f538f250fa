package embedded

import (
	"container/heap"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// lane is the queue of one host.
type lane struct {
	id      int64
	host    string
	record  queue.HostRecord
	state   queue.HostState  // as of the last place
	told    turned           // as the feed has it
	wait    int64            // nothing is due before
	since   int64            // from when SeenPause counts
	quick   int              // probes hastened by Seen since the last success
	hidden  int64            // offered or leased until
	token   uint64           // the latest seen
	held    orderEnds        // by orders, as index.orders has them
	answer  queue.AnswerKind // as counted last
	pending int
	*backlog
	turn uint8    // the next of queue.TakeShares
	at   int64    // when it is due, if in index.future, else 0
	idle int64    // since when it may be forgotten, 0 if it may not
	pos  int32    // in set
	set  *laneSet // the set it is in, nil in none

	dueSince int64 // if it is in index.waiting, else 0
}

// backlog is the part of a lane that exists only while something is pending or taken: most known hosts have nothing.
type backlog struct {
	fifos [queue.Priorities]fifo // what is pending
	taken []*entry
	ready [queue.Priorities]entryHeap // heads due, oldest first
	later entryHeap                   // heads due later, soonest first
}

// noBacklog is shared by all lanes without work. Nothing is put in.
var noBacklog = &backlog{}

func newLane(id int64, host string) *lane {
	return &lane{id: id, host: host, state: queue.HostHealthy, told: turned{state: queue.HostHealthy}, backlog: noBacklog}
}

// begin allocates the backlog.
func (l *lane) begin() {
	if l.backlog == noBacklog {
		l.backlog = &backlog{later: entryHeap{byDue: true}}
	}
}

// end releases the backlog if there is no work left.
func (l *lane) end() {
	if l.pending == 0 && len(l.taken) == 0 {
		l.backlog = noBacklog
	}
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

// ripen moves heads that have become due from later to ready.
func (l *lane) ripen(now int64) {
	for len(l.later.es) > 0 && l.later.es[0].due <= now {
		e := heap.Pop(&l.later).(*entry)
		heap.Push(&l.ready[e.act.priority], e)
	}
}

// best returns the first priority with something ready.
func (l *lane) best() (queue.Priority, bool) {
	for p := range l.ready {
		if len(l.ready[p].es) > 0 {
			return queue.Priority(p), true
		}
	}
	return 0, false
}

// pop takes the next head out of the heaps: one that is ready, or else, if the lane is probed, the one due first.
func (l *lane) pop(probe bool, random func(n int) int) (e *entry, early bool) {
	best, ok := l.best()
	if !ok {
		if !probe || len(l.later.es) == 0 || l.later.es[0].due == never {
			return nil, false
		}
		return heap.Pop(&l.later).(*entry), true
	}
	if probe {
		return l.draw(random), false
	}
	p := best
	if turn := queue.TakeShares[l.turn%uint8(len(queue.TakeShares))]; len(l.ready[turn].es) > 0 {
		p = turn
	}
	l.turn++
	return heap.Pop(&l.ready[p]).(*entry), false
}

// draw takes a random ready head out of the heaps, for a probe: it draws the priority (the best, if the host is unavailable),
// then the delivery, so that one inbox that fails does not decide for its host.
func (l *lane) draw(random func(n int) int) *entry {
	var due []*entryHeap
	for p := range l.ready {
		if h := &l.ready[p]; h.Len() > 0 {
			due = append(due, h)
		}
	}
	h := due[0]
	if !l.record.Unavailable {
		h = due[random(len(due))]
	}
	return heap.Remove(h, random(h.Len())).(*entry)
}

// probing reports whether the lane gives only one delivery, which need not be due.
func (l *lane) probing() bool { return l.record.Probed() }

// dueAt returns when the lane is due, or never.
func (l *lane) dueAt(now int64) int64 {
	if l.held[blocking] > now || l.held[pausing] == never {
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
	if at = max(at, l.wait, l.hidden, l.held[pausing]); at <= now {
		return 0
	}
	return at
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

func (l *lane) class() int {
	if l.record.Breaker.Suspect() {
		return suspect
	}
	return healthy
}

// stateAt returns the state of a lane.
func (l *lane) stateAt(now int64) queue.HostState {
	switch {
	case l.held[blocking] > now:
		return queue.HostBlocked
	case l.held[pausing] > now:
		return queue.HostPaused
	case l.record.Unavailable:
		return queue.HostUnavailable
	case l.record.Breaker.State != breaker.Closed:
		return queue.HostOpen
	case l.record.Breaker.Failed:
		return queue.HostFailing
	case l.record.Refusing():
		return queue.HostRefusing
	case l.record.Throttled() && l.wait > now:
		return queue.HostThrottled
	}
	return queue.HostHealthy
}
