package queue

import (
	"context"
	"time"
)

// Moving hands all that a store holds to another store, of whatever kind. While a store is moved nobody may work on
// it, nor on the one that it is moved to: what changes meanwhile may be missed.
type Moving interface {
	// Export hands over everything worth keeping, one record at a time, until next returns an error: keys, then orders that
	// cover hosts, then hosts, then activities and tombstones in the order accepted, and receipts last. A record must not be
	// kept longer than it is needed: a large fan-out is one record.
	Export(ctx context.Context, next func(Record) error) error
	// Import stores records of another store, each whole or not at all, and returns how many were new: what is there
	// already (the same key, order, host, activity, tombstone's object or idempotency key) is left as it is. So a move that was cut short is simply
	// made again. Records must come as Export gave them. After ErrFull it can go on once there is room.
	Import(ctx context.Context, records []Record) (stored int, err error)

	// Mark returns why no node may work on the store, zero if it may. The store does not enforce it: the program that opens a
	// store has to ask.
	Mark(ctx context.Context) (Mark, error)
	// SetMark marks the store; "" takes the mark away.
	SetMark(ctx context.Context, text string) error
}

// Mark says that a store must not be worked on.
type Mark struct {
	Text   string // why, "" if it is not marked
	Remove string // the command by which an operator takes it away
}

// Record is one thing that a store holds, on its way to another: exactly one field is set.
type Record struct {
	Key       *Key        // with CreatedAt
	Order     *MovedOrder // one with Subdomains; its host has it, too
	Host      *MovedHost
	Activity  *MovedActivity
	Tombstone *MovedTombstone
	Receipt   *MovedReceipt
}

// MovedHost is a host and its lane, without the deliveries.
type MovedHost struct {
	Host      string
	Record    HostRecord
	Wait      time.Duration // what is left of the lane's wait
	Waited    time.Duration // since when SeenPause counts: how long ago, negative if the host asked for longer
	Hastened  int           // how many probes Seen hastened since the last success
	ChangedAt time.Time     // when its state last changed, zero if it never did
	Orders    []MovedOrder  // its own: at most a Pause and a Block
}

// MovedOrder is an order that holds.
type MovedOrder struct {
	Host   string
	Action HostAction // Pause or Block
	Order             // For is what is left of it
	Since  time.Time
}

// MovedActivity is an activity with all its deliveries that are kept. It keeps its ID; the deliveries keep their order,
// dead letters too for when they are retried, but may get other IDs.
type MovedActivity struct {
	Activity                                 // Body only if there are deliveries; Digest is not used
	Delivered, Dead, Cancelled int           // counts of what is in no delivery below
	Finished                   time.Duration // how long ago it was, if nothing pends
	Deliveries                 []MovedDelivery
}

// MovedDelivery is a delivery that is pending or, if it has a Reason, a dead letter.
type MovedDelivery struct {
	Recipient
	Attempts int
	History  History

	After      time.Duration // what is left until its next attempt, negative if it has been due for so long
	TTL        time.Duration // what is left until it expires; those that were retried may have more or less than the others
	HostFailed bool          // it waits because the host failed
	WaitKey    bool          // it waits for its key

	Reason Reason
	DiedAt time.Time
}

// MovedTombstone is what the Delete of an object left (Intake.Enqueue). Among the records it comes after the activities
// that it supersedes, and before those accepted after the Delete.
type MovedTombstone struct {
	Object     string
	Deletion   string    // the URI of the Delete
	ActivityID string    // the Delete's own, which may be gone
	CreatedAt  time.Time // when the Delete was accepted
}

// MovedReceipt makes a call that was made before the move get its first answer after it.
type MovedReceipt struct {
	Idempotency
	Receipt
	TTL time.Duration // what is left of the time for which it is remembered
}
