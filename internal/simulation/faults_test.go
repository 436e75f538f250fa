package simulation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/queue"
)

// methods are the methods of the store that may fail.
var methods = []string{
	"Enqueue", "Due", "Take", "Settle", "Sweep", "Key", "Act", "Cancel", "RetryDead", "DeleteDead", "DeadLetters", "Feed",
	"FeedPosition", "SetFeedPosition",
}

// moments draws the times of events, mostly while there is work.
func (w *world) moments(r *rand.Rand, n int) (ats []time.Duration) {
	for range n {
		at := between(r, 0, w.end)
		if len(w.plan) > 0 && r.IntN(4) > 0 {
			at = min(w.end, w.plan[r.IntN(len(w.plan))].at+between(r, 0, 20*time.Second))
		}
		ats = append(ats, at)
	}
	return byTime(ats)
}

// anybody stands for all nodes, jumper for the wall clock; neither is the number of a node.
const (
	anybody = -1
	jumper  = -2
)

// busy waits for an hour at most until a node, or any node, sends something, so that a fault hits it at work.
func (w *world) busy(node int, r *rand.Rand) {
	c := w.check
	c.mu.Lock()
	busy := make(chan struct{})
	c.busy[node] = busy
	c.mu.Unlock()
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	select {
	case <-t.C:
	case <-busy:
	}
	time.Sleep(between(r, 0, 300*time.Millisecond))
}

// strike wakes those that wait for a node to be busy. c.mu is held.
func (c *checker) strike(node int) {
	for _, who := range []int{node, anybody, jumper} {
		if busy := c.busy[who]; busy != nil {
			close(busy)
			delete(c.busy, who)
		}
	}
}

// trouble kills a node, stops it for a while, or restarts it.
func (w *world) trouble(i int) {
	r := dice(w.seed, "trouble", fmt.Sprint(i))
	for _, at := range w.moments(r, 2+r.IntN(5)) {
		if at < w.since() {
			continue
		}
		if !w.wait(at) {
			return
		}
		w.busy(i, r)
		w.mu.Lock()
		n := w.nodes[i]
		w.mu.Unlock()
		switch r.IntN(5) {
		case 0, 1:
			w.kill(n, pick(r, between(r, time.Second, time.Minute), between(r, time.Minute, time.Hour)))
		case 2, 3:
			d := pick(r, between(r, time.Second, time.Minute), between(r, time.Minute, 3*w.lease))
			n.note(d+w.lease, d+w.lease)
			n.stall(d)
			time.Sleep(d)
		case 4:
			down := between(r, time.Millisecond, 10*time.Minute)
			n.note(time.Hour, time.Minute+down)
			w.halt(i)
			time.Sleep(down)
			w.boot(i)
		}
	}
}

func (w *world) kill(n *node, down time.Duration) {
	n.note(1000*24*time.Hour, down+w.lease)
	n.kill()
	w.mutation.death(w, n)
	w.mu.Lock()
	w.nodes[n.id] = nil
	w.mu.Unlock()
	time.Sleep(down)
	w.boot(n.id)
}

// note records a fault that begins now: how long attempts of the node may fail, and others may be late.
func (n *node) note(wrong, late time.Duration) {
	c := n.w.check
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.note("fault", n.id, wrong, late)
	n.faults = append(n.faults, span{now, now.Add(wrong)})
	c.delays = append(c.delays, span{now, now.Add(late + 10*time.Second)})
}

// stormy makes the stores fail from time to time.
func (w *world) stormy() {
	r := dice(w.seed, "storm")
	for i, at := range w.moments(r, 2+r.IntN(6)) {
		if at < w.since() {
			continue
		}
		if !w.wait(at) {
			return
		}
		w.busy(anybody, r)
		d := pick(r, between(r, time.Second, 20*time.Second), between(r, 20*time.Second, 15*time.Minute))
		w.check.outage(d + w.lease)
		switch r.IntN(7) {
		case 0, 1:
			w.fault(d, func(m string) { w.store().Fail(m, errAway) })
		case 2:
			w.fault(d, func(m string) { w.store().Lose(m, errAway) })
		case 3:
			w.fault(d, func(m string) { w.store().Delay(m, d/3) })
		case 4:
			w.restart(i+1, d)
		case 5:
			w.leases.fail(true)
			time.Sleep(d)
			w.leases.fail(false)
		case 6:
			w.store().Fail("Key", errAway)
			time.Sleep(d)
			w.store().Clear()
		}
	}
}

// wall is the wall clock, which jumps.
func (w *world) wall() time.Time { return time.Now().Add(time.Duration(w.jumped.Load())) }

// oldest returns since when the oldest delivery of a host pends, by a clock that does not jump.
func (w *world) oldest(st *queue.HostStatus) time.Time {
	return st.OldestPendingAt.Add(-time.Duration(w.jumped.Load()))
}

// jumps lets the wall clock jump from time to time, also while the store is closed.
func (w *world) jumps() {
	r := dice(w.seed, "jumps")
	for _, at := range w.moments(r, r.IntN(4)) {
		if at < w.since() {
			continue
		}
		if !w.wait(at) {
			return
		}
		w.busy(jumper, r)
		by := pick(r, between(r, time.Minute, 3*time.Hour), between(r, time.Hour, 100*time.Hour))
		if r.IntN(2) == 0 {
			by = -by
		}
		w.jump(by)
	}
}

// jump makes the wall clock jump. An open store has noticed it when this returns.
func (w *world) jump(by time.Duration) {
	c := w.check
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note("jump", by)
	w.jumped.Add(int64(by))
	_, err := w.store().Queue.PutKey(w.life, queue.Key{ID: "https://app.example/unused", Sealed: []byte("sealed")})
	if err != nil && !errors.Is(err, queue.ErrClosed) {
		panic(err)
	}
}

// fault makes all methods or some fail for a while.
func (w *world) fault(d time.Duration, how func(method string)) {
	for _, m := range methods {
		how(m)
	}
	time.Sleep(d)
	w.store().Clear()
}

// restart closes the store and opens it again.
func (w *world) restart(times int, d time.Duration) {
	old := w.store()
	for _, m := range methods {
		old.Fail(m, errAway)
	}
	time.Sleep(time.Second)
	if err := old.Close(); err != nil {
		panic(err)
	}
	time.Sleep(d)
	w.open(times)
}

func (c *checker) outage(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note("outage", d)
	now := time.Now()
	c.w.outages = append(c.w.outages, span{now, now.Add(d)})
	c.delays = append(c.delays, span{now, now.Add(d + 10*time.Second)})
}

// delayed returns how much of a time there were faults. c.mu is held.
func (c *checker) delayed(from, to time.Time) time.Duration { return overlap(c.delays, from, to) }

// reportSeen reports to the store that a host was seen.
func (w *world) reportSeen(h *host) {
	r := dice(w.seed, "heard", h.name)
	for at := h.seenEvery; w.wait(at); at = w.since() + between(r, h.seenEvery/2, 2*h.seenEvery) {
		_, _ = w.store().Act(w.life, h.name, queue.Seen, queue.Order{})
	}
}

// recoveries expects that hosts that have recovered are served soon.
func (w *world) recoveries(h *host) {
	life := time.Duration(w.days) * 24 * time.Hour
	for i, p := range h.phases {
		if i == 0 || p.is != well || h.phases[i-1].is == well {
			continue
		}
		if !w.wait(p.from) {
			return
		}
		w.recovered(h, life)
	}
}

func (w *world) recovered(h *host, life time.Duration) {
	c := w.check
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !h.probed() || h.lastsUntil(w.since(), life) > w.end {
		return
	}
	within := 66*time.Minute + slack
	if h.unavailable {
		within = 25*time.Hour + slack
	}
	w.expect(h, later(now.Add(within), h.wait.Add(slack)), "it recovered")
}

// expect expects that a host is served by a time, if it stays well and has work. c.mu is held.
func (w *world) expect(h *host, by time.Time, why string) {
	now := time.Now()
	if w.start.Add(h.lastsUntil(w.since(), 1000*24*time.Hour)).Before(by) {
		return
	}
	w.drives.Go(func() {
		if !w.wait(w.at(by)) {
			return
		}
		w.check.mu.Lock()
		extra := w.check.delayed(now, by)
		w.check.mu.Unlock()
		if extra > 0 && !w.wait(w.since()+extra) {
			return
		}
		w.check.served(h, now, by, why)
	})
}

// served checks whether a host was.
func (c *checker) served(h *host, since, by time.Time, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.lastAlive.After(since) {
		c.figures.recoveries = append(c.figures.recoveries, h.lastAlive.Sub(since))
		return
	}
	st, err := c.w.store().Queue.Host(c.w.life, h.name)
	if err != nil || st.Pending == 0 || later(c.w.oldest(&st), h.revived).After(by.Add(-slack)) {
		return // the store fails, or there is nothing to do
	}
	if overlap(h.holds, since.Add(-slack), by) > 0 {
		return
	}
	c.wrong("%s: not served by %s though %s at %s; %d pending", h.name, c.w.at(by), why, c.w.at(since), st.Pending)
}
