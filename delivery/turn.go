package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

const (
	takeAtOnce = 16              // deliveries taken from a lane at once
	turnSize   = 64              // deliveries after which a turn makes room, if others wait
	turnTime   = 2 * time.Second // time after which it does
)

// turn is one leased pass over a lane. One goroutine runs it; attempts have goroutines of their own and report to it.
type turn struct {
	pool    *Pool
	held    *lockmgr.Held
	host    queue.HostRecord
	breaker *breaker.Breaker
	waiting []queue.Delivery // taken, not begun
	more    bool             // there is more to take
	done    chan attempt

	slots      int  // held
	suspect    bool // the class they count in
	inFlight   int
	begun      int
	until      time.Time
	stop       bool // begin nothing more
	recovered  bool // told the queue so
	toldOpened bool // told the log so
}

func (p *Pool) newTurn(h *lockmgr.Held, qt queue.Turn) *turn {
	return &turn{
		pool: p, held: h, host: qt.Host, breaker: p.Breaker.Restore(qt.Host.Breaker),
		waiting: qt.Deliveries, more: qt.More, done: make(chan attempt, p.Breaker.Window),
		slots: 1, suspect: qt.Host.Breaker.Suspect(), until: time.Now().Add(turnTime),
	}
}

// run works until the lane has nothing more to give, the breaker opened, the turn is over, the lease was lost, or ctx
// ended; then it waits for the attempts in flight and lets go.
func (t *turn) run(ctx context.Context) {
	released := false
	for {
		t.begin(ctx)
		if t.inFlight == 0 {
			break
		}
		results := t.collect()
		last := t.inFlight == 0 && (len(t.waiting) == 0 && !t.more || t.over(ctx))
		released = t.settle(results, last)
		t.shrink()
		if !last {
			t.refill(ctx)
		}
	}
	if !released {
		t.settle(nil, true)
	}
	// An error here only means that the lease has to lapse.
	if err := t.pool.Leases.Release(ctx, t.held); err != nil {
		t.pool.Log.Warn("lease.release_failed", "host", t.held.Host, "error", err)
	}
	suspects := 0
	if t.suspect {
		suspects = t.slots
	}
	t.pool.slots.release(t.slots, suspects)
}

// over tells that nothing more is to begin in this turn.
func (t *turn) over(ctx context.Context) bool {
	if t.stop || ctx.Err() != nil || t.held.Context().Err() != nil || t.breaker.Limit() == 0 {
		return true
	}
	spent := t.begun >= turnSize || !time.Now().Before(t.until)
	return spent && t.pool.slots.wanted(t.suspect)
}

// begin begins as many attempts as the breaker, the window and the slots allow.
func (t *turn) begin(ctx context.Context) {
	for len(t.waiting) > 0 && !t.over(ctx) {
		if t.inFlight == t.slots {
			if !t.pool.slots.grow(t.suspect) {
				return
			}
			t.slots++
		}
		permit, ok := t.breaker.Allow()
		if !ok {
			return
		}
		d := t.waiting[0]
		t.waiting = t.waiting[1:]
		t.begun++
		t.inFlight++
		go t.attempt(d, permit) // waited for by collect: run does not end before
	}
}

// collect waits for one attempt to end and returns it with all others that have ended.
func (t *turn) collect() []attempt {
	results := []attempt{<-t.done}
	for len(t.done) > 0 {
		results = append(results, <-t.done)
	}
	t.inFlight -= len(results)
	return results
}

// shrink gives back slots that the turn can't use now.
func (t *turn) shrink() {
	keep := max(1, t.inFlight, min(t.breaker.Limit(), t.inFlight+len(t.waiting)))
	if n := t.slots - keep; n > 0 {
		suspects := 0
		if t.suspect {
			suspects = n
		}
		t.slots = keep
		t.pool.slots.release(n, suspects)
	}
}

// refill takes more from the lane when the turn runs short.
func (t *turn) refill(ctx context.Context) {
	if len(t.waiting) > 0 || !t.more || t.over(ctx) {
		return
	}
	turns, err := t.pool.Queue.Take(ctx, []lockmgr.Lease{t.held.Lease}, takeAtOnce)
	if err != nil || len(turns) == 0 {
		t.stop = true // the scheduler finds out about the store
		return
	}
	t.waiting, t.more = turns[0].Deliveries, turns[0].More
}

// settle writes back results and what was learnt of the host, and tells whether the lane was let go with it.
func (t *turn) settle(results []attempt, release bool) bool {
	s := queue.Settlement{Release: release}
	for i := range results {
		s.Results = append(s.Results, t.result(&results[i], &s))
	}
	if len(results) > 0 {
		t.learn(&s)
	}
	if !t.write(s) {
		t.stop = true
		return true // nothing is ours any more
	}
	for i := range results {
		t.pool.report(&results[i], s.Results[i])
	}
	if suspect := t.host.Breaker.Suspect(); suspect != t.suspect {
		t.suspect = suspect
		if !t.pool.slots.reclass(t.slots, suspect) {
			t.stop = true // the suspects' half is full: let the lane wait for a place
		}
	}
	return release
}

// learn brings the host's record up to date, and parks or wakes the lane as the breaker says.
func (t *turn) learn(s *queue.Settlement) {
	t.host.Breaker = t.breaker.Record()
	if coolOff, opened := t.breaker.Opened(); opened {
		s.Wait = max(s.Wait, coolOff)
		if !t.toldOpened {
			t.toldOpened = true
			t.pool.Metrics.breakers.WithLabelValues("opened").Inc()
			t.pool.Log.Warn("host.breaker_opened", "host", t.held.Host, "failures", t.host.Breaker.Failures,
				"trips", t.host.Breaker.Trips, "cool_off", coolOff.String(), "error", lastError(t.host.LastError))
		}
	}
	if t.breaker.Recovered() && !t.recovered {
		t.recovered = true
		s.Recovered = true
		t.pool.Metrics.breakers.WithLabelValues("closed").Inc()
		t.pool.Log.Info("host.recovered", "host", t.held.Host)
	}
	record := t.host
	s.Host = &record
}

func lastError(l *queue.LastAttempt) string {
	if l == nil {
		return ""
	}
	return l.Error
}

// write settles until it is durable or the lane is not ours any more. It tells which.
func (t *turn) write(s queue.Settlement) bool {
	pause := firstPause
	for {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.held.Context()), maxPause)
		err := t.pool.Queue.Settle(ctx, t.held.Lease, s)
		cancel()
		switch {
		case err == nil:
			return true
		case errors.Is(err, queue.ErrNotHeld), errors.Is(err, queue.ErrClosed):
			t.pool.Log.Warn("turn.lost", "host", t.held.Host, "results", len(s.Results), "error", err)
			return false
		}
		t.pool.setErr(err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-t.held.Context().Done():
			timer.Stop()
			t.pool.Log.Warn("turn.lost", "host", t.held.Host, "results", len(s.Results), "error", err)
			return false
		case <-t.pool.work.Done():
			timer.Stop()
			t.pool.Log.Warn("turn.lost", "host", t.held.Host, "results", len(s.Results), "error", err)
			return false
		}
		pause = min(2*pause, maxPause)
	}
}
