// Package breaker limits the attempts to a host that fails or is slow. For one host, it is a circuit breaker, a window of
// attempts in flight, and a count of the days of failure.
//
// The holder of a host's lease restores a Breaker from the host's Record at the start of a turn, asks it before every
// attempt, reports the result of each, and settles the Record with the lane. As only one node holds the lease, the
// breaker is exact across a fleet without a lock or a store of its own.
//
// What callers may rely on:
//
//   - No more than Settings.Threshold attempts fail in a row before the breaker opens, whatever the window: attempts in
//     flight count as if they had failed. So nothing is in flight when it opens, and no late result can close it or
//     keep it open.
//   - While it is open, it allows nothing for the rest of the turn, and then one probe at a time. Only a successful
//     attempt closes it.
//   - The window starts at 1, also after recovery, grows by one with each answer and halves when the host is slow,
//     throttles or times out.
//   - Abandoned attempts change nothing, so a fault on our side is never counted against a host.
//   - A turn that is cut short does no harm: the Record restores what was last settled, and a lost probe is repeated.
//
// What callers may not rely on:
//
//   - That a Breaker waits. The lane waits for the cool-off (Opened returns how long), and a Breaker that is restored
//     before its end would allow the probe at once.
//   - That unsettled failures are remembered: a node that dies in a turn loses those of the turn.
//
// The state machine is gobreaker's: consecutive failures, tripping, half-open with one request. This package adds a
// durable state, a cool-off that grows, and a bound on the attempts in flight.
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
	record    Record        // but for the state; guarded by mu
	inFlight  int           // guarded by mu
	wait      time.Duration // the cool-off, once it opened; guarded by mu
	recovered bool          // guarded by mu
}

// Allow reserves one attempt, and reports whether it may be made. The permit must be given back by Done:
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

// slowAfter is the least time of an answer that counts as slow, and maxSlow is the maximum of Record.Slow.
const (
	slowAfter = 2 * time.Second
	maxSlow   = 16
)

// Took records how long the host held a slot until it had answered, whatever the answer. A slow answer counts its seconds,
// and each quick one takes one off: a host that is slow from time to time stays suspect while it is slow on average.
func (b *Breaker) Took(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d < slowAfter {
		b.record.Slow = max(0, b.record.Slow-1)
		return
	}
	b.record.Slow = min(b.record.Slow+int(min(d, maxSlow*time.Second)/time.Second), maxSlow)
}

// Limit returns how many attempts may be in flight now, including those that are: 0 if it opened in this turn.
func (b *Breaker) Limit() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit()
}

// Record returns the record as of now. Attempts in flight are not in it.
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

// Opened reports whether the breaker opened during this turn, and how long the lane has to wait for it. The answer is the
// same each time.
func (b *Breaker) Opened() (coolOff time.Duration, yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wait, b.machine.State() == gobreaker.StateOpen
}

// Recovered reports whether a probe closed the breaker during this turn, and it has not opened again since.
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

// settle counts the result of an attempt. It adjusts the window first, because recovery resets it.
func (b *Breaker) settle(v Verdict) {
	switch v {
	case Alive:
		b.record.Window = min(b.window()+1, b.settings.Window)
	case Slow, TimedOut, Throttled, Overloaded:
		b.record.Window = max(1, b.window()/2)
	}
	switch v {
	case Alive, Slow:
		b.succeeded(b.now())
	case Failed, TimedOut:
		b.failed(b.now())
	case Overloaded:
		b.countDay(b.now())
	}
}

func (b *Breaker) succeeded(at time.Time) {
	b.record = Record{Window: b.record.Window, Slow: b.record.Slow, LastSuccess: at}
	report(b.machine, nil)
}

func (b *Breaker) failed(at time.Time) {
	b.record.Failures++
	b.record.Failed = true
	b.countDay(at)
	report(b.machine, errFailed)
}

func (b *Breaker) countDay(at time.Time) {
	b.record.Days = withDay(b.record.Days, at, b.settings.UnavailableDays)
}

// stateChanged is called by the machine, from within report, when its state has changed.
func (b *Breaker) stateChanged(to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		b.record.Trips++
		b.record.OpenedAt = b.now()
		b.wait = b.settings.coolOff(b.record.Trips)
		b.recovered = false
	case gobreaker.StateClosed:
		b.record.Window = 1
		b.recovered = true
	}
}

// now returns the time as a Record keeps it. UTC also drops the monotonic clock, which is meaningless to another process.
func (b *Breaker) now() time.Time {
	if b.settings.Now == nil {
		return time.Now().UTC()
	}
	return b.settings.Now().UTC()
}
