// Package queue is the contract between those who accept, deliver and watch activities and the back-ends that keep
// them. Its unit of work is the lane: the queue of one host.
//
// What callers may rely on, in every back-end:
//
//   - Durable: what a call that returned without an error changed survives the death of any process.
//   - All or nothing: Enqueue stores every delivery of a submission or none; Settle applies a settlement whole or not.
//   - Idempotent: Enqueue with the same idempotency key, and Settle with the same results, may be repeated.
//   - Ordered: of the deliveries of one lane that share an ordering key, Take gives the oldest only, and none while
//     that one is taken or waits for its retry.
//   - Fenced: once a lease with a later token took a lane, whatever an earlier one settles is refused whole.
//   - Counted once: total = pending + delivered + dead + cancelled, for every activity, at every moment.
//   - Clocks: callers give durations, back-ends make times of them, so a caller's clock is never trusted.
//
// What callers may not rely on: that a lane offered by Due can be leased or still has work (another node may have been
// quicker); that a delivery taken is delivered once only (a crash repeats what was in flight); that Wake fires exactly
// once for each change.
//
// All methods are safe for concurrent use. Every error that is not one of the sentinels here means that the store is
// away or broken: the call may be repeated, and nothing about any host follows from it.
package queue

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/lockmgr"
)

// The errors that a caller may branch on. Back-ends wrap them.
var (
	ErrNotFound            = errors.New("not found")
	ErrNotHeld             = errors.New("lease not held")                        // a later token took the lane
	ErrIdempotencyMismatch = errors.New("idempotency key used with other bytes") // see Idempotency
	ErrFull                = errors.New("store is full")                         // no room; nothing was stored
	ErrBusy                = errors.New("store is busy")                         // too many calls waiting; nothing was stored
	ErrBadCursor           = errors.New("bad cursor")
	ErrClosed              = errors.New("store is closed")
)

// Queue is the one wide interface: what a store of activities, lanes, dead letters and keys can do.
type Queue interface {
	Intake
	Lanes
	Watching
	Operating
	Keys
	Moving

	// Ready says why the store can't be used just now, or nil.
	Ready(ctx context.Context) error
	// Close ends all work and frees the store. What was acknowledged stays.
	Close() error
}

// Intake takes activities in.
type Intake interface {
	// Enqueue stores a submission durably, all or nothing, and tells what became of it. A submission whose
	// idempotency key is known gets the first receipt again, with Replayed set, and stores nothing;
	// ErrIdempotencyMismatch when its fingerprint differs. A recipient to whom the same activity URI is still pending
	// is counted as a duplicate. Recipients on a host that is blocked are refused, and those on one that is unavailable
	// but for its next probe: a delivery of High priority, which hastens the probe as Seen does, or any delivery once
	// the host's wait is over and nothing is pending for it. Where nothing is left to accept and there is no duplicate
	// either, nothing is stored and the receipt has no ID. A back-end may move a large submission into the lanes after it
	// has returned, but before anything that is accepted later with the same ordering key, or finds it in a list.
	//
	// What Deletes (see Role) cancels, in the lanes where it is accepted and that give nothing now, what Makes, has the
	// same ordering key and was never attempted (whether or not that spent an attempt): by the time the host hears again,
	// the object is gone. A lane gives nothing while it is paused, has to wait (Settlement.Wait) or is to be probed
	// (HostRecord.Probed). In every other lane all goes out in the order accepted. What was cancelled is counted as
	// such, and in the receipt as Superseded. A death in the midst of it may leave it to be delivered first.
	Enqueue(ctx context.Context, s *Submission) (Receipt, error)
}

// Lanes is the delivery pool's side: find lanes with work, take it, and settle it.
type Lanes interface {
	// Due offers lanes with work due now, as many as wanted, spread fairly and at random over the hosts and over suspect
	// and other lanes, those with work of high priority first but never only those. A lane offered is not
	// offered again, to anybody, for OfferTTL, unless it is settled with Release before. Where fewer lanes than wanted
	// are due, Offer.Next is the time until another may be (at most MaxIdle), cut short by Wake.
	Due(ctx context.Context, want Want) (Offer, error)

	// Take takes at most n deliveries from each leased lane and gives the host's record and the store's time with them, in
	// the order of the leases. A lane on which a later token was seen is left out; one with nothing to give has no deliveries. What is
	// taken is not given again until it is settled, released, or a later token takes the lane. While the host is to be
	// probed (HostRecord.Probed), a lane gives one delivery at the most: of what is due the first by priority, else the
	// one due first, with Early set as its own time has not come. A paused lane, or one that has to wait
	// (Settlement.Wait), gives nothing.
	//
	// Of what is due, High goes before Normal before Low, yet each gets a share; within a priority, oldest first.
	Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]Turn, error)

	// Settle writes back what came of deliveries taken under a lease and what was learnt of the host, and returns once
	// that is durable. Results for deliveries that are not there any more (cancelled, or settled before) do nothing.
	// ErrNotHeld, with nothing changed, if a later token took the lane.
	Settle(ctx context.Context, lease lockmgr.Lease, s Settlement) error

	// Stops counts what was stopped from outside: a host paused or blocked, an activity cancelled. Where it changed since
	// before a Take, what that gave and has not begun may have been stopped too. It never blocks and costs nothing; of what
	// came through another node it may hear a moment later, or never.
	Stops() uint64

	// Wake fires when a lane may have become due earlier than Due's answer said. It may fire for nothing.
	Wake() <-chan struct{}

	// Sweep keeps the store within its bounds, in bounded steps. It dead-letters
	//   - what has outlived its TTL, as ReasonExpired, or ReasonKeyMissing where it waits for a key;
	//   - what pends for a host that is blocked, as ReasonHostBlocked;
	//   - what pends for a host that is unavailable, as ReasonHostUnavailable, but for the newest, which is kept for the
	//     next probe (of what doesn't wait for a key, if there is any);
	//   - in a lane of more than Limits.Lane, the oldest of Low and then of Normal priority, as ReasonLaneFull, until
	//     it is within; High is never dropped.
	// What is taken just now is left for a later sweep, except where the host is blocked. Sweep drops what has outlived
	// its retention, and the oldest dead letters above Limits.DeadLetters (Stats.Dropped). It returns how long to wait
	// for the next sweep: 0 when there is more to do at once.
	Sweep(ctx context.Context) (next time.Duration, err error)

	// Tell spreads events to all who watch (Watching.Events), on whichever node. It never blocks, costs next to nothing
	// while nobody watches, and promises nothing: events may be lost.
	Tell(events ...Event)
}

// Watching is what the API reads and changes.
type Watching interface {
	// Activity tells an activity's state and counts, or ErrNotFound.
	Activity(ctx context.Context, id string) (ActivityStatus, error)
	// Deliveries lists an activity's deliveries that are pending or dead, in the order of their IDs; state narrows it
	// ("" is both). ErrNotFound if there is no such activity.
	Deliveries(ctx context.Context, id string, state DeliveryState, p Page) (List[DeliveryStatus], error)
	// Host tells a host's state; one never heard of is healthy and has nothing pending.
	Host(ctx context.Context, host string) (HostStatus, error)
	// Hosts lists the hosts known, by name. The cost of a page grows neither with the number of hosts nor with what is
	// pending, except where Query leaves most of them out.
	Hosts(ctx context.Context, f HostFilter, p Page) (List[HostStatus], error)
	// DeadLetters lists dead letters, newest first. The cost of a page does not grow with their number, except where
	// both a host and a reason are asked for and few letters have both.
	DeadLetters(ctx context.Context, f DeadLetterFilter, p Page) (List[DeadLetter], error)
	// Stats tells the totals of the whole store, at a cost that does not grow with it.
	Stats(ctx context.Context) (Stats, error)
	// Events tells what happens in the whole store from now on, on whichever node, until ctx ends; then the channel is
	// closed. Who reads too slowly loses events, and those of an outage of the store are lost.
	Events(ctx context.Context) (<-chan Event, error)
}

// Operating is what operators and the app change, through the API.
type Operating interface {
	// Cancel cancels what is pending of an activity, also what is being attempted just now (which may still arrive).
	Cancel(ctx context.Context, id string) (ActivityStatus, error)
	// Act does something to a host, also to one never heard of, and returns how it is then. It may be repeated.
	Act(ctx context.Context, host string, action HostAction) (HostStatus, error)
	// RetryDead makes dead letters pending again, with no attempts spent, due at once, and with this TTL. They take
	// their place in the order accepted: before what is pending of their ordering key, unless that was accepted before
	// them or is taken just now; should that come back, it comes behind them. Letters for a host that is blocked or unavailable stay as they are.
	RetryDead(ctx context.Context, which DeadLetterChoice, ttl time.Duration) (DeadLetterCount, error)
	// DeleteDead drops dead letters. Activities still count them as dead.
	DeleteDead(ctx context.Context, which DeadLetterChoice) (DeadLetterCount, error)
}

// Keys keeps private keys, sealed by the caller. A change is seen by every Key call on every node that starts after it
// returned; putting a key makes what waits for it (Result.WaitKey) due.
type Keys interface {
	// PutKey stores or replaces a key, and tells which.
	PutKey(ctx context.Context, k Key) (created bool, err error)
	// Key returns a key or ErrNotFound. It is called for every attempt and must cost next to nothing.
	Key(ctx context.Context, id string) (Key, error)
	// Keys lists keys by ID.
	Keys(ctx context.Context, p Page) (List[Key], error)
	// DeleteKey removes a key, or returns ErrNotFound.
	DeleteKey(ctx context.Context, id string) error
	// ResealKeys replaces how keys are sealed, nothing else of them, and tells of how many. A key that is sealed otherwise
	// than its Old says, as it was replaced meanwhile, or that is gone stays as it is. It makes nothing due. Where it
	// returns an error, some may be replaced.
	ResealKeys(ctx context.Context, keys []Reseal) (int, error)
}

// SeenPause returns how long after the last failed attempt, and after the time that the host asked for then
// (Settlement.Asked), Seen lets the next probe be, when it hastened so many probes before, all of which failed: 10 s the first three times, then twice as long each time, up to an hour. So a host that
// reaches us but can't be reached is not probed for each thing it says.
func SeenPause(hastened int) time.Duration {
	return min(10*time.Second<<min(max(0, hastened-2), 20), time.Hour)
}

// OfferTTL is how long a lane offered by Due is kept from others until it is taken.
const OfferTTL = time.Second

// MaxIdle is the longest that Due lets an idle node sleep.
const MaxIdle = time.Minute
