package simulation

import (
	"context"
	"path/filepath"
	"runtime"
	"time"

	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
)

// watch compares the store with the model, every day.
func (w *world) watch() {
	for day := 1; w.wait(time.Duration(day)*24*time.Hour - 37*time.Minute - 7_919*time.Nanosecond); day++ {
		w.check.compare()
	}
}

// compare compares the store's hosts and totals with the model.
func (c *checker) compare() {
	c.mu.Lock()
	defer c.mu.Unlock()
	inner := c.w.store().Queue
	for _, h := range c.w.list {
		st, err := inner.Host(c.w.life, h.name)
		if err != nil {
			return // the store fails
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
	cancelled := c.cancels()
	if ended := int(s.Delivered+died) + cancelled - c.revivals; s.Pending+ended != c.accepted {
		c.wrong("%d accepted, but %d pending, %d delivered, %d died, %d cancelled and %d retried",
			c.accepted, s.Pending, s.Delivered, died, cancelled, c.revivals)
	}
	c.compareFeed()
	c.figures.goroutines = max(c.figures.goroutines, runtime.NumGoroutine())
	c.figures.backlog = max(c.figures.backlog, s.Pending)
}

// cancels returns how many deliveries were cancelled. Of those that a tombstone may have ended only the store knows.
func (c *checker) cancels() (n int) {
	for _, p := range c.posts {
		if p.id == "" || p.role != queue.Makes || len(c.tombstones[p.object]) == 0 {
			n += p.cancels
		} else if a, err := c.w.store().Queue.Activity(context.WithoutCancel(c.w.life), p.id); err == nil {
			n += a.Counts.Cancelled
		}
	}
	return n
}

// finish checks the end of all accepted deliveries.
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
	c.checkBodies()
	c.finishFeed()
	c.figures.steps = c.steps
}

// checkBodies checks that the store keeps each body of dead letters once, and no other.
func (c *checker) checkBodies() {
	want := map[string]bool{}
	for _, p := range c.posts {
		if p.id != "" && len(c.w.deliveries(p.id, "")) > 0 {
			want[p.body] = true
		}
	}
	conn, err := embedded.Connect(filepath.Join(c.w.dir, "store", "postrider.db"))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	kept, err := sqlitex.ResultInt(conn.Prep("SELECT count(*) FROM bodies"))
	if err != nil {
		panic(err)
	}
	if kept != len(want) {
		c.wrong("%d bodies are kept, must be %d", kept, len(want))
	}
}

// mixedDelay is how long a delivery may take to an inbox that is well on a host with one that fails: the breaker may be
// open, and the first probes may go to that one. If nothing else was posted for days, the host may even be unavailable.
const mixedDelay = 24 * time.Hour

// deadRequests is the maximum of requests to a host that is dead for 30 days, for any number of posts.
const deadRequests = 220

func (c *checker) finishPost(p *post) {
	a, err := c.w.store().Queue.Activity(context.WithoutCancel(c.w.life), p.id)
	if err != nil {
		c.wrong("%s: is not known any more: %v", p.name, err)
		return
	}
	n := a.Counts
	if n.Total != p.accepted || n.Total != n.Pending+n.Delivered+n.Dead+n.Cancelled || n.Pending != 0 {
		c.wrong("%s: %d accepted, but at the end %+v", p.name, p.accepted, n)
	}
	dead := map[string]*queue.DeliveryStatus{}
	for _, d := range c.w.deliveries(p.id, queue.StateDead) {
		dead[d.Inbox] = &d
	}
	missing, arrived := 0, 0
	for _, r := range p.to {
		q := c.pairs[p.name+" "+r.Inbox]
		if q.ended == stateDelivered {
			arrived++
		}
		switch d := dead[r.Inbox]; {
		case q.ended == "refused", q.ended == "duplicate":
			if q.attempts > 0 {
				c.wrong("%s: %s, and yet attempted", q, q.ended)
			}
		case d != nil:
			c.checkDeath(q, d.Reason, d.Attempts)
		case q.deleted:
		case q.received == 0 && q.known:
			missing++
			if !p.cancelled {
				c.figures.superseded++
			}
			if !c.mayVanish(q) {
				c.wrong("%s: never arrived", q)
			}
		}
		c.checkDelay(q)
	}
	if arrived != n.Delivered {
		c.wrong("%s: %d were delivered, but counted are %+v", p.name, arrived, n)
	}
	if missing > n.Cancelled {
		c.wrong("%s: %d deliveries are lost: %+v", p.name, missing-n.Cancelled, n)
	}
}

// checkDeath checks whether a dead letter's reason is true.
func (c *checker) checkDeath(q *pair, why queue.Reason, attempts int) {
	ok := false
	switch why {
	case queue.ReasonRejected, queue.ReasonGone:
		ok = q.last == final
	case queue.ReasonExhausted:
		ok = attempts >= c.attempts(q.post) && q.attempts >= attempts
	case queue.ReasonExpired:
		ok = !q.served() || overlap(q.host.holds, q.accepted, q.expires) > 0 ||
			overlap(q.host.spans, q.accepted, q.expires) > 0 // then it waits for the probe of a day
	case queue.ReasonHostUnavailable:
		ok = len(q.host.spans) > 0
	case queue.ReasonHostBlocked:
		ok = !q.host.blockedAt.Before(q.accepted)
	}
	if !ok || attempts != q.spent {
		c.wrong("%s: died as %s after %d attempts (must be %d), last answer %d", q, why, attempts, q.spent, q.last)
	}
}

// served reports whether a delivery goes to an inbox that is always well, of a host that is but for other inboxes.
func (p *pair) served() bool {
	return (p.host.kind == healthy || p.host.kind == mixed) && p.host.isAt(p.inbox, 0) == well
}

// checkDelay checks how long a delivery took to an inbox that is always well.
func (c *checker) checkDelay(q *pair) {
	if !q.served() || q.received == 0 || !q.known || !q.revived.IsZero() {
		return
	}
	took := q.arrived.Sub(q.accepted)
	most := slack
	switch {
	case q.host.kind == mixed:
		most = mixedDelay + overlap(q.host.spans, q.accepted, q.arrived)
	case q.first:
		most = 15 * time.Minute // it may share half of the slots with dead hosts
	}
	if took > most+c.delayed(q.accepted, q.arrived)+overlap(q.host.holds, q.accepted, q.arrived) {
		c.wrong("%s: took %s, though its host is well", q, took)
	}
}
