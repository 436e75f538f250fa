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
	Makes        // a Create of this object and nothing else (no Update, no Announce): Intake.Enqueue may cancel it
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
	Superseded int // deliveries of other activities that this one cancelled, as it Deletes what they would make
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
	Now        time.Time // the store's: what is counted by days goes by it, not by the node's clock
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
	// Asked is how much of Wait the host itself asked for (Retry-After), 0 if it didn't: Seen shortens only what is beyond.
	Asked time.Duration
	// Recovered makes everything due that waits because the host failed (Result.HostFailed).
	Recovered bool
	// Release ends the turn, and its lease with it: what was taken and not settled goes back untouched, and the lane is due
	// again by its work, which whoever is offered it can lease at once.
	Release bool
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
