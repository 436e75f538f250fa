package embedded

import "github.com/postrider/postrider/queue"

// classify updates the state under which a host is listed, and how its last answer is counted.
func (x *index) classify(l *lane, now int64) {
	if state := l.stateAt(now); state != l.state {
		x.names.move(l, state)
		x.changed(l)
	}
	if l.state == queue.HostThrottled {
		x.throttled = min(x.throttled, l.wait)
	}
	kind := l.record.AnswerKind()
	x.answers[l.answer]--
	x.answers[kind]++
	x.answers[queue.AnsweredNever] = 0
	l.answer = kind
}

// endThrottles updates throttled hosts whose wait is over. It costs nothing before the first wait ends.
func (x *index) endThrottles(now int64) {
	if now < x.throttled {
		return
	}
	x.throttled = never
	for _, l := range x.names.in(queue.HostThrottled).Items() {
		x.classify(l, now)
	}
}
