package queue

import (
	"time"

	"github.com/postrider/postrider/breaker"
)

// The types that Watching shows and Operating changes.

// DeliveryState is the state of a delivery that the store still holds.
type DeliveryState string

// The states of deliveries that can be listed.
const (
	StatePending DeliveryState = "pending"
	StateDead    DeliveryState = "dead"
)

// ActivityState is the state of an activity as a whole.
type ActivityState string

// The states of an activity: pending while any delivery is; cancelled if nothing pends and any was cancelled; else
// done.
const (
	ActivityPending   ActivityState = "pending"
	ActivityDone      ActivityState = "done"
	ActivityCancelled ActivityState = "cancelled"
)

// Waits is what a pending delivery waits for.
type Waits string

// What a pending delivery may wait for; where several hold, the first in this list that does.
const (
	WaitsAnswer      Waits = "answer"      // a node has taken it
	WaitsPredecessor Waits = "predecessor" // an older delivery of its chain goes first
	WaitsKey         Waits = "key"         // its key is missing
	WaitsHost        Waits = "host"        // the lane waits (Settlement.Wait), or the host is paused or blocked
	WaitsRetry       Waits = "retry"       // the time of its next attempt has not come
	WaitsTurn        Waits = "turn"        // it is due
)

// WaitsFor lists these.
var WaitsFor = []Waits{WaitsAnswer, WaitsPredecessor, WaitsKey, WaitsHost, WaitsRetry, WaitsTurn}

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
	ID, URI, Type, KeyID, Actor string
	Metadata                    []byte
	CreatedAt                   time.Time
	State                       ActivityState
	Counts                      Counts
}

// ActivityFilter narrows a list of activities. Zero fields don't.
type ActivityFilter struct {
	URI, Actor, KeyID, Type string
	State                   ActivityState
	Since                   time.Time // accepted then or later
}

// CancelChoice says which activities are meant: those with one of the URIs and those that the current or a pinned key of
// KeyID signs. At least one of the two is set; if both are, an activity has to match both.
type CancelChoice struct {
	URIs   []string
	KeyID  string
	DryRun bool // only count
}

// CancelCount counts the activities meant of which something was pending, and their deliveries that were, which are now
// cancelled, but for a dry run.
type CancelCount struct{ Activities, Deliveries int }

// DeliveryStatus describes a delivery that is pending or dead. In a list of one activity's deliveries it has nothing of the
// activity and no DiedAt.
type DeliveryStatus struct {
	ID, Inbox, Host string
	IDs             []string // as Recipient.IDs
	// Of the activity.
	ActivityID, URI, Type string
	Metadata              []byte
	Priority              Priority
	CreatedAt             time.Time // when it was accepted

	State         DeliveryState
	Waits         Waits  // if pending
	Reason        Reason // if dead
	Attempts      int
	NextAttemptAt time.Time // zero if dead, or waiting behind another of its ordering key
	DiedAt        time.Time // zero if pending
	History       History
}

// HostState is the one word for how a host is.
type HostState string

// The states of a host; where several hold, the last in this list that does.
const (
	HostHealthy     HostState = "healthy"
	HostThrottled   HostState = "throttled" // it waits because it asked to (429, or 503 with Retry-After)
	HostRefusing    HostState = "refusing"  // it answers, but its last answers were refusals (HostRecord.Refusing)
	HostFailing     HostState = "failing"   // the last attempt failed, the breaker is closed
	HostOpen        HostState = "open"      // the breaker is open or half-open
	HostUnavailable HostState = "unavailable"
	HostPaused      HostState = "paused"
	HostBlocked     HostState = "blocked"
)

// HostStates lists the states of a host.
var HostStates = []HostState{
	HostHealthy, HostThrottled, HostRefusing, HostFailing, HostOpen, HostUnavailable, HostPaused, HostBlocked,
}

// HostAction is what can be done to a host from outside.
type HostAction string

// The actions. Those that stop a host from getting anything let attempts in flight end as they will.
const (
	Pause   HostAction = "pause"   // nothing more is taken from its lane; what comes is accepted and waits; see Order
	Resume  HostAction = "resume"  // ends Pause
	Block   HostAction = "block"   // intake refuses it, and all that pends becomes dead letters (ReasonHostBlocked); see Order
	Unblock HostAction = "unblock" // ends Block; what is dead stays so
	// Reset makes the host one that never failed: the breaker closes, failures, days and the signature scheme are
	// forgotten, its wait ends, and what waits because the host failed is due. The holder of the lease can't undo that
	// (HostRecord.Epoch).
	Reset HostAction = "reset"
	// Probe ends the lane's wait, whatever for. Where the breaker is closed and nothing is due, the delivery that would
	// be due first is due at once.
	Probe HostAction = "probe"
	// Seen reports a sign of life from the host: where it is to be probed its wait ends SeenPause after it began, or
	// after the time that the host asked for, if that is sooner. It changes nothing else, because a host that reaches
	// us need not be reachable.
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
	ChangedAt       time.Time // when State last changed, zero if it never did
	Record          HostRecord
	// Orders are those that hold: pauses before blocks, and of each the host's own before those that cover it, the nearest first.
	Orders []HostOrder
}

// BreakerState is the state of the host's breaker now. The stored record says open until the probe has ended; as nothing
// else is attempted meanwhile, what is in flight is the probe.
func (h *HostStatus) BreakerState() breaker.State {
	if h.Record.Breaker.State == breaker.Open && h.InFlight > 0 {
		return breaker.HalfOpen
	}
	return h.Record.Breaker.State
}

// DeadLetter is a delivery that ended without being delivered.
type DeadLetter struct {
	ID, ActivityID, URI, Inbox, Host string
	IDs                              []string // as Recipient.IDs
	Metadata                         []byte   // the activity's
	Reason                           Reason
	Attempts                         int
	History                          History
	DiedAt                           time.Time
}

// HostFilter narrows a list of hosts, and says in which order it is. Zero fields don't narrow it.
type HostFilter struct {
	State        HostState
	Query        string    // part of the name
	ChangedSince time.Time // when the state last changed: then or later
	Sort         HostSort
}

// HostSort is the order of a list of hosts. The order of a list by what changes meanwhile is that of each page when it was
// read: a host may come twice, or not at all.
type HostSort string

// The orders of hosts.
const (
	ByName    HostSort = ""        // from a to z
	ByPending HostSort = "pending" // those with the most deliveries pending first; those with none are left out
	ByOldest  HostSort = "oldest"  // those with the oldest delivery pending first; those with none are left out
)

// DeadLetterFilter narrows a list of dead letters. Zero fields don't.
type DeadLetterFilter struct {
	Host   string
	Reason Reason
	Inbox  string // normalised; narrows the letters of its host
	URI    string // of the activity
	Since  time.Time
}

// DeadLetterChoice says which dead letters are meant: those with the IDs or, where IDs is empty, all that pass the
// filter and died before the call.
type DeadLetterChoice struct {
	IDs    []string
	Filter DeadLetterFilter
	DryRun bool // only count
}

// DeadLetterCount says how many dead letters were meant, with how many it was done, and how many were not retried
// because they are superseded (both 0 in a dry run).
type DeadLetterCount struct{ Matched, Done, Superseded int }

// Limits bound what a store holds. They may differ from one run to the next.
type Limits struct {
	Retention     time.Duration // how long a finished activity can be looked up; less than IdempotencyTTL counts as that
	DeadRetention time.Duration // how long dead letters and tombstones are kept; 0 is without end
	DeadLetters   int           // how many dead letters are kept, the newest; 0 is all
	Lane          int           // how many deliveries may be pending in a lane; 0 is any number
	Feed          FeedLimits
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
	Answers                   [AnswerKinds]int // how many hosts answered in each way last, but for AnsweredNever
	Delivered                 int64            // since the store was made
	Died                      map[Reason]int64 // dead letters made since the store was made
	Dropped                   int64            // dead letters dropped since then because there were too many
	PerSecond                 Rates
	OldestPendingAt           time.Time
	// OldestDueAt is since when the lane waits that has waited the longest, of those that Due could offer now; zero if it could
	// offer none. Suspect lanes (see Want) do not count, and one that was offered and not taken has waited since it can be offered
	// again.
	OldestDueAt time.Time
}

// Rates are deliveries per second, over the last minute or so.
type Rates struct{ Accepted, Delivered, Dead float64 }
