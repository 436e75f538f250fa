package queue

import (
	"time"

	"github.com/postrider/postrider/breaker"
)

// What Watching shows and Operating changes.

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
	// Seen tells that the host was heard from: where it is to be probed its wait ends SeenPause after it began, or after
	// the time that the host asked for, if that is sooner. It changes nothing else, because who reaches us need not be
	// reachable.
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

// BreakerState is the state of the host's breaker now. What is stored says open until the probe has ended; as nothing else
// is attempted meanwhile, what is in flight is the probe.
func (h *HostStatus) BreakerState() breaker.State {
	if h.Record.Breaker.State == breaker.Open && h.InFlight > 0 {
		return breaker.HalfOpen
	}
	return h.Record.Breaker.State
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
