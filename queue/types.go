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

// Role is what an activity does to its object (Activity.Object).
type Role uint8

// The roles.
const (
	Other    Role = iota
	Makes         // a Create of Object
	Deletes       // a Delete of Object
	Restores      // an Undo of a Delete: of the Delete of Object or, if that is "", of the one whose URI is Refers
	Roles    = 4  // how many there are
)

// Activity is one ActivityPub activity: stored once, sent byte for byte. Its JSON is what a store may keep in one text.
type Activity struct {
	ID    string `json:"-"`               // ours: a UUID of version 7, so in order of time
	URI   string `json:"-"`               // the activity's own id
	Type  string `json:"type"`            // the activity's type, the first if it has several
	Actor string `json:"actor,omitempty"` // the ID of its actor, "" if it names none
	KeyID string `json:"key_id"`          // the key that signs it, looked up for each attempt
	// OrderingKey orders deliveries: those that have the same one and go to the same inbox form a chain, and go out in
	// the order accepted.
	OrderingKey string `json:"ordering_key"`
	// Refers is the URI of an activity that this one undoes or answers and names by its ID only, else "".
	//
	// If Refers is not "" and OrderingKey == Refers, the activity takes the ordering key of the newest pending activity
	// with that URI, if there is one. The store decides this once, when it accepts the activity, in constant time.
	//
	// With any other OrderingKey (the caller chose one), Refers changes no chain and only names the Delete that a
	// Restores undoes.
	Refers string `json:"-"`
	// Object identifies the one object that the activity is about, whatever the OrderingKey. It is "" if there is none
	// or if there are several, and where Restores only has Refers. It is the object's ID or, if a group announces the
	// activity of someone else, something that stands for that ID and the group's together. Stores only compare it.
	Object    string            `json:"object,omitempty"`
	Role      Role              `json:"role,omitempty"` // what it does to Object
	Priority  Priority          `json:"-"`
	Final     []int             `json:"final,omitempty"` // the statuses, of 400 to 499, that end a delivery as rejected at once
	Pin       string            `json:"pin,omitempty"`   // the fingerprint of the only key under KeyID that may sign it, "" for the one there when it is signed
	Metadata  []byte            `json:"-"`               // a JSON object of the app's, at most 4 KiB, or nil; it comes back and is never sent
	Trace     []byte            `json:"trace,omitempty"` // the call's place in a trace (telemetry.PackTrace), or nil; stores only keep it, and it is never sent
	Body      []byte            `json:"-"`               // must not be modified
	Digest    [sha256.Size]byte `json:"-"`               // SHA-256 of Body, set by the back-end
	CreatedAt time.Time         `json:"-"`               // set by the back-end
}

// KeyName returns the name of the key that signs the activity.
func (a *Activity) KeyName() string { return KeyName(a.KeyID, a.Pin) }

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
	IDs     []string // the IDs of the actors behind the inbox, as the app named them; they come back and are never sent
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
// Fingerprint is the same too. The zero Key is none: such a submission stands for itself.
type Idempotency struct {
	Key         [32]byte
	Fingerprint [32]byte
}

// IdempotencyTTL is how long an idempotency key is remembered at least.
const IdempotencyTTL = 24 * time.Hour

// Receipt is the answer to a submission.
type Receipt struct {
	ID         string // the activity's, "" if nothing was stored
	URI        string
	Accepted   int // deliveries stored
	Duplicates int // recipients for whom the same activity was the newest pending with its ordering key
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
	ReasonDamaged         Reason = "damaged"          // what the store holds of it was changed by a fault, and cannot be sent
)

// Reasons lists the reasons.
var Reasons = []Reason{
	ReasonRejected, ReasonGone, ReasonExpired, ReasonExhausted, ReasonHostBlocked, ReasonHostUnavailable, ReasonKeyMissing,
	ReasonPrivateAddress, ReasonLaneFull, ReasonDamaged,
}

// Want is how many lanes Due shall offer at most, and how many of these may be suspect: hosts whose last attempt
// failed, that are slow, or that were never reached (breaker.Record.Suspect).
type Want struct {
	Lanes, Suspect int
	// Choosy says that the caller is about to pass over most of what it is offered: other nodes are to look for it, too.
	Choosy bool
}

// Offer is Due's answer.
type Offer struct {
	Hosts    []string
	Suspects []string // those of Hosts that are suspect
	Next     time.Duration
}

// Turn is what Take gave for one lease.
type Turn struct {
	Lease      lockmgr.Lease
	Host       HostRecord
	Now        time.Time // by the store's clock, as all times of Host are: what is counted by days goes by it
	Deliveries []Delivery
	More       bool // there is more due now than was taken
}

// HostRecord is what is known of a host. It travels with the lane: only the holder of the lease changes it, by Settle.
type HostRecord struct {
	Breaker   breaker.Record `json:"breaker"`
	Scheme    string         `json:"scheme,omitempty"`    // the signature scheme known to work; "" if none is
	Throttles int            `json:"throttles,omitempty"` // turns in a row in which it asked to wait and took nothing
	Refusals  int            `json:"refusals,omitempty"`  // answers in a row that were refusals: 3xx and 4xx, but for 404, 410 and 429
	// Unavailable reports that the host failed on so many days that it gets probes only: intake refuses what goes
	// there, and Sweep buries what pends, but for its next probe.
	Unavailable bool         `json:"unavailable,omitempty"`
	LastAnswer  time.Time    `json:"last_answer,omitzero"`  // when it last answered, whatever it said; zero if it never did
	LastSuccess time.Time    `json:"last_success,omitzero"` // when it last answered with a 2xx; zero if it never did
	LastError   *LastAttempt `json:"last_error,omitempty"`  // the last attempt that got no 2xx; later successes keep it
	// Doubts counts the times in a row, well apart, that a host whose Scheme is draft-cavage took RFC 9421 only.
	// DoubtedAt is the last of them.
	Doubts    int       `json:"doubts,omitempty"`
	DoubtedAt time.Time `json:"doubted_at,omitzero"`
	// RefusedAt is when the host last refused both schemes in one attempt, zero if it has taken one since.
	RefusedAt time.Time `json:"refused_at,omitzero"`
	// Epoch is the store's: a record of an earlier epoch than the stored one (an operator reset the host meanwhile) is
	// dropped by Settle, and so is the wait that came with it.
	Epoch int64 `json:"epoch,omitempty"`
}

// Probed reports whether the host gets one attempt at a time, the probe, until one succeeds.
func (h *HostRecord) Probed() bool { return h.Breaker.State != breaker.Closed || h.Unavailable }

// Forgiven returns the record of the host as if it had never failed, nor shown which signature scheme it takes.
func (h *HostRecord) Forgiven() HostRecord {
	return HostRecord{
		Breaker: h.Breaker.Forgiven(), LastAnswer: h.LastAnswer, LastSuccess: h.LastSuccess, Epoch: h.Epoch,
	}
}

// Shifted returns the record with its times moved by d, but for that of the last error, which nothing is counted from.
func (h HostRecord) Shifted(d time.Duration) HostRecord {
	h.Breaker = h.Breaker.Shifted(d)
	for _, at := range []*time.Time{&h.LastAnswer, &h.LastSuccess, &h.DoubtedAt, &h.RefusedAt} {
		if !at.IsZero() {
			*at = at.Add(d)
		}
	}
	return h
}

// Delivery is one activity to one inbox, as taken.
type Delivery struct {
	ID       string
	Activity *Activity // shared by deliveries; must not be modified
	Inbox    string
	Headers  []Header
	IDs      []string // as Recipient.IDs
	Attempts int      // spent so far
	Early    bool     // a probe before the delivery's own time: it should spend no attempt
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

// Flags of a pending delivery, as the stores keep them. They are stored, so no number changes its meaning.
const (
	FlagHostFailed = 1 << iota // it waits because the host failed: Settlement.Recovered makes it due
	FlagWaitsKey               // it waits for its key
	FlagTaken                  // a turn has it
	FlagGone                   // it ended while it was taken, and leaves when that is over (only in memory)
	FlagTried                  // it was attempted, whether or not that spent an attempt
	FlagHeaded                 // it has headers of its own
	FlagRevived                // it was a dead letter: it has a TTL of its own
)

// Result is what came of one delivery that was taken.
type Result struct {
	ID      string
	Verdict Verdict
	After   time.Duration // with Retry and Defer
	// HostFailed marks a Retry that waits because the host failed, not this delivery: Settlement.Recovered makes it
	// due.
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

// HistoryLength is how many attempts of a delivery are kept while it is pending or dead.
const HistoryLength = 5

// History is the last attempts of a delivery, the newest first, at most HistoryLength of them.
type History []LastAttempt

// Last returns the newest attempt, nil if there was none.
func (h History) Last() *LastAttempt {
	if len(h) == 0 {
		return nil
	}
	return &h[0]
}

// With returns the history with one more attempt, or as it is if that is nil. It shares no memory with h.
func (h History) With(attempt *LastAttempt) History {
	if attempt == nil {
		return h
	}
	return append(History{*attempt}, h[:min(len(h), HistoryLength-1)]...)
}

// Settlement is what a turn writes back.
type Settlement struct {
	Results []Result
	Host    *HostRecord // nil: unchanged
	// Wait keeps the whole lane from being due for this long (an open breaker, a Retry-After). 0 leaves a wait as it
	// is, negative ends it.
	Wait time.Duration
	// Asked is how much of Wait the host itself asked for (Retry-After), 0 if it didn't: Seen shortens only what is
	// beyond.
	Asked time.Duration
	// Recovered makes everything due that waits because the host failed (Result.HostFailed).
	Recovered bool
	// Release ends the turn, and its lease with it, unless Settle gives deliveries: what was taken and not settled goes
	// back untouched, and the lane is due again by its work, and the node that it is offered to can lease it at once.
	Release bool
}

// Key is a private key, sealed by the caller that put it. Its JSON is what a store may keep in one text.
type Key struct {
	ID          string    `json:"id"`
	Pin         string    `json:"pin,omitempty"` // the fingerprint again if it is kept beside the one that is current under ID, for what is pinned to it
	Algorithm   string    `json:"algorithm"`
	PublicPEM   string    `json:"public_pem"`
	Fingerprint string    `json:"fingerprint"`
	Sealed      []byte    `json:"sealed"`
	WhenIdle    bool      `json:"-"` // it is removed once nothing pends that it signs; always so if it is pinned
	CreatedAt   time.Time `json:"-"` // set by the back-end
	Pending     int       `json:"-"` // how many deliveries wait to be signed by it; set by Keys.Keys only
}

// KeyName returns one text for a key's ID and pin: the pin stands behind a line break, which no ID holds.
func KeyName(id, pin string) string {
	if pin == "" {
		return id
	}
	return id + "\n" + pin
}

// Name returns the key's name, see KeyName.
func (k *Key) Name() string { return KeyName(k.ID, k.Pin) }

// KeyFilter narrows a list of keys. Zero fields don't, but pinned keys are listed only where Pinned is set.
type KeyFilter struct {
	ID     string
	Pinned bool
}

// Reseal is the same key sealed with another master key.
type Reseal struct {
	Name     string // see KeyName
	Old, New []byte // sealed
}
