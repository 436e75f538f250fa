package simulation

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/queue"
)

// operate draws the actions of operators and of the app on hosts, dead letters and activities, mostly while there is
// work. Pauses and blocks end again.
func (w *world) operate(later func(func())) {
	r := dice(w.seed, "operator")
	for _, at := range w.moments(r, 8+r.IntN(12)) {
		if !w.wait(max(at, w.since()+time.Duration(r.Int64N(int64(time.Second))))) {
			return
		}
		h := w.list[r.IntN(len(w.list))]
		if r.IntN(2) == 0 {
			w.busy(anybody, r)
			h = w.check.latest()
		}
		switch n := r.IntN(20); {
		case n < 4:
			w.hold(r, h, queue.Pause, queue.Resume, later)
		case n < 6:
			w.hold(r, h, queue.Block, queue.Unblock, later)
		case n < 8:
			w.act(r, h, queue.Reset)
		case n < 11:
			w.act(r, w.check.troubled(r, h), queue.Probe)
		case n < 12:
			w.act(r, h, queue.Seen)
		case n < 16:
			w.letters(r)
		default:
			w.cancel(r)
		}
	}
}

// insist makes a call until it succeeds.
func (w *world) insist(r *rand.Rand, call func() error) {
	for w.life.Err() == nil {
		if err := call(); err == nil || errors.Is(err, queue.ErrNotFound) {
			return
		}
		time.Sleep(between(r, time.Second, 10*time.Second))
	}
}

func (w *world) act(r *rand.Rand, h *host, a queue.HostAction) {
	w.insist(r, func() error {
		_, err := w.store().Act(w.life, h.name, a, queue.Order{})
		return err
	})
}

// hold stops a host, and resumes it some time later.
func (w *world) hold(r *rand.Rand, h *host, stop, goOn queue.HostAction, later func(func())) {
	w.act(r, h, stop)
	until := w.since() + pick(r, between(r, time.Second, time.Hour), between(r, time.Hour, 40*time.Hour))
	r = rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	later(func() {
		if w.wait(until) {
			w.act(r, h, goOn)
		}
	})
}

// letters retries or deletes dead letters of a host that has any: all, those of a reason, or one.
func (w *world) letters(r *rand.Rand) {
	all, err := w.store().DeadLetters(w.life, queue.DeadLetterFilter{}, queue.Page{Limit: 500})
	if err != nil || len(all.Items) == 0 {
		return
	}
	l := all.Items[r.IntN(len(all.Items))]
	if w.check.blockedLately(l.Host) {
		return // its attempts in flight may have to end first
	}
	which := pick(r,
		queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: l.Host}},
		queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: l.Host, Reason: l.Reason}},
		queue.DeadLetterChoice{IDs: []string{l.ID}})
	lasts, retry := pick(r, ttl, 24*time.Hour), r.IntN(4) > 0
	w.insist(r, func() (err error) {
		if retry {
			_, err = w.store().RetryDead(w.life, which, lasts)
		} else {
			_, err = w.store().DeleteDead(w.life, which)
		}
		return err
	})
}

// cancel cancels one of the latest activities.
func (w *world) cancel(r *rand.Rand) {
	id := w.check.recent(r)
	w.insist(r, func() error {
		_, err := w.store().Cancel(w.life, id)
		return err
	})
}

// latest returns the host of the latest request.
func (c *checker) latest() *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.w.list[0]
	for _, h := range c.w.list {
		if h.sentTo.After(last.sentTo) {
			last = h
		}
	}
	return last
}

// troubled returns a host that is to be probed, or another if there is none.
func (c *checker) troubled(r *rand.Rand, other *host) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	var hs []*host
	for _, h := range c.w.list {
		if h.probed() {
			hs = append(hs, h)
		}
	}
	return pick(r, append(hs, other)...)
}

func (c *checker) blockedLately(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.hosts[name].blockedAt) < time.Hour
}

// recent returns one of the latest activities, or an unknown one.
func (c *checker) recent(r *rand.Rand) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := r.IntN(3)
	for i := len(c.posts) - 1; i >= 0; i-- {
		if c.posts[i].id == "" {
			continue
		}
		if n--; n < 0 {
			return c.posts[i].id
		}
	}
	return "unknown"
}

// acted records and checks what was done to a host.
func (c *checker) acted(name string, a queue.HostAction, st queue.HostStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, now := c.hosts[name], time.Now()
	c.note("act", name, string(a), st.Pending)
	switch a {
	case queue.Pause, queue.Resume:
		h.paused = a == queue.Pause
		for p := range h.hand {
			p.stuck = p.stuck || h.paused
		}
	case queue.Block, queue.Unblock:
		if h.blocked = a == queue.Block; h.blocked {
			h.blockedAt = now
		}
		if h.blocked && st.Pending > 0 {
			c.wrong("%s: %d pend though it was blocked", name, st.Pending)
		}
	case queue.Reset:
		h.reset(now)
		h.epoch = st.Record.Epoch
		h.meddled += 60
	case queue.Probe:
		h.wait, h.asked = time.Time{}, time.Time{}
		h.meddled++
	}
	// Of what came in a pause nothing has a time of its own to wait for.
	due := a == queue.Probe || a == queue.Resume && len(h.holds) > 0 && h.throttles <= 2 && h.waits() < now.Sub(h.since) &&
		(h.probed() || c.w.oldest(&st).After(h.heldSince()))
	h.holdUp(now)
	if due && !h.held() && st.Pending > 0 && st.InFlight == 0 {
		c.expectRequest(h, string(a))
	}
}

// waits returns the maximum of its wait, which is partly random.
func (m *model) waits() time.Duration { return max(0, m.wait.Sub(m.since)) * 3 / 2 }

// expectRequest expects a request soon to a host with work. c.mu is held.
func (c *checker) expectRequest(h *host, why string) {
	since := time.Now()
	by := since.Add(15*time.Minute + slack) // it may share half of the slots with dead hosts
	c.w.drives.Go(func() {
		if !c.w.wait(c.w.at(by)) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if h.sentTo.After(since) || overlap(h.holds, since, by) > 0 || overlap(c.delays, since.Add(-c.w.lease), by) > 0 {
			return
		}
		st, err := c.w.store().Queue.Host(c.w.life, h.name)
		if err == nil && st.Pending > 0 && c.w.oldest(&st).Before(since) && !h.revived.After(since) {
			c.wrong("%s: asked nothing by %s though it was asked to %s at %s; %d pending", h.name, c.w.at(by), why, c.w.at(since), st.Pending)
		}
	})
}

// cancelled records and checks the result of a cancellation.
func (c *checker) cancelled(before, after queue.ActivityStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.byPost(after.ID)
	n := after.Counts.Cancelled - before.Counts.Cancelled
	c.note("cancelled", p.name, n)
	c.feed.ending[p] = true
	p.cancels += n
	if p.cancelled = true; n != before.Counts.Pending || after.Counts.Pending != 0 {
		c.wrong("%s: of %d pending %d were cancelled, and %d are pending", p.name, before.Counts.Pending, n, after.Counts.Pending)
	}
	for _, r := range p.to {
		q := c.pairs[p.name+" "+r.Inbox]
		if q.ended != "" {
			continue
		}
		if c.pending(q) {
			c.wrong("%s: pending though it was cancelled", q)
		}
		q.void = time.Now()
	}
}

// byPost returns the post that the store knows by an ID, or nil.
func (c *checker) byPost(id string) *post {
	for _, p := range c.posts {
		if p.id == id {
			return p
		}
	}
	return nil
}
