// Package breaker keeps a node from hammering a host that fails, and from overrunning one that is slow: a circuit
// breaker, a window of attempts in flight, and a count of the days of failure, all for one host.
//
// The holder of a host's lease restores a Breaker from the host's Record at the start of a turn, asks it before every
// attempt, tells it what came of each, and settles the Record with the lane. As only one node holds the lease, the
// breaker is exact across a fleet without a lock or a store of its own.
//
// What callers may rely on:
//
//   - No more than Settings.Threshold attempts fail in a row before the breaker opens, whatever the window: those in
//     flight count as if they had failed. So nothing is in flight when it opens, and no late result can close it or
//     keep it open.
//   - Open, it allows nothing for the rest of the turn, and then one probe at a time. Only a success of ours closes it.
//   - The window starts at 1, also after recovery, grows by one with each answer and halves when the host is slow,
//     throttles or times out.
//   - Abandoned attempts leave no trace, so a fault of ours is never counted against a host.
//   - A turn that is cut short costs nothing: the Record restores what was last settled, a lost probe is made again.
//
// What callers may not rely on: that a Breaker waits. The cool-off is the lane's to wait for (Opened tells how long),
// and a Breaker restored before its end would allow the probe at once. That failures are remembered which were never
// settled: a node that dies in a turn takes those of the turn with it.
//
// The state machine is gobreaker's: consecutive failures, tripping, half-open with one request. What it lacks is here:
// state that lasts, a cool-off that grows, and a bound on what is in flight.
package breaker

import (
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker is a host's breaker for one turn. It is safe for concurrent use. Settings.Restore makes one.
type Breaker struct {
	settings Settings

	mu        sync.Mutex
	machine   *machine      // the state; used with mu held, so that it changes together with what is below
	record    Record        // all that lasts but the state; guarded by mu
	inFlight  int           // guarded by mu
	wait      time.Duration // the cool-off, once it opened; guarded by mu
	recovered bool          // guarded by mu
}

// Allow reserves one attempt, or says no. The permit must be given back by Done:
//
//	permit, ok := b.Allow()
//	if !ok {
//		return
//	}
//	defer permit.Done(breaker.Abandoned) // does nothing after the Done below, but saves the permit from a panic
//	permit.Done(attempt())
func (b *Breaker) Allow() (Permit, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inFlight >= b.limit() {
		return Permit{}, false
	}
	b.inFlight++
	return Permit{breaker: b, used: new(bool)}, true
}

// Limit is how many attempts may be in flight now, counting those that are: 0 if it opened in this turn.
func (b *Breaker) Limit() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit()
}

// Record is what lasts as of now. Attempts in flight are not in it.
func (b *Breaker) Record() Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.record
	switch b.machine.State() {
	case gobreaker.StateClosed:
		r.State = Closed
	case gobreaker.StateOpen:
		r.State = Open
	case gobreaker.StateHalfOpen:
		r.State = HalfOpen
	}
	return r
}

// Opened tells whether the breaker opened during this turn, and how long the lane has to wait therefore: the same
// answer each time.
func (b *Breaker) Opened() (coolOff time.Duration, yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wait, b.machine.State() == gobreaker.StateOpen
}

// Recovered tells whether a probe closed the breaker during this turn, and it has not opened again since.
func (b *Breaker) Recovered() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.recovered
}

func (b *Breaker) limit() int {
	switch b.machine.State() {
	case gobreaker.StateClosed:
		failures := int(b.machine.Counts().ConsecutiveFailures)
		return min(b.window(), b.settings.Threshold-failures)
	case gobreaker.StateHalfOpen:
		return 1
	default:
		return 0
	}
}

func (b *Breaker) window() int { return min(max(1, b.record.Window), b.settings.Window) }

// settle counts what came of an attempt. The window moves first, because recovery resets it.
func (b *Breaker) settle(v Verdict) {
	switch v {
	case Alive:
		b.record.Window = min(b.window()+1, b.settings.Window)
	case Slow, TimedOut, Throttled:
		b.record.Window = max(1, b.window()/2)
	}
	switch v {
	case Alive, Slow:
		b.succeeded(b.now())
	case Failed, TimedOut:
		b.failed(b.now())
	}
}

func (b *Breaker) succeeded(at time.Time) {
	b.record.Failures, b.record.Failed, b.record.Days = 0, false, nil
	b.record.Trips, b.record.OpenedAt = 0, time.Time{}
	b.record.LastSuccess = at
	report(b.machine, nil)
}

func (b *Breaker) failed(at time.Time) {
	b.record.Failures++
	b.record.Failed = true
	b.record.Days = withDay(b.record.Days, at, b.settings.UnavailableDays)
	report(b.machine, errFailed)
}

// changed is called by the machine, from within report, when its state has changed.
func (b *Breaker) changed(to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		b.record.Trips++
		b.record.OpenedAt = b.now()
		b.wait, b.recovered = b.settings.coolOff(b.record.Trips), false
	case gobreaker.StateClosed:
		b.record.Window, b.recovered = 1, true
	}
}

// now is the time as a Record keeps it. UTC also drops the monotonic clock, which means nothing to another process.
func (b *Breaker) now() time.Time {
	if b.settings.Now == nil {
		return time.Now().UTC()
	}
	return b.settings.Now().UTC()
}
