package simulation

import (
	"context"
	"runtime"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// watch compares what the store says with what must be so, every day.
func (w *world) watch() {
	for day := 1; w.wait(time.Duration(day)*24*time.Hour - 37*time.Minute - 7_919*time.Nanosecond); day++ {
		w.check.compare()
	}
}

// compare holds what the store knows of every host, and its totals, against the account.
func (c *checker) compare() {
	c.mu.Lock()
	defer c.mu.Unlock()
	inner := c.w.store().Queue
	for _, h := range c.w.list {
		st, err := inner.Host(c.w.life, h.name)
		if err != nil {
			return // the store is away
		}
		b := st.Record.Breaker
		if b.Failures != h.failures || b.Trips != h.trips || (b.State != breaker.Closed) != h.open ||
			b.FailureDays() != min(len(h.days), c.rules.unavailableDays) || st.Record.Unavailable != h.unavailable {
			c.wrong("%s: its record is %+v, unavailable %t; it must have failed %d times on %d days and opened %d times (open %t, unavailable %t)",
				h.name, b, st.Record.Unavailable, h.failures, len(h.days), h.trips, h.open, h.unavailable)
		}
	}
	s, err := inner.Stats(c.w.life)
	if err != nil {
		return
	}
	var died int64
	for _, n := range s.Died {
		died += n
	}
	if ended := int(s.Delivered+died) + c.ended; s.Pending+ended != c.accepted {
		c.wrong("%d accepted, but %d pending, %d delivered, %d dead and %d ended otherwise", c.accepted, s.Pending, s.Delivered, died, c.ended)
	}
	c.figures.goroutines = max(c.figures.goroutines, runtime.NumGoroutine())
	c.figures.backlog = max(c.figures.backlog, s.Pending)
}

// finish holds all that was accepted against what became of it.
func (w *world) finish() {
	c := w.check
	c.compare()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.posts {
		if p.id != "" {
			c.finishPost(p)
		}
	}
	for _, h := range w.list {
		if h.kind == dead && h.requests > deadRequests+h.meddled {
			c.wrong("%s was dead all the time, but got %d requests", h.name, h.requests)
		}
		if h.kind == dead {
			c.figures.dead = append(c.figures.dead, h.requests)
		}
	}
	c.figures.steps = c.steps
}

// deadRequests is how many requests a host may get that is dead for 30 days, whatever is posted to it.
const deadRequests = 220

func (c *checker) finishPost(p *post) {
	a, err := c.w.store().Queue.Activity(context.WithoutCancel(c.w.life), p.id)
	if err != nil {
		c.wrong("%s: is not known any more: %v", p.body, err)
		return
	}
	n := a.Counts
	if n.Total != p.accepted || n.Total != n.Pending+n.Delivered+n.Dead+n.Cancelled || n.Pending != 0 {
		c.wrong("%s: %d accepted, but at the end %+v", p.body, p.accepted, n)
	}
	dead := map[string]*queue.DeliveryStatus{}
	for _, d := range c.w.deliveries(p.id, queue.StateDead) {
		dead[d.Inbox] = &d
	}
	missing, arrived := 0, 0
	for _, r := range p.to {
		q := c.pairs[p.body+" "+r.Inbox]
		if q.ended == stateDelivered {
			arrived++
		}
		switch d := dead[r.Inbox]; {
		case q.ended == "refused":
			if q.attempts > 0 {
				c.wrong("%s: refused, and yet attempted", q)
			}
		case d != nil:
			c.judgeDeath(q, d.Reason, d.Attempts)
		case q.deleted:
		case q.received == 0 && q.known:
			missing++
			if q.host.kind == healthy && p.role != queue.Makes && !p.cancelled {
				c.wrong("%s: never arrived", q)
			}
		}
		c.judgeDelay(q)
	}
	if arrived != n.Delivered {
		c.wrong("%s: %d were delivered, but counted are %+v", p.body, arrived, n)
	}
	if missing > n.Cancelled {
		c.wrong("%s: %d deliveries are lost: %+v", p.body, missing-n.Cancelled, n)
	}
}

// judgeDeath judges whether a dead letter's reason is true.
func (c *checker) judgeDeath(q *pair, why queue.Reason, attempts int) {
	ok := false
	switch why {
	case queue.ReasonRejected, queue.ReasonGone:
		ok = q.last == final
	case queue.ReasonExhausted:
		ok = attempts >= c.attempts(q.post) && q.attempts >= attempts
	case queue.ReasonExpired:
		ok = q.host.kind != healthy || overlap(q.host.holds, q.accepted, q.expires) > 0
	case queue.ReasonHostUnavailable:
		ok = len(q.host.spans) > 0
	case queue.ReasonHostBlocked:
		ok = !q.host.blockedAt.Before(q.accepted)
	}
	if !ok || attempts != q.spent {
		c.wrong("%s: died as %s after %d attempts (must be %d), last answer %d", q, why, attempts, q.spent, q.last)
	}
}

// judgeDelay judges how long a delivery took to a host that is always well.
func (c *checker) judgeDelay(q *pair) {
	if q.host.kind != healthy || q.received == 0 || !q.known || !q.revived.IsZero() {
		return
	}
	took := q.arrived.Sub(q.accepted)
	most := slack
	if q.first {
		most = 15 * time.Minute // it has to share half of the slots with those that are dead
	}
	if took > most+c.delayed(q.accepted, q.arrived)+overlap(q.host.holds, q.accepted, q.arrived) {
		c.wrong("%s: took %s, though its host is well", q, took)
	}
}
