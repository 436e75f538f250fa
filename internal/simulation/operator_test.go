package simulation

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/queue"
)

// operate draws what operators and the app do by hand, mostly while there is work: to hosts, to dead letters and to
// activities. What a pause or a block began ends again.
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
		_, err := w.store().Act(w.life, h.name, a)
		return err
	})
}

// hold stops a host, and lets it go on some time later.
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

// letters retries or deletes dead letters of a host that has some: all, those of a reason, or one.
func (w *world) letters(r *rand.Rand) {
	all, err := w.store().DeadLetters(w.life, queue.DeadLetterFilter{}, queue.Page{Limit: 500})
	if err != nil || len(all.Items) == 0 {
		return
	}
	l := all.Items[r.IntN(len(all.Items))]
	if w.check.blockedLately(l.Host) {
		return // what was in flight as it died may have to end first
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

// latest returns the host that something was sent to last.
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

// recent returns one of the activities accepted last, or one that nobody knows.
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

// acted notes and judges what was done to a host.
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
	due := a == queue.Probe || a == queue.Resume && len(h.holds) > 0 && h.waits() < now.Sub(h.since) &&
		(h.probed() || st.OldestPendingAt.After(h.heldSince()))
	h.holdUp(now)
	if due && !h.held() && st.Pending > 0 && st.InFlight == 0 {
		c.expectRequest(h, string(a))
	}
}

// waits returns how long its wait lasts at the most: that is drawn at random, too.
func (m *model) waits() time.Duration { return max(0, m.wait.Sub(m.since)) * 3 / 2 }

// expectRequest wants a host that has work to be asked soon. c.mu is held.
func (c *checker) expectRequest(h *host, why string) {
	since := time.Now()
	by := since.Add(15*time.Minute + slack) // it may have to share half of the slots with those that are dead
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
		if err == nil && st.Pending > 0 && st.OldestPendingAt.Before(since) && !h.revived.After(since) {
			c.wrong("%s: asked nothing by %s though it was told to %s at %s; %d pending", h.name, c.w.at(by), why, c.w.at(since), st.Pending)
		}
	})
}

// cancelled notes what a cancellation ended, and judges it.
func (c *checker) cancelled(before, after queue.ActivityStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.byPost(after.ID)
	n := after.Counts.Cancelled - before.Counts.Cancelled
	c.note("cancelled", p.body, n)
	c.ended += n
	if p.cancelled = true; n != before.Counts.Pending || after.Counts.Pending != 0 {
		c.wrong("%s: of %d pending %d were cancelled, and %d are pending", p.body, before.Counts.Pending, n, after.Counts.Pending)
	}
	for _, r := range p.to {
		q := c.pairs[p.body+" "+r.Inbox]
		if q.ended != "" {
			continue
		}
		if c.pending(q) {
			c.wrong("%s: pending though it was cancelled", q)
		}
		q.void = time.Now()
	}
}

func (c *checker) byPost(id string) *post {
	for _, p := range c.posts {
		if p.id == id {
			return p
		}
	}
	return nil
}

// changed notes and judges what became of the dead letters that there were before a call: which are pending again, or gone.
func (c *checker) changed(before []queue.DeadLetter, retried bool, lasts time.Duration, n queue.DeadLetterCount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := map[string]bool{}
	for _, l := range c.w.deadLetters() {
		left[l.ID] = true
	}
	done := 0
	for _, l := range before {
		if left[l.ID] {
			continue
		}
		done++
		p := c.pairs[c.byPost(l.ActivityID).body+" "+l.Inbox]
		c.judgeDeath(p, l.Reason, l.Attempts)
		if p.ended, p.deleted = queue.StateDead, !retried; retried {
			c.revived(p, lasts)
		}
	}
	c.note("letters", retried, done)
	if done != n.Done {
		c.wrong("%d dead letters are gone, but it was said to be %d (retried %t)", done, n.Done, retried)
	}
	if retried {
		c.ended -= done
	}
}

// revived notes that a dead letter is pending again, in its old place.
func (c *checker) revived(p *pair, lasts time.Duration) {
	now := time.Now()
	p.ended, p.spent, p.void = "", 0, time.Time{}
	p.expires, p.revived, p.host.revived = now.Add(lasts), now, now
	c.line(p)
	if p.host.blocked || p.host.unavailable {
		c.wrong("%s: pending again, though its host takes nothing", p)
	}
	if !c.pending(p) {
		c.wrong("%s: not pending though it was retried", p)
	}
}

// deadLetters lists all that the store has.
func (w *world) deadLetters() (all []queue.DeadLetter) {
	for page := (queue.Page{Limit: 500}); ; {
		l, err := w.store().Queue.DeadLetters(context.WithoutCancel(w.life), queue.DeadLetterFilter{}, page)
		if errors.Is(err, queue.ErrClosed) {
			return nil
		} else if err != nil {
			panic(err)
		}
		all = append(all, l.Items...)
		if page.Cursor = l.Next; page.Cursor == "" {
			return all
		}
	}
}
