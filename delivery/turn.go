package delivery

import (
	"cmp"
	"context"
	"errors"
	"math"
	"reflect"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

const (
	turnSize = 64              // deliveries after which a turn makes room, if others wait
	turnTime = 2 * time.Second // time after which it does

	recheckMore  = 30 * time.Millisecond  // how long to wait for a quick host's answer before taking what is known to be there
	firstRecheck = 100 * time.Millisecond // how long to wait before looking for more work, at first
	lastRecheck  = 2 * time.Second        // and in the end

	answerStep = time.Second // the least progress of the time of an answer that is written by itself

	probeDaily = 24 * time.Hour // how often an unavailable host is probed
)

// turn is one leased pass over a lane. One goroutine runs it; attempts have goroutines of their own and report to it.
type turn struct {
	pool    *Pool
	held    *lockmgr.Held
	host    queue.HostRecord
	known   queue.HostRecord // to the store
	breaker *breaker.Breaker
	now     func() time.Time // by the store's clock
	done    chan attempt
	work    context.Context // of the attempts

	share        *share // of the slots: one for each attempt in flight, and for what a Settle under way may give
	inFlight     int
	begun        int
	more         bool // the lane may have more to give
	until        time.Time
	patience     time.Duration // see recheckAfter
	parked       time.Time     // until when the lane waits
	asked        time.Time     // until when the host asked to be left alone
	throttle     bool          // the host asked to wait in this turn
	stop         bool          // begin nothing more
	released     bool          // the lane is not this node's any more
	recoverySent bool          // the queue knows of the recovery
	openLogged   bool          // the log has the line that the breaker opened
}

func (p *Pool) newTurn(h *lockmgr.Held, qt queue.Turn, sh *share) *turn {
	began := time.Now()
	settings := p.Breaker
	settings.Now = func() time.Time { return qt.Now.Add(time.Since(began)) }
	return &turn{
		pool: p, held: h, host: qt.Host, known: qt.Host, breaker: settings.Restore(qt.Host.Breaker), now: settings.Now,
		done:  make(chan attempt, p.Breaker.Window),
		more:  qt.More,
		share: sh, until: began.Add(turnTime), stop: !p.slots.reclass(sh, qt.Host.Breaker.Suspect()),
	}
}

// run begins what the lane gave, and works until the lane has nothing more to give, the breaker opened, the turn is
// over, the lease was lost, or ctx ended; then it waits for the attempts in flight and releases the lane.
func (t *turn) run(ctx context.Context, given []queue.Delivery) {
	work, cut := context.WithCancelCause(t.held.Context())
	defer cut(nil)
	defer context.AfterFunc(t.pool.work, func() { cut(context.Cause(t.pool.work)) })()
	t.work = context.WithValue(work, gateKey{}, gate{t.pool, t.share})
	t.begin(ctx, given)
	for t.inFlight > 0 {
		results := t.collect(t.recheckAfter(ctx))
		t.begin(ctx, t.settle(ctx, results))
	}
	t.release(ctx)
	t.pool.slots.release(t.share, t.share.n)
}

// release ends the turn if the last settlement did not. After an error the lane waits until the lease lapses.
func (t *turn) release(ctx context.Context) {
	if t.released {
		t.pool.Leases.Forget(t.held)
		return
	}
	_, settled := t.try(queue.Settlement{Release: true}, 0)
	if settled == nil {
		t.pool.Leases.Forget(t.held)
		return
	}
	if !errors.Is(settled, queue.ErrNotHeld) {
		t.pool.outage.note(settled, false)
	}
	if err := t.pool.Leases.Release(ctx, t.held); err != nil {
		t.pool.outage.note(err, false)
	}
}

// mustStop reports whether nothing more may begin in this turn.
func (t *turn) mustStop(ctx context.Context) bool {
	return t.stop || ctx.Err() != nil || t.held.Context().Err() != nil || t.breaker.Limit() == 0 ||
		t.pool.nameless(t.held.Host)
}

// mustYield reports whether nothing more may begin now: the turn must stop, or it had its share and others wait for
// slots.
func (t *turn) mustYield(ctx context.Context) bool {
	spent := t.begun >= turnSize || !time.Now().Before(t.until)
	return t.mustStop(ctx) || spent && t.pool.slots.wanted(t.share)
}

// reserve returns how many deliveries can begin at once, and holds slots for them: as many as the window allows if the
// lane may have so many, else those of the attempts that have ended.
func (t *turn) reserve(ctx context.Context) int {
	if t.mustYield(ctx) {
		return 0
	}
	most := t.breaker.Limit()
	for t.more && t.share.n < most {
		if !t.pool.slots.grow(t.share) {
			break
		}
	}
	return max(0, min(t.share.n, most)-t.inFlight)
}

// begin begins attempts, for which slots are reserved, and gives back the slots that it does not need. Deliveries that
// cannot begin go back to the lane when the turn ends.
func (t *turn) begin(ctx context.Context, given []queue.Delivery) {
	for _, d := range given {
		permit, ok := t.breaker.Allow()
		if !ok || t.mustStop(ctx) {
			permit.Done(breaker.Abandoned)
			t.stop = true
			break
		}
		t.begun++
		t.inFlight++
		go t.attempt(d, permit, t.approach()) // collect waits for it: run does not end before
	}
	if n := t.share.n - max(1, t.inFlight); n > 0 {
		t.pool.slots.release(t.share, n)
	}
}

// recheckAfter returns how long to wait for an attempt to end before asking again for work, or for slots that were
// taken before: a slow attempt must not hold back deliveries for which the window has room.
func (t *turn) recheckAfter(ctx context.Context) time.Duration {
	if t.inFlight >= t.breaker.Limit() || t.mustStop(ctx) {
		return math.MaxInt64
	}
	if t.more && t.patience == 0 {
		return recheckMore
	}
	t.patience = min(max(2*t.patience, firstRecheck), lastRecheck)
	return t.patience
}

// collect waits for one attempt to end, for no longer than most, and returns all that have ended. If none has, the lane
// may have more to give.
func (t *turn) collect(most time.Duration) (results []attempt) {
	select {
	case a := <-t.done:
		results = append(results, a)
	case <-time.After(most):
		t.more = true
		return nil
	}
	for len(t.done) > 0 {
		results = append(results, <-t.done)
	}
	t.inFlight -= len(results)
	t.patience = 0
	return results
}

// settle writes back results and the host's record, and returns the deliveries to begin next. It releases the lane if
// there are none and nothing is in flight.
func (t *turn) settle(ctx context.Context, results []attempt) []queue.Delivery {
	var s queue.Settlement
	for i := range results {
		s.Results = append(s.Results, t.result(&results[i], &s))
	}
	if len(results) > 0 {
		t.updateHost(&s)
		if !t.pool.slots.reclass(t.share, t.host.Breaker.Suspect()) {
			t.stop = true // there is no room for one more suspect: the lane waits for a slot
		}
	}
	n := t.reserve(ctx)
	t.more = false
	if n == 0 && len(results) == 0 {
		return nil
	}
	s.Release = t.inFlight == 0
	given, written := t.write(s, n)
	if !written {
		t.stop = true
		return nil
	}
	t.more = n > 0 && len(given) == n
	t.released = s.Release && len(given) == 0
	if s.Host != nil {
		t.known = *s.Host
	}
	for i := range results {
		t.pool.report(&results[i], s.Results[i])
		t.publish(&results[i], s.Results[i])
	}
	return given
}

// updateHost brings the host's record up to date, and parks or wakes the lane as the breaker says.
func (t *turn) updateHost(s *queue.Settlement) {
	before := t.host.Breaker.Failures
	t.host.Breaker = t.breaker.Record()
	failed := t.host.Breaker.Failures > before
	if coolOff, opened := t.breaker.Opened(); opened {
		s.Wait = max(s.Wait, coolOff)
		if !t.openLogged {
			t.openLogged = true
			t.pool.Metrics.breakers.WithLabelValues("opened").Inc()
			t.pool.Log.Warn("host.breaker_opened", "host", t.held.Host, "failures", t.host.Breaker.Failures,
				"trips", t.host.Breaker.Trips, "cool_off", coolOff.String(), "error", lastError(t.host.LastError))
		}
	}
	if t.breaker.Recovered() && !t.recoverySent {
		t.recoverySent = true
		s.Recovered = true
		t.pool.Metrics.breakers.WithLabelValues("closed").Inc()
		t.pool.Log.Info("host.recovered", "host", t.held.Host)
	}
	t.updateAvailability(s, failed)
	if s.Wait > 0 { // never less than a settlement before asked for
		t.parked = later(t.parked, time.Now().Add(s.Wait))
		s.Wait, s.Asked = time.Until(t.parked), max(0, time.Until(t.asked))
	}
	if s.Wait != 0 || t.recordChanged() {
		record := t.host
		s.Host = &record
	}
}

// recordChanged reports whether the host's record has to be written: it need not if only the times of answers moved a
// little.
func (t *turn) recordChanged() bool {
	record := t.host
	keepRecent(&record.Breaker.LastSuccess, t.known.Breaker.LastSuccess)
	keepRecent(&record.LastAnswer, t.known.LastAnswer)
	keepRecent(&record.LastSuccess, t.known.LastSuccess)
	return t.host.AnswerKind() != t.known.AnswerKind() || !reflect.DeepEqual(&record, &t.known)
}

// updateAvailability declares the host unavailable when it has failed on so many days, and available at its first
// success. The next probe is a day after one that failed; one that never reached the host is made again.
func (t *turn) updateAvailability(s *queue.Settlement, failed bool) {
	was := t.host.Unavailable
	t.host.Unavailable = t.pool.Breaker.Unavailable(t.host.Breaker)
	switch {
	case t.host.Unavailable:
		t.stop = true
		if failed || !was {
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

// daily is the time between probes of an unavailable host.
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

// write settles until that is durable or the lane is not this node's any more, and reports which. It returns the next
// deliveries, up to n. If that answer is lost the turn begins nothing more: the deliveries go back when it ends.
func (t *turn) write(s queue.Settlement, n int) (given []queue.Delivery, written bool) {
	given, err := t.try(s, n)
	if concluded(err) {
		return given, t.noteSettlement(s, err)
	}
	t.stop = true
	t.pool.outage.note(err, true)
	for pause := firstPause; !concluded(err) && t.pause(pause); pause = min(2*pause, maxPause) {
		if _, err = t.try(s, 0); !concluded(err) {
			t.pool.outage.note(err, false)
		}
	}
	if concluded(err) {
		t.pool.outage.leave(0)
		return nil, t.noteSettlement(s, err)
	}
	t.pool.outage.leave(len(s.Results))
	return nil, false
}

// concluded reports whether a settlement needs no other try: it was written, or never will be.
func concluded(err error) bool {
	return err == nil || errors.Is(err, queue.ErrNotHeld) || errors.Is(err, queue.ErrClosed)
}

// noteSettlement notes how a settlement ended, and reports whether it is durable.
func (t *turn) noteSettlement(s queue.Settlement, err error) bool {
	if err == nil {
		t.pool.outage.succeeded(true)
		return true
	}
	if before, open := t.pool.logSampler.Allow("turn.lost"); open {
		t.pool.Log.Warn("turn.lost", "host", t.held.Host, "results", len(s.Results), "error", err, "lines_suppressed", before)
	}
	return false
}

// try settles once.
func (t *turn) try(s queue.Settlement, n int) ([]queue.Delivery, error) {
	if s.Release {
		t.pool.Leases.Ending(t.held, true)
		t.pool.slots.ending(t.share)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.held.Context()), maxPause)
	defer cancel()
	given, err := t.pool.Queue.Settle(ctx, t.held.Lease, s, n)
	if s.Release && len(given) > 0 {
		t.pool.Leases.Ending(t.held, false)
	}
	return given, err
}

// pause waits, and reports whether it makes sense to go on.
func (t *turn) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-t.held.Context().Done():
	case <-t.pool.work.Done():
	}
	return false
}
