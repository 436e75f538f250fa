// Package queue is the contract between those who accept, deliver and watch activities and the back-ends that keep
// them. Its unit of work is the lane: the queue of one host.
//
// What callers may rely on, in every back-end:
//
//   - Durable: what a call that returned without an error changed survives the death of any process.
//   - All or nothing: Enqueue stores every delivery of a submission or none; Settle applies a settlement whole or not.
//   - Idempotent: Enqueue with the same idempotency key, and Settle with the same results, may be repeated. What
//     Settle took stays taken, if its answer is lost, until the turn ends.
//   - Ordered: the deliveries to one inbox that share an ordering key are a chain. Take gives its head, the oldest, only,
//     and none while that one is taken or waits for its retry. Deliveries of one activity are in chains of their own.
//   - Fenced: once a lease with a later token took a lane, whatever an earlier one settles is refused whole.
//   - Counted once: total = pending + delivered + dead + cancelled, for every activity, at every moment.
//   - Clocks: callers give durations, back-ends make times of them, so a caller's clock is never trusted. A jump of the wall
//     clock by more than ten minutes moves all times with it: what waits goes on waiting for what was left, and nothing
//     expires. A stop for longer than that counts as a jump. Times are shown as the wall clock says them now.
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
	ErrUnderWay            = errors.New("the same activity is under way")        // an earlier call took it, and has not ended; or its node died a moment ago
	ErrBadCursor           = errors.New("bad cursor")
	ErrClosed              = errors.New("store is closed")
)

// Queue is the one wide interface: what a store of activities, lanes, dead letters and keys can do.
type Queue interface {
	Intake
	Lanes
	Watching
	Feed
	Recent
	Operating
	Keys
	Fleet
	Moving

	// Ready says why the store can't be used just now, or nil.
	Ready(ctx context.Context) error
	// Close ends all work and frees the store. Everything acknowledged stays.
	Close() error
}

// Intake takes activities in.
type Intake interface {
	// Enqueue stores a submission durably, all or nothing, and returns the receipt. A submission whose idempotency key
	// is known gets the first receipt again, with Replayed set, and stores nothing; ErrIdempotencyMismatch when its
	// fingerprint differs. A zero key is none.
	//
	// A recipient is a duplicate if the tail of its chain, the newest delivery pending for its inbox with this ordering
	// key, is of an activity with the same bytes, and no tombstone supersedes that one. The cost of that look-up grows
	// neither with what is pending nor with how often an activity was submitted. Each submission is an activity of its own,
	// with its own counts and trace. Activities with the same bytes, key (and pin), priority and ordering key share one stored body
	// while any of them has deliveries that are pending or dead.
	//
	// An activity whose OrderingKey equals its Refers takes the ordering key of the newest pending activity whose URI is
	// Refers, if there is one.
	//
	// An activity that Deletes leaves a tombstone for its Object, which lasts as long as dead letters are kept
	// (Limits.DeadRetention). One that Restores takes it away: by its Object or, where it only names the Delete, by Refers.
	// A tombstone supersedes what is about the same Object and was accepted before it: see Take and RetryDead.
	//
	// Recipients on a host that is blocked are refused, and those on one that is unavailable but for its next probe: a
	// delivery of High priority, which hastens the probe as Seen does, or any delivery once the host's wait is over and
	// nothing is pending for it. Where nothing is left to accept and there is no duplicate either, nothing is stored (no
	// tombstone either) and the receipt has no ID. A back-end may move a large submission into the lanes after it has
	// returned, but before anything that is accepted later with the same ordering key, or finds it in a list.
	Enqueue(ctx context.Context, s *Submission) (Receipt, error)
}

// Lanes is the delivery pool's side: find lanes with work, take it, and settle it.
type Lanes interface {
	// Due offers lanes with work due now, as many as wanted, spread fairly and at random over the hosts and over suspect
	// and other lanes, those with work of high priority first but never only those. A lane offered is not
	// offered again, to anybody, for OfferTTL, unless it is settled with Release before. Where fewer lanes than wanted
	// are due, Offer.Next is the time until another may be (at most MaxIdle), cut short by Wake.
	Due(ctx context.Context, want Want) (Offer, error)

	// Take takes at most n deliveries from each leased lane and gives the host's record and the store's time with them,
	// in the order of the leases. A lane on which a later token was seen is left out; one with nothing to give has no
	// deliveries. A taken delivery is not given again until it is settled, released, or a later token takes the lane.
	// While the host is to be probed (HostRecord.Probed), a lane gives one delivery at the most: of what is due one
	// drawn at random, first its priority (the first there is, if the host is unavailable) and then itself, so that no
	// inbox that fails decides for its host; else the one due first, with Early set as its own time has not come. A
	// paused lane, or one that has to wait (Settlement.Wait), gives nothing.
	//
	// Of what is due, High goes before Normal before Low, yet each gets a share; within a priority, oldest first.
	//
	// A delivery of an activity that Makes an Object with a tombstone accepted after it (see Intake.Enqueue), never attempted
	// (whether or not that spent an attempt) and accepted longer than SupersededAfter ago is not given. It is counted as
	// cancelled by the time that Take returns, and what is behind it in its chain is given in its place.
	Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]Turn, error)

	// Settle writes back what came of deliveries taken under a lease and what was learnt of the host. In the same step it
	// takes at most n deliveries more from the lane, by Take's rules. It returns once the results are durable. Results for
	// deliveries that are not there any more (cancelled, or settled before) do nothing. ErrNotHeld, with nothing changed and
	// nothing taken, if a later token took the lane.
	//
	// After any other error the results may be written or not, and deliveries may be taken that the caller does not know of.
	// The caller repeats the call with n = 0, begins nothing more, and ends the turn with Release, which gives them back.
	// Settle returns no error for what it took and can't read: it gives nothing then, and that goes back with Release too.
	Settle(ctx context.Context, lease lockmgr.Lease, s Settlement, n int) (next []Delivery, err error)

	// Wake fires when a lane may have become due earlier than Due's answer said. It may fire for nothing.
	Wake() <-chan struct{}

	// Sweep keeps the store within its bounds, in bounded steps. It dead-letters
	//   - what has outlived its TTL, as ReasonExpired, or ReasonKeyMissing where it waits for a key;
	//   - what pends for a host that is blocked, as ReasonHostBlocked;
	//   - what pends for a host that is unavailable, as ReasonHostUnavailable, but for the newest, which is kept for the
	//     next probe (of what doesn't wait for a key, if there is any);
	//   - in a lane of more than Limits.Lane, the oldest of Low and then of Normal priority, as ReasonLaneFull, until
	//     it is within; High is never dropped.
	// Deliveries that are taken are left for a later sweep, except where the host is blocked. Sweep drops what has outlived
	// its retention, the oldest dead letters above Limits.DeadLetters (Stats.Dropped), and keys to be removed when idle
	// (Key.WhenIdle) for which nothing pends, pinned ones not within PinGrace after they were put. It looks at throttled hosts
	// that have waited as they asked, ends orders whose time has passed, and does what Act left of those that cover hosts.
	//
	// Sweep also forgets a host of which nothing is worth keeping: it never answered (HostRecord.Reached), nothing is
	// pending for it, it is neither paused nor blocked (nor covered), and its last delivery was accepted, and its last wait ended, at least
	// HostRetention ago. (One of which nothing at all was learnt may go earlier.) Its failures and the state unavailable go
	// with it, and watchers learn that it is healthy. Its dead letters stay, and can be retried. A settlement by an earlier lease
	// is refused, also once the host is known again.
	//
	// It returns how long to wait for the next sweep: 0 when there is more to do at once.
	Sweep(ctx context.Context) (next time.Duration, err error)

	// Publish publishes events of EventDelivered to all subscribers (Watching.Events), on whichever node. It never blocks,
	// costs next to nothing while nobody watches, and promises nothing: events may be lost.
	Publish(events ...Event)
}

// Watching is what the API reads and changes.
type Watching interface {
	// Activity returns an activity's state and counts, or ErrNotFound.
	Activity(ctx context.Context, id string) (ActivityStatus, error)
	// Activities lists activities, newest first: by when they were accepted, also those of another store. The cost of a page does not grow with the number of activities. So a page has
	// fewer items than its limit, or none, though there is a next one, where the filter left out most that it looked at.
	Activities(ctx context.Context, f ActivityFilter, p Page) (List[ActivityStatus], error)
	// Body returns the bytes of an activity, or ErrNotFound if they are not kept any more.
	Body(ctx context.Context, id string) ([]byte, error)
	// Delivery returns a delivery that is pending or dead, or ErrNotFound.
	Delivery(ctx context.Context, id string) (DeliveryStatus, error)
	// Deliveries lists an activity's deliveries that are pending or dead, in the order of their IDs; state narrows it
	// ("" is both). ErrNotFound if there is no such activity.
	Deliveries(ctx context.Context, id string, state DeliveryState, p Page) (List[DeliveryStatus], error)
	// HostDeliveries lists what is pending for a host, also what is being attempted, in the order accepted: oldest first,
	// whatever its priority. For a host never heard of that is nothing. What is pending while all pages are read is on exactly one
	// of them, whatever ends, is taken or is retried meanwhile. The cost of a page does not grow with the number of deliveries that
	// wait for their first attempt, or for another one of their chain.
	HostDeliveries(ctx context.Context, host string, p Page) (List[DeliveryStatus], error)
	// Host returns a host's state; one never heard of is healthy and has nothing pending.
	Host(ctx context.Context, host string) (HostStatus, error)
	// Hosts lists the hosts known. The cost of a page by name grows neither with the number of hosts nor with what is
	// pending, except where Query or ChangedSince leaves most of them out; that of a page in another order may grow with the
	// number of hosts for which something is pending. A host that is no longer throttled is listed and counted so until Sweep
	// has looked at it, though never shown so.
	Hosts(ctx context.Context, f HostFilter, p Page) (List[HostStatus], error)
	// DeadLetters lists dead letters, newest first. The cost of a page does not grow with their number, except where
	// both a host and a reason are asked for and few letters have both.
	DeadLetters(ctx context.Context, f DeadLetterFilter, p Page) (List[DeadLetter], error)
	// Stats returns the totals of the whole store, at a cost that does not grow with it.
	Stats(ctx context.Context) (Stats, error)
	// Events subscribes to news of the whole store, from whichever node, until ctx ends; then the channel is closed: events
	// that were published (Lanes.Publish), and EventFed soon after the feed got new entries. A subscriber that reads too slowly loses
	// events, and those of an outage of the store are lost: look into the feed from time to time, too.
	Events(ctx context.Context) (<-chan Event, error)
}

// Fleet is how the nodes that share a store know each other.
type Fleet interface {
	// Join makes the caller a node of the fleet and returns its name, which it keeps until Close. All nodes list it from
	// then on, with what info returns. The store calls info about once a second, at any time until Close returns: it must
	// be quick and safe for concurrent use. A store that looks for work (Due) without Join is listed too, and says nothing
	// of itself. Join is called once.
	Join(info func() NodeInfo) (name string)
	// Nodes lists the nodes that are there, by name, and the caller's own, at a cost that does not grow with the store. Nodes
	// hear of each other within two seconds. A node that closes its store is not listed after that; one that dies, or that
	// is cut off, is not listed once it has not been heard for NodeSilence. Nodes returns an error where the caller has not
	// heard itself for so long, as it can't hear the others either then.
	Nodes(ctx context.Context) (FleetStatus, error)
}

// Operating is what operators and the app change, through the API. Act and Cancel leave an entry of EventAction in the feed if
// they changed something: in the step that changes it or, where Cancel takes several, once it has ended. So do PutKey, DeleteKey
// and RetireKey, but for pinned keys. The others work in many steps, and their callers add one with FeedAction.
type Operating interface {
	// Cancel cancels what is pending of an activity, also what is being attempted just now (which may still arrive).
	Cancel(ctx context.Context, id string) (ActivityStatus, error)
	// CancelMany does so for many activities, in bounded steps. After an error it may be called again, for those that are
	// left.
	CancelMany(ctx context.Context, which CancelChoice) (CancelCount, error)
	// Act does something to a host, also to one never heard of, and returns how it is then. It may be repeated, also after an
	// error. Of the order, every action has By, and Pause and Block have the rest. Resume or Unblock of a host that only an
	// order for another one pauses or blocks is a *CoveredError, and changes nothing.
	Act(ctx context.Context, host string, action HostAction, order Order) (HostStatus, error)
	// ResetHosts does Reset to all hosts that are in a state, in bounded steps, and returns how many that were. A host that
	// comes into the state meanwhile may be left out. After an error it may be called again, for those that are left.
	// The entries of the hosts' new states name the Caller.
	ResetHosts(ctx context.Context, state HostState) (int, error)
	// RetryDead makes dead letters pending again, with no attempts spent, due at once, and with this TTL. They take
	// their place in the order accepted: before what is pending of their ordering key, unless that was accepted before
	// them or is taken just now; should that come back, it comes behind them. Letters for a host that is blocked or unavailable
	// stay as they are. So do those that a tombstone supersedes (see Enqueue), of whatever role but Deletes: they are counted as
	// Superseded.
	RetryDead(ctx context.Context, which DeadLetterChoice, ttl time.Duration) (DeadLetterCount, error)
	// DeleteDead drops dead letters. Activities still count them as dead.
	DeleteDead(ctx context.Context, which DeadLetterChoice) (DeadLetterCount, error)
}

// Keys keeps private keys, sealed by the caller. A change is seen by every Key call on every node that starts after it
// returned; putting a key makes what waits for it (Result.WaitKey) due.
//
// One key is current under an ID. Beside it, keys that activities are pinned to (Activity.Pin) are kept by ID and
// fingerprint, each until nothing pends that it signs.
type Keys interface {
	// PutKey stores or replaces a key and reports whether it is new. A key that was to be removed when idle stays if it is
	// put without WhenIdle.
	PutKey(ctx context.Context, k Key) (created bool, err error)
	// Key returns the current key of an ID or, with a pin, the key with that fingerprint, or ErrNotFound. It is called for
	// every attempt and must cost next to nothing.
	Key(ctx context.Context, id, pin string) (Key, error)
	// Keys lists keys by ID and pin, each with how many deliveries wait to be signed by it.
	Keys(ctx context.Context, f KeyFilter, p Page) (List[Key], error)
	// DeleteKey removes the current key of an ID, or returns ErrNotFound. Deliveries that it would sign wait for it.
	DeleteKey(ctx context.Context, id string) error
	// RetireKey has Sweep remove the current key of an ID once nothing pends that it signs, or returns ErrNotFound.
	RetireKey(ctx context.Context, id string) error
	// ResealKeys replaces how keys are sealed, nothing else of them, and returns how many. A key that is sealed otherwise
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

// TakeShares are the priorities at which the takes of a lane begin, one after the other: of eight, five at High, two at
// Normal and one at Low, so that each gets its share.
var TakeShares = [...]Priority{High, Normal, High, High, Low, High, Normal, High}

// DueShares are the priorities at which Due begins, each time at a random one: of sixteen, nine at High, five at Normal and
// two at Low.
var DueShares = [...]Priority{
	High, High, High, High, High, High, High, High, High, Normal, Normal, Normal, Normal, Normal, Low, Low,
}

// SupersededAfter is how long a delivery waits before Take looks whether it is superseded: what waited less goes out in the
// order accepted, as receivers expect a Delete to follow its Create.
const SupersededAfter = time.Minute

// OfferTTL is how long a lane offered by Due is kept from others until it is taken.
const OfferTTL = time.Second

// HostRetention is how long a host that never answered is remembered after something was last sent to it. Failure days
// and the state unavailable last as long: a host to which something is sent each month keeps them.
const HostRetention = 30 * 24 * time.Hour

// PinGrace is how long a pinned key is kept though nothing pends for it: it is put before the activity that it signs.
const PinGrace = 10 * time.Minute

// NodeSilence is how long a node is listed that is not heard any more.
const NodeSilence = 3 * time.Second

// MaxIdle is the longest that Due lets an idle node sleep.
const MaxIdle = time.Minute
