package embedded

import (
	"cmp"
	"maps"
	"slices"

	"github.com/postrider/postrider/queue"
)

// burial is a delivery that the store itself makes a dead letter, and why.
type burial struct {
	e   *entry
	why queue.Reason
}

// excessive reports whether a lane may hold deliveries to shed.
func (x *index) excessive(l *lane, now int64) bool {
	switch {
	case l.held[blocking] > now:
		return l.pending > 0
	case l.record.Unavailable:
		return l.pending > 1
	}
	return x.laneCap > 0 && l.pending > x.laneCap &&
		(l.fifos[queue.Low].oldest != nil || l.fifos[queue.Normal].oldest != nil)
}

// burials returns at most n deliveries of a lane to shed.
func (x *index) burials(l *lane, n int, now int64) []burial {
	var es []*entry
	why := queue.ReasonHostBlocked
	switch {
	case l.held[blocking] > now:
		es = l.oldestOf(n, func(*entry) bool { return false }, queue.High, queue.Normal, queue.Low)
	case l.record.Unavailable:
		why = queue.ReasonHostUnavailable
		kept := l.probe()
		es = l.oldestOf(n, func(e *entry) bool { return e == kept || e.flags&taken != 0 }, queue.Low, queue.Normal, queue.High)
	case x.laneCap > 0 && l.pending > x.laneCap:
		why = queue.ReasonLaneFull
		es = l.oldestOf(min(n, l.pending-x.laneCap), func(e *entry) bool { return e.flags&taken != 0 }, queue.Low, queue.Normal)
	}
	vs := make([]burial, len(es))
	for i, e := range es {
		vs[i] = burial{e, why}
	}
	return vs
}

// allBurials returns at most n deliveries to shed, of any lanes. A lane without any is not checked again before it changes.
func (x *index) allBurials(n int, now int64) (all []burial) {
	for _, l := range slices.SortedFunc(maps.Keys(x.excess), func(a, b *lane) int { return cmp.Compare(a.id, b.id) }) {
		if len(all) == n {
			break
		}
		vs := x.burials(l, n-len(all), now)
		if len(vs) == 0 {
			delete(x.excess, l)
		}
		all = append(all, vs...)
	}
	return all
}

// buryAll makes dead letters of deliveries. Once it is durable, forgetBuried has to follow.
func (t *tx) buryAll(vs []burial) error {
	for _, v := range vs {
		var err error
		if v.why == queue.ReasonDamaged {
			err = t.buryDamaged(v.e)
		} else {
			err = t.bury(v.e, &queue.Result{Reason: v.why})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetBuried takes out deliveries that buryAll made dead letters.
func (x *index) forgetBuried(vs []burial, now int64) {
	for _, v := range vs {
		switch e := v.e; {
		case x.entries[e.id] != e:
			continue
		case v.why == queue.ReasonHostBlocked || v.why == queue.ReasonDamaged:
			x.remove(e, now)
		default:
			x.drop(e, now)
		}
		x.place(v.e.lane, now)
	}
}
