package embedded

import "github.com/postrider/postrider/queue"

// health counts hosts by how they last answered.
type health struct {
	answers        [queue.AnswerKinds]int // hosts that ever answered, by how they did so last
	throttledUntil int64                  // when the wait of the first throttled host ends, or before
}

func newHealth() health { return health{throttledUntil: never} }

// classify updates the state under which a host is listed, and how its last answer is counted.
func (x *index) classify(l *lane, now int64) {
	if state := l.stateAt(now); state != l.state {
		x.names.move(l, state)
		x.changed(l)
	}
	if l.state == queue.HostThrottled {
		x.health.throttledUntil = min(x.health.throttledUntil, l.wait)
	}
	if kind := l.record.AnswerKind(); kind != l.answer {
		x.health.count(l.answer, -1)
		x.health.count(kind, 1)
		l.answer = kind
	}
}

func (h *health) count(kind queue.AnswerKind, n int) {
	if kind != queue.AnsweredNever {
		h.answers[kind] += n
	}
}

// endThrottles updates throttled hosts whose wait is over. It costs nothing before the first wait ends.
func (x *index) endThrottles(now int64) {
	if now < x.health.throttledUntil {
		return
	}
	x.health.throttledUntil = never
	for _, l := range x.names.in(queue.HostThrottled) {
		x.classify(l, now)
	}
}
