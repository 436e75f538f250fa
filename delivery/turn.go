package delivery

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

const (
	turnSize = 64              // deliveries after which a turn makes room, if others wait
	turnTime = 2 * time.Second // time after which it does

	firstLook = 100 * time.Millisecond // how long to wait before looking for more work, at first
	lastLook  = 2 * time.Second        // and in the end

	aliveAnew = time.Second // after which it is written again that a host answers

	probeDaily = 24 * time.Hour // how often a host that was given up is probed
)

// turn is one leased pass over a lane. One goroutine runs it; attempts have goroutines of their own and report to it.
type turn struct {
	pool    *Pool
	held    *lockmgr.Held
	host    queue.HostRecord
	known   queue.HostRecord // to the store
	breaker *breaker.Breaker
	hand
	done chan attempt

	slots      int  // held
	suspect    bool // the class they count in
	inFlight   int
	begun      int
	until      time.Time
	patience   time.Duration // see look
	parked     time.Time     // until when the lane waits
	asked      time.Time     // until when the host asked to be left alone
	stop       bool          // begin nothing more
	gone       bool          // the lane is not ours any more: we let go of it
	recovered  bool          // told the queue so
	toldOpened bool          // told the log so
}

func (p *Pool) newTurn(h *lockmgr.Held, qt queue.Turn, stops uint64) *turn {
	began := time.Now()
	settings := p.Breaker
	settings.Now = func() time.Time { return qt.Now.Add(time.Since(began)) }
	return &turn{
		pool: p, held: h, host: qt.Host, known: qt.Host, breaker: settings.Restore(qt.Host.Breaker),
		hand:  hand{waiting: qt.Deliveries, taken: began, stops: stops, more: qt.More},
		done:  make(chan attempt, p.Breaker.Window),
		slots: 1, suspect: qt.Host.Breaker.Suspect(), until: began.Add(turnTime),
	}
}

// run works until the lane has nothing more to give, the breaker opened, the turn is over, the lease was lost, or ctx
// ended; then it waits for the attempts in flight and lets go.
func (t *turn) run(ctx context.Context) {
	for {
		t.begin(ctx)
		if t.inFlight == 0 {
			break
		}
		if results := t.collect(t.look(ctx)); len(results) > 0 || t.stale() {
			t.settle(ctx, results)
			if t.gone {
				break
			}
		} else {
			t.more = true // there may be, by now
		}
		t.refill(ctx)
		t.shrink()
	}
	t.letGo(ctx)
	t.pool.slots.release(t.slots, t.suspects(t.slots))
}

// letGo ends the turn where the last results did not. What fails here only means that the lease has to lapse.
func (t *turn) letGo(ctx context.Context) {
	if t.gone {
		t.pool.Leases.Forget(t.held)
		return
	}
	settled := t.try(queue.Settlement{Release: true})
	if settled == nil {
		t.pool.Leases.Forget(t.held)
		return
	}
	if !errors.Is(settled, queue.ErrNotHeld) {
		t.pool.outage.note(settled)
	}
	if err := t.pool.Leases.Release(ctx, t.held); err != nil {
		t.pool.outage.note(err)
	}
}

// suspects returns how many of n slots count as suspects'.
func (t *turn) suspects(n int) int {
	if t.suspect {
		return n
	}
	return 0
}

// ended tells that nothing more is to begin in this turn.
func (t *turn) ended(ctx context.Context) bool {
	return t.stop || ctx.Err() != nil || t.held.Context().Err() != nil || t.breaker.Limit() == 0
}

// over tells that nothing more is to begin now: the turn has ended, or it had its share and others wait for slots.
func (t *turn) over(ctx context.Context) bool {
	spent := t.begun >= turnSize || !time.Now().Before(t.until)
	return t.ended(ctx) || spent && t.pool.slots.wanted(t.suspect)
}

// last tells that nothing more comes of this turn: what ended it is written together with the last results.
func (t *turn) last(ctx context.Context) bool {
	return t.inFlight == 0 && (t.over(ctx) || len(t.waiting) == 0 && !t.more)
}

// begin begins as many attempts as the breaker, the window and the slots allow.
func (t *turn) begin(ctx context.Context) {
	for len(t.waiting) > 0 && !t.stale() && !t.over(ctx) {
		permit, ok := t.breaker.Allow()
		if !ok {
			return
		}
		if t.inFlight == t.slots {
			if !t.pool.slots.grow(t.suspect) {
				permit.Done(breaker.Abandoned)
				return
			}
			t.slots++
		}
		d := t.waiting[0]
		t.waiting = t.waiting[1:]
		t.begun++
		t.inFlight++
		go t.attempt(d, permit, signer.Scheme(t.host.Scheme)) // collect waits for it: run does not end before
	}
}

// look returns how long to wait for an attempt to end before looking for work that came in meanwhile, or for slots that
// were taken when it was to begin: a slow attempt must not hold back what the window has room for. It returns 0 if there
// is no room.
func (t *turn) look(ctx context.Context) time.Duration {
	if t.inFlight >= t.breaker.Limit() || t.ended(ctx) {
		return 0
	}
	t.patience = min(max(2*t.patience, firstLook), lastLook)
	return t.patience
}

// collect waits for one attempt to end and returns it with all others that have ended, or none if that takes longer than
// most, unless that is 0.
func (t *turn) collect(most time.Duration) []attempt {
	var late <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		late = timer.C
	}
	var results []attempt
	select {
	case a := <-t.done:
		results = append(results, a)
	case <-late:
		return nil
	}
	for len(t.done) > 0 {
		results = append(results, <-t.done)
	}
	t.inFlight -= len(results)
	t.patience = 0
	return results
}

// shrink gives back slots that the turn can't use now.
func (t *turn) shrink() {
	keep := max(1, t.inFlight, min(t.breaker.Limit(), t.inFlight+len(t.waiting)))
	if n := t.slots - keep; n > 0 {
		t.slots = keep
		t.pool.slots.release(n, t.suspects(n))
	}
}

// settle writes back results, what has been in hand for too long, and what was learnt of the host, and lets go of the
// lane if these are the last.
func (t *turn) settle(ctx context.Context, results []attempt) {
	var s queue.Settlement
	for i := range results {
		s.Results = append(s.Results, t.result(&results[i], &s))
	}
	t.learn(&s)
	s.Results = append(s.Results, t.putBack()...)
	s.Release = t.last(ctx)
	if !t.write(s) {
		t.stop = true
		return
	}
	t.gone = s.Release
	if s.Host != nil {
		t.known = *s.Host
	}
	for i := range results {
		t.pool.report(&results[i], s.Results[i])
		t.tell(&results[i], s.Results[i])
	}
	if suspect := t.host.Breaker.Suspect(); suspect != t.suspect {
		t.suspect = suspect
		if !t.pool.slots.reclass(t.slots, suspect) {
			t.stop = true // the suspects' half is full: let the lane wait for a place
		}
	}
}

// learn brings the host's record up to date, and parks or wakes the lane as the breaker says.
func (t *turn) learn(s *queue.Settlement) {
	before := t.host.Breaker.Failures
	t.host.Breaker = t.breaker.Record()
	failed := t.host.Breaker.Failures > before
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
	t.giveUp(s, failed)
	if s.Wait > 0 { // never less than a settlement before asked for
		t.parked = later(t.parked, time.Now().Add(s.Wait))
		s.Wait, s.Asked = time.Until(t.parked), max(0, time.Until(t.asked))
	}
	if s.Wait != 0 || t.news() {
		record := t.host
		s.Host = &record
	}
}

// news tells whether the host's record has to be written: not if all that is new is that it answered again.
func (t *turn) news() bool {
	record := t.host
	if last := t.known.Breaker.LastSuccess; record.Breaker.LastSuccess.Sub(last) < aliveAnew {
		record.Breaker.LastSuccess = last
	}
	return !reflect.DeepEqual(&record, &t.known)
}

// giveUp gives the host up when it has failed for so many days, and takes that back at its first success. The next probe is
// a day after one that failed; one that never came to the host is made again.
func (t *turn) giveUp(s *queue.Settlement, failed bool) {
	was := t.host.Unavailable
	t.host.Unavailable = t.pool.Breaker.Unavailable(t.host.Breaker)
	switch {
	case t.host.Unavailable:
		t.stop = true
		if failed {
			s.Wait = max(s.Wait, t.daily())
		}
		if !was {
			t.pool.Log.Warn("host.unavailable", "host", t.held.Host, "days", t.host.Breaker.FailureDays(),
				"error", lastError(t.host.LastError))
		}
	case was:
		t.parked, t.asked = time.Time{}, time.Time{}
		s.Wait, s.Recovered = cmp.Or(s.Wait, -1), true
		t.pool.Log.Info("host.available", "host", t.held.Host)
	}
}

// daily is the time between probes of a host that was given up.
func (t *turn) daily() time.Duration {
	return probeDaily + time.Duration(t.pool.Schedule.jitter()*float64(probeDaily/24))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func lastError(l *queue.LastAttempt) string {
	if l == nil {
		return ""
	}
	return l.Error
}

// write settles until it is durable or the lane is not ours any more. It tells which.
func (t *turn) write(s queue.Settlement) bool {
	err := t.try(s)
	if final(err) {
		return t.wrote(s, err)
	}
	t.pool.outage.enter(err)
	for pause := firstPause; !final(err) && t.pause(pause); pause = min(2*pause, maxPause) {
		if err = t.try(s); !final(err) {
			t.pool.outage.note(err)
		}
	}
	if final(err) {
		t.pool.outage.leave(0)
		return t.wrote(s, err)
	}
	t.pool.outage.leave(len(s.Results))
	return false
}

// final tells whether a settlement is over: it was written, or never will be.
func final(err error) bool {
	return err == nil || errors.Is(err, queue.ErrNotHeld) || errors.Is(err, queue.ErrClosed)
}

// wrote notes how a settlement ended, and tells whether it is durable.
func (t *turn) wrote(s queue.Settlement, err error) bool {
	if err == nil {
		t.pool.outage.well(true)
		return true
	}
	if before, open := t.pool.seldom.Open("turn.lost"); open {
		t.pool.Log.Warn("turn.lost", "host", t.held.Host, "results", len(s.Results), "error", err, "lines_left_out", before)
	}
	return false
}

// try settles once.
func (t *turn) try(s queue.Settlement) error {
	if s.Release {
		t.pool.Leases.Ending(t.held)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.held.Context()), maxPause)
	defer cancel()
	return t.pool.Queue.Settle(ctx, t.held.Lease, s)
}

// pause waits, and tells whether there is a point in going on.
func (t *turn) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.held.Context().Done():
	case <-t.pool.work.Done():
	}
	return false
}
