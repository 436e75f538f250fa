package queue

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// Feed tells an app what became of what it handed over. Its entries are written in the step that makes them true, so a
// crash can neither lose nor invent one. An entry is an Event of one of these kinds:
//
//   - EventDead: a delivery became a dead letter, for whatever reason.
//   - EventHostState: a host's state is another than before. A host that was just heard of is healthy, which is no change.
//   - EventActivityDone: nothing of an activity is pending any more. If dead letters of it are retried, it is done again when
//     these have ended. An activity of which all is duplicate is done at once.
//   - EventDelivered, if FeedLimits.Delivered is set on the node that settles.
//   - EventAction: somebody changed something through the API. Operating and Keys say which of their calls leave one;
//     FeedAction adds those of the others. These entries are listed only if their kind is asked for.
//
// Every entry is listed at least once; after a fault it may be listed again, at another place. Entries about one host are
// listed in the order in which they happened, and an activity's EventActivityDone after those about its deliveries.
//
// Sweep drops entries that are older than FeedLimits.Retention, and the oldest above FeedLimits.Cap, whether or not they
// have been read. Moving leaves the feed behind: the other store begins one of its own.
type Feed interface {
	// Feed lists entries, oldest first unless the filter says otherwise. Unlike in other lists, Next is always set: it goes on with what happens later. A
	// page may be shorter than its limit, or empty, before the end, because a call looks at a bounded number of entries,
	// whatever the filter leaves out. Event.Cursor goes on behind that entry.
	//
	// The cursor "" is before the oldest entry, FeedEnd behind the newest. After entries were dropped, a cursor before them
	// goes on with the oldest that is kept. A cursor that this store did not give is ErrBadCursor.
	//
	// Newest first, "" and FeedEnd are behind the newest entry, a cursor goes on with older ones, and Next is "" once the oldest
	// was passed. Entries that come meanwhile are not listed. Those about one host are listed in the reverse of the order in
	// which they happened, and all of them by their times. A cursor of the other order is ErrBadCursor.
	Feed(ctx context.Context, f FeedFilter, p Page) (List[Event], error)

	// FeedAction adds an entry of EventAction, about a call that worked in many steps and has ended. Its text must be bounded.
	FeedAction(ctx context.Context, e Event) error

	// FeedPosition returns the cursor that a reader left in the store, "" if it left none. Readers have names of at most
	// 100 bytes.
	FeedPosition(ctx context.Context, reader string) (cursor string, err error)
	// SetFeedPosition leaves a cursor for FeedPosition.
	SetFeedPosition(ctx context.Context, reader, cursor string) error
}

// FeedEnd is the cursor behind the newest entry.
const FeedEnd = "now"

// FeedFilter narrows the feed, and says in which order it is. Empty fields don't narrow it, but for EventAction, which Kinds has
// to name.
type FeedFilter struct {
	Kinds       []EventKind
	Hosts       []string // an EventActivityDone is about no host, and nor are some of EventAction
	NewestFirst bool
}

// Passes reports whether an entry passes the filter.
func (f *FeedFilter) Passes(e *Event) bool {
	if len(f.Kinds) == 0 && e.Kind == EventAction || len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind) {
		return false
	}
	return len(f.Hosts) == 0 || slices.Contains(f.Hosts, e.Host)
}

// FeedLimits say what the feed keeps.
type FeedLimits struct {
	Retention time.Duration // how long an entry is kept; 0 is without end
	Cap       int           // how many entries are kept, the newest; 0 is all
	Delivered bool          // whether there are entries of EventDelivered
}

// EventKind is what an event is about.
type EventKind string

// The kinds of events. EventFed is never an entry of the feed: it says that the feed has new ones.
const (
	EventDelivered    EventKind = "delivered"
	EventDead         EventKind = "dead"
	EventHostState    EventKind = "host_state"
	EventActivityDone EventKind = "activity_done"
	EventAction       EventKind = "action"
	EventFed          EventKind = "fed"
)

// Event is something that happened. Which fields are set depends on its kind.
type Event struct {
	Cursor string    `json:"-"` // of an entry of the feed: the place behind it
	Kind   EventKind `json:"kind,omitempty"`
	At     time.Time `json:"at,omitzero"`    // by the store's clock or, if it is no entry, that of the node that told it
	Host   string    `json:"host,omitempty"` // but for EventActivityDone, and for an EventAction that is about no single host

	// Of the host, with EventHostState.
	State HostState  `json:"state,omitempty"`
	Order *HostOrder `json:"order,omitempty"` // that made it so, if it is paused or blocked; of EventAction, that was given
	By    string     `json:"by,omitempty"`    // the name of the token that did, "" if no operator did or there is none; also of EventAction

	// Of what was done, with EventAction.
	Action Action        `json:"action,omitempty"`
	KeyID  string        `json:"key_id,omitempty"` // of the key that was changed
	Filter *ActionFilter `json:"filter,omitempty"` // that chose many, nil if there was none
	Count  int           `json:"count,omitempty"`  // how many were changed, 0 if the action is about a single one

	// Of the activity, with all kinds but EventHostState; with EventAction only if it is about one.
	ActivityID string          `json:"activity_id,omitempty"` // ours
	URI        string          `json:"uri,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	Counts     *Counts         `json:"counts,omitempty"` // with EventActivityDone

	// Of the delivery, with EventDelivered and EventDead.
	ID       string       `json:"id,omitempty"`
	Inbox    string       `json:"inbox,omitempty"`
	IDs      []string     `json:"ids,omitempty"`
	Reason   Reason       `json:"reason,omitempty"`
	Attempts int          `json:"attempts,omitempty"`
	Attempt  *LastAttempt `json:"attempt,omitempty"` // the last one
}
