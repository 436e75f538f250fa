package queue

import (
	"crypto/sha256"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
)

// Priority says which of a lane's deliveries go first.
type Priority uint8

// The priorities, first to last.
const (
	High Priority = iota
	Normal
	Low
	Priorities = 3 // how many there are
)

// Role is what an activity does to the object that its ordering key names.
type Role uint8

// The roles.
const (
	Other   Role = iota
	Makes        // the Create of the object: needless once that is deleted
	Deletes      // a Delete of the object
)

// Activity is one ActivityPub activity: stored once, sent byte for byte.
type Activity struct {
	ID          string // ours: a UUID of version 7, so in order of time
	URI         string // the activity's own id
	Type        string // the activity's type, the first if it has several
	KeyID       string // the key that signs it, looked up for each attempt
	OrderingKey string // deliveries of one ordering key to one host go out in the order accepted
	Priority    Priority
	Role        Role              // what it does to what its ordering key names
	Body        []byte            // must not be modified
	Digest      [sha256.Size]byte // SHA-256 of Body, set by the back-end
	CreatedAt   time.Time         // set by the back-end
}

// Header is one more header to send to a recipient, and to sign.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Recipient is one inbox that an activity goes to.
type Recipient struct {
	Inbox   string // normalised, absolute
	Host    string // the lane: lower case, A-label, no default port, IPv6 in brackets
	Headers []Header
}

// Submission is one activity with all its recipients, accepted or refused as a whole.
type Submission struct {
	Activity
	Recipients  []Recipient // no two with one Inbox
	TTL         time.Duration
	Idempotency Idempotency
	Note        []byte // kept for the receipt; nothing here reads it
}

// Idempotency makes a repeated submission harmless: the same Key within 24 h gets the first receipt again if
// Fingerprint is the same too.
type Idempotency struct {
	Key         [32]byte
	Fingerprint [32]byte
}

// IdempotencyTTL is how long an idempotency key is remembered at least.
const IdempotencyTTL = 24 * time.Hour

// Receipt tells what became of a submission.
type Receipt struct {
	ID         string // the activity's, "" if nothing was stored
	URI        string
	Accepted   int // deliveries stored
	Duplicates int // recipients to whom the activity was pending already
	Superseded int // deliveries of other activities that this one cancelled
	Refused    []Refusal
	Note       []byte // the first submission's
	Replayed   bool   // nothing was stored: the idempotency key was known
}

// Refusal is one recipient that the store would not take.
type Refusal struct {
	Inbox  string `json:"inbox"`
	Reason Reason `json:"reason"` // ReasonHostBlocked or ReasonHostUnavailable
}

// Reason is why a delivery is dead.
type Reason string

// The closed set of reasons.
const (
	ReasonRejected        Reason = "rejected"         // an answer that retrying cannot change
	ReasonGone            Reason = "gone"             // 404 or 410
	ReasonExpired         Reason = "expired"          // outlived its TTL
	ReasonExhausted       Reason = "exhausted"        // used up its attempts
	ReasonHostBlocked     Reason = "host_blocked"     // an operator blocked the host
	ReasonHostUnavailable Reason = "host_unavailable" // the host failed for days
	ReasonKeyMissing      Reason = "key_missing"      // its key did not come back in time
	ReasonPrivateAddress  Reason = "private_address"  // the host is at an address that must not be dialled
	ReasonLaneFull        Reason = "lane_full"        // its lane held more than Limits.Lane
)

// Reasons lists the reasons.
var Reasons = []Reason{
	ReasonRejected, ReasonGone, ReasonExpired, ReasonExhausted, ReasonHostBlocked, ReasonHostUnavailable, ReasonKeyMissing,
	ReasonPrivateAddress, ReasonLaneFull,
}

// Want is how many lanes Due shall offer at most, and how many of these may be suspect: hosts whose last attempt failed
// or that were never reached (breaker.Record.Suspect).
type Want struct{ Lanes, Suspect int }

// Offer is Due's answer.
type Offer struct {
	Hosts []string
	Next  time.Duration
}

// Turn is what Take gave for one lease.
type Turn struct {
	Lease      lockmgr.Lease
	Host       HostRecord
	Deliveries []Delivery
	More       bool // there is more due now than was taken
}

// HostRecord is what is known of a host. It travels with the lane: only the holder of the lease changes it, by Settle.
type HostRecord struct {
	Breaker   breaker.Record `json:"breaker"`
	Scheme    string         `json:"scheme,omitempty"`    // the signature scheme known to work; "" if none is
	Throttles int            `json:"throttles,omitempty"` // answers in a row that asked to wait
	// Unavailable tells that the host failed for so many days that it is given up: intake refuses what goes there, and
	// Sweep buries what pends, but for its next probe.
	Unavailable bool         `json:"unavailable,omitempty"`
	LastError   *LastAttempt `json:"last_error,omitempty"`
	// Epoch is the store's: a record of an earlier epoch than the stored one (an operator reset the host meanwhile) is
	// dropped by Settle, and so is the wait that came with it.
	Epoch int64 `json:"epoch,omitempty"`
}

// Probed tells that the host gets one attempt at a time, the probe, until one succeeds.
func (h *HostRecord) Probed() bool { return h.Breaker.State != breaker.Closed || h.Unavailable }

// Forgiven returns the record of the host as if it had never failed.
func (h *HostRecord) Forgiven() HostRecord {
	return HostRecord{Breaker: h.Breaker.Forgiven(), Scheme: h.Scheme, Epoch: h.Epoch}
}

// Delivery is one activity to one inbox, as taken.
type Delivery struct {
	ID       string
	Activity *Activity // shared by deliveries; must not be modified
	Inbox    string
	Headers  []Header
	Attempts int  // spent so far
	Early    bool // a probe before the delivery's own time: it should spend no attempt
}

// Verdict is what shall become of a delivery.
type Verdict uint8

// The verdicts.
const (
	Delivered Verdict = iota // done; only counted from now on
	Retry                    // again after Result.After
	Defer                    // again after Result.After, or as before if that is 0; nothing was learnt of the host
	Dead                     // a dead letter, for Result.Reason
)

// Result is what came of one delivery that was taken.
type Result struct {
	ID      string
	Verdict Verdict
	After   time.Duration // with Retry and Defer
	// HostFailed marks a Retry that waits because the host failed, not this delivery: Settlement.Recovered makes it due.
	HostFailed bool
	Spent      bool         // an attempt was spent
	Reason     Reason       // with Dead
	WaitKey    bool         // with Defer: wait until the activity's key is put, or the TTL ends
	Attempt    *LastAttempt // the attempt made, nil if none was
}

// LastAttempt describes the last attempt of a delivery or the last error of a host.
type LastAttempt struct {
	At       time.Time     `json:"at"`
	Status   int           `json:"status,omitempty"` // HTTP status, 0 if there was no answer
	Outcome  string        `json:"outcome"`
	Error    string        `json:"error,omitempty"`
	Duration time.Duration `json:"duration"`
}

// Settlement is what a turn writes back.
type Settlement struct {
	Results []Result
	Host    *HostRecord // nil: unchanged
	// Wait keeps the whole lane from being due for this long (an open breaker, a Retry-After). 0 leaves a wait as it is,
	// negative ends it.
	Wait time.Duration
	// Recovered makes everything due that waits because the host failed (Result.HostFailed).
	Recovered bool
	// Release ends the turn: what was taken and not settled goes back untouched, and the lane is due again by its work.
	Release bool
}

// DeliveryState is the state of a delivery that the store still holds.
type DeliveryState string

// The states of deliveries that can be listed.
const (
	StatePending DeliveryState = "pending"
	StateDead    DeliveryState = "dead"
)

// ActivityState is the state of an activity as a whole.
type ActivityState string

// The states of an activity: pending while any delivery is; cancelled if nothing pends and any was cancelled; else done.
const (
	ActivityPending   ActivityState = "pending"
	ActivityDone      ActivityState = "done"
	ActivityCancelled ActivityState = "cancelled"
)

// Counts counts an activity's deliveries. Total is the sum of the others.
type Counts struct{ Total, Pending, Delivered, Dead, Cancelled int }

// State returns the state of an activity with these counts.
func (c Counts) State() ActivityState {
	switch {
	case c.Pending > 0:
		return ActivityPending
	case c.Cancelled > 0:
		return ActivityCancelled
	}
	return ActivityDone
}

// ActivityStatus describes an accepted activity.
type ActivityStatus struct {
	ID, URI, Type, KeyID string
	CreatedAt            time.Time
	State                ActivityState
	Counts               Counts
}

// DeliveryStatus describes a delivery that is pending or dead.
type DeliveryStatus struct {
	ID, Inbox, Host string
	State           DeliveryState
	Reason          Reason // if dead
	Attempts        int
	NextAttemptAt   time.Time // zero if dead, or waiting behind another of its ordering key
	LastAttempt     *LastAttempt
}

// HostState is the one word for how a host is.
type HostState string

// The states of a host; where several hold, the last in this list that does.
const (
	HostHealthy     HostState = "healthy"
	HostFailing     HostState = "failing" // the last attempt failed, the breaker is closed
	HostOpen        HostState = "open"    // the breaker is open or half-open
	HostUnavailable HostState = "unavailable"
	HostPaused      HostState = "paused"
	HostBlocked     HostState = "blocked"
)

// HostStates lists the states of a host.
var HostStates = []HostState{HostHealthy, HostFailing, HostOpen, HostUnavailable, HostPaused, HostBlocked}

// HostAction is what can be done to a host from outside.
type HostAction string

// The actions. Those that stop a host from getting anything let attempts in flight end as they will.
const (
	Pause   HostAction = "pause"   // nothing more is taken from its lane; what comes is accepted and waits
	Resume  HostAction = "resume"  // ends Pause
	Block   HostAction = "block"   // intake refuses it, and all that pends becomes dead letters (ReasonHostBlocked)
	Unblock HostAction = "unblock" // ends Block; what is dead stays so
	// Reset makes the host one that never failed: the breaker closes, failures and days are forgotten, its wait ends,
	// and what waits because the host failed is due. The holder of the lease can't undo that (HostRecord.Epoch).
	Reset HostAction = "reset"
	// Probe ends the lane's wait, whatever for. Where the breaker is closed and nothing is due, the delivery that would
	// be due first is due at once.
	Probe HostAction = "probe"
	// Seen tells that the host was heard from: where it is to be probed its wait ends SeenPause after it began, if that
	// is sooner. It changes nothing else, because who reaches us need not be reachable.
	Seen HostAction = "seen"
)

// HostActions lists the actions.
var HostActions = []HostAction{Pause, Resume, Block, Unblock, Reset, Probe, Seen}

// HostStatus describes a host.
type HostStatus struct {
	Host            string
	State           HostState
	Pending         int
	InFlight        int // taken by a node, as far as the window allows them to be attempted at once
	OldestPendingAt time.Time
	RetryAt         time.Time // when the lane's wait ends, zero if it has none
	Record          HostRecord
}

// DeadLetter is a delivery that ended without being delivered.
type DeadLetter struct {
	ID, ActivityID, URI, Inbox, Host string
	Reason                           Reason
	Attempts                         int
	LastAttempt                      *LastAttempt
	DiedAt                           time.Time
}

// HostFilter narrows a list of hosts. Zero fields don't.
type HostFilter struct {
	State HostState
	Query string // part of the name
}

// DeadLetterFilter narrows a list of dead letters. Zero fields don't.
type DeadLetterFilter struct {
	Host   string
	Reason Reason
	Since  time.Time
}

// DeadLetterChoice says which dead letters are meant: those with the IDs or, where IDs is empty, all that pass the
// filter and died before the call.
type DeadLetterChoice struct {
	IDs    []string
	Filter DeadLetterFilter
	DryRun bool // only count
}

// DeadLetterCount tells how many dead letters were meant, and with how many it was done (with none in a dry run).
type DeadLetterCount struct{ Matched, Done int }

// Limits bound what a store holds. They may differ from one run to the next.
type Limits struct {
	Retention     time.Duration // how long a finished activity can be looked up; less than IdempotencyTTL counts as that
	DeadRetention time.Duration // how long dead letters are kept; 0 is for ever
	DeadLetters   int           // how many dead letters are kept, the newest; 0 is all
	Lane          int           // how many deliveries may be pending in a lane; 0 is any number
}

// Page is a part of a list: Limit items after Cursor ("" for the first).
type Page struct {
	Limit  int // 1 to 500
	Cursor string
}

// List is one page; Next is the cursor of the next, "" on the last.
type List[T any] struct {
	Items []T
	Next  string
}

// Stats are the totals of the store.
type Stats struct {
	Activities, Pending, Dead int
	Hosts                     map[HostState]int
	Delivered                 int64            // since the store was made
	Died                      map[Reason]int64 // dead letters made since the store was made
	Dropped                   int64            // dead letters dropped since then because there were too many
	PerSecond                 Rates
	OldestPendingAt           time.Time
}

// Rates are deliveries per second, over the last minute or so.
type Rates struct{ Accepted, Delivered, Dead float64 }

// EventKind is what an event is about.
type EventKind string

// The kinds of events.
const (
	EventDelivered EventKind = "delivered"
	EventDead      EventKind = "dead"       // a delivery became a dead letter
	EventHostState EventKind = "host_state" // a host's state is another than before
)

// Event is something that happened. Which fields are set depends on its kind.
type Event struct {
	Kind  EventKind `json:"kind"`
	At    time.Time `json:"at"` // by the clock of the node that told it
	Host  string    `json:"host"`
	State HostState `json:"state,omitempty"` // of the host, with EventHostState

	// Of the delivery, with EventDelivered and EventDead.
	ID         string       `json:"id,omitempty"`
	ActivityID string       `json:"activity_id,omitempty"`
	URI        string       `json:"uri,omitempty"`
	Inbox      string       `json:"inbox,omitempty"`
	Reason     Reason       `json:"reason,omitempty"`
	Attempts   int          `json:"attempts,omitempty"`
	Attempt    *LastAttempt `json:"attempt,omitempty"`
}

// Key is a private key, sealed by whoever put it.
type Key struct {
	ID          string
	Algorithm   string
	PublicPEM   string
	Fingerprint string
	Sealed      []byte
	CreatedAt   time.Time // set by the back-end
}

// Reseal is the same key sealed anew.
type Reseal struct {
	ID       string
	Old, New []byte // sealed
}
