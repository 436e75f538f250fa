package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/postrider/postrider/queue"
)

// feedKinds are the types of the feed's entries. Those of EventAction are only for callers who ask for them.
var feedKinds = []queue.EventKind{queue.EventDead, queue.EventHostState, queue.EventActivityDone, queue.EventDelivered, queue.EventAction}

// feedSort is the order of the feed.
type feedSort string

// newestFirst is the other order than that in which apps read the feed.
const newestFirst feedSort = "newest"

var feedSorts = []feedSort{"oldest", newestFirst}

// entry shows an event, which may be an entry of the feed. Which members it has depends on its type.
type entry struct {
	Type        string          `json:"type" enum:"dead,host_state,activity_done,delivered,action"`
	At          string          `json:"at" format:"date-time"`
	Cursor      string          `json:"cursor,omitempty" doc:"goes on behind this entry; absent if it is not kept in the feed"`
	ID          string          `json:"id,omitempty" doc:"of the delivery, or of the activity that is done or was cancelled"`
	ActivityID  string          `json:"activity_id,omitempty" doc:"the activity's own id"`
	Metadata    json.RawMessage `json:"metadata,omitempty" doc:"what the call that brought the activity said"`
	Inbox       string          `json:"inbox,omitempty"`
	IDs         []string        `json:"ids,omitempty" nullable:"false" doc:"of the actors behind the inbox, as the call named them"`
	Host        string          `json:"host,omitempty" doc:"absent with an action that is about no single host"`
	State       string          `json:"state,omitempty" enum:"healthy,throttled,refusing,failing,open,unavailable,paused,blocked,done,cancelled" doc:"of the host, or of the activity that is done"`
	Order       *orderView      `json:"order,omitempty" doc:"the order that paused or blocked the host"`
	By          string          `json:"by,omitempty" doc:"the name of the API token that changed the host's state, or did the action"`
	Action      string          `json:"action,omitempty" doc:"what was done" example:"host.block"`
	KeyID       string          `json:"key_id,omitempty" doc:"of the key that was changed"`
	Filter      *actionFilter   `json:"filter,omitempty" doc:"what an action on many was limited to; absent if to nothing"`
	Count       int             `json:"count,omitempty" doc:"how many an action on many changed: hosts, dead letters, deliveries or keys"`
	Reason      reason          `json:"reason,omitempty" doc:"why the delivery is dead"`
	Attempts    *int            `json:"attempts,omitempty"`
	LastAttempt *attempt        `json:"last_attempt,omitempty"`
	Counts      *counts         `json:"counts,omitempty" doc:"of the activity that is done"`
	URL         string          `json:"url,omitempty" doc:"where the activity can be watched"`
}

func entryOf(e *queue.Event) entry {
	v := entry{
		Type: string(e.Kind), At: stamp(e.At), Cursor: e.Cursor, ID: e.ID, ActivityID: e.URI, Metadata: e.Metadata, Inbox: e.Inbox,
		IDs: e.IDs, Host: e.Host, State: string(e.State), Reason: reason(e.Reason), LastAttempt: attemptView(e.Attempt),
	}
	switch e.Kind {
	case queue.EventHostState:
		v.Order, v.By = orderViewOf(e.Order), e.By
		return v
	case queue.EventAction:
		v.Order, v.By = orderViewOf(e.Order), e.By
		v.Action, v.ID = string(e.Action), e.ActivityID
		v.Filter, v.Count = actionFilterOf(e.Filter), e.Count
		v.KeyID = e.KeyID
		if e.ActivityID == "" {
			return v
		}
	case queue.EventActivityDone:
		v.ID, v.Counts = e.ActivityID, (*counts)(e.Counts)
		v.State = string(e.Counts.State())
	default:
		v.Attempts = &e.Attempts
	}
	v.URL = activityURL(e.ActivityID)
	return v
}

// feed is GET /v1/feed.
func (s *server) feed(r *http.Request, _ []byte) (reply, error) {
	q := queryOf(r)
	p := q.page()
	p.Cursor = q.Get("after")
	want := eventFilterOf(q, feedKinds)
	want.NewestFirst = oneOf(q, "sort", feedSorts) == newestFirst
	if q.err != nil {
		return reply{}, q.err
	}
	list, err := s.Queue.Feed(r.Context(), want, p)
	if errors.Is(err, queue.ErrBadCursor) {
		return reply{}, invalid("query.after", flaw{codeInvalidValue, "is not a cursor of this store's feed in this order"})
	}
	s.Metrics.feedRead(list.Items)
	return listReply(list, entryOf), err
}

// EncodeFeed encodes entries of the feed as a page of GET /v1/feed, with the cursor behind them.
func EncodeFeed(entries []queue.Event, next string) ([]byte, error) {
	var text bytes.Buffer
	err := encode(&text, listReply(queue.List[queue.Event]{Items: entries, Next: next}, entryOf).Body)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}
