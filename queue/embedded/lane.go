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
	state   queue.HostState // as judged last
	wait    int64           // nothing is due before
	since   int64           // from when SeenPause counts
	quick   int             // probes hastened by Seen since the last success
	hidden  int64           // offered or leased until
	token   uint64          // the latest seen
	paused  bool
	blocked bool
	pending int
	fifos   [queue.Priorities]fifo // what is pending
	taken   []*entry
	ready   [queue.Priorities]entryHeap // heads due, oldest first
	later   entryHeap                   // heads due later, soonest first
	turn    uint8                       // whose turn it is among the priorities
	at      int64                       // when it is due, if in future
	pos     int32                       // in the set or heap it is in, -1 in none
	set     *laneSet                    // the set it is in, nil in none or in future
}

func newLane(id int64, host string) *lane {
	return &lane{id: id, host: host, state: queue.HostHealthy, pos: -1, later: entryHeap{byDue: true}}
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

// pop takes the next head out of the heaps: one that is ready, which of a lane that is probed is the best, or else, if it
// is probed, the one due first.
func (l *lane) pop(probe bool) (e *entry, early bool) {
	best, ok := l.best()
	if !ok {
		if !probe || len(l.later.es) == 0 || l.later.es[0].due == never {
			return nil, false
		}
		return heap.Pop(&l.later).(*entry), true
	}
	p := best
	if !probe {
		if turn := shares[l.turn%uint8(len(shares))]; len(l.ready[turn].es) > 0 {
			p = turn
		}
		l.turn++
	}
	return heap.Pop(&l.ready[p]).(*entry), false
}

// probing tells that the lane gives one delivery only, and that one also before its time.
func (l *lane) probing() bool { return l.record.Probed() }

// silent tells that the host gets nothing now, or a probe at the most.
func (l *lane) silent(now int64) bool { return l.paused || l.wait > now || l.probing() }

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

// judge returns the state of a lane.
func (l *lane) judge() queue.HostState {
	switch {
	case l.blocked:
		return queue.HostBlocked
	case l.paused:
		return queue.HostPaused
	case l.record.Unavailable:
		return queue.HostUnavailable
	case l.record.Breaker.State != breaker.Closed:
		return queue.HostOpen
	case l.record.Breaker.Failed:
		return queue.HostFailing
	}
	return queue.HostHealthy
}
