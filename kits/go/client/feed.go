package client

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const defaultPoll = 2 * time.Second

// FeedOptions say what Feed reads.
type FeedOptions struct {
	// After is Entry.Cursor of the last entry that the caller handled; "" begins with the oldest entry, "now" with the next.
	After string
	Types []string      // such as dead; all but action if there are none
	Hosts []string      // all if there are none
	Poll  time.Duration // the pause at the end of the feed; 0 is 2 s
}

// Entry is an entry of the feed. Its members depend on its type.
type Entry struct {
	Type        string          `json:"type"` // dead, host_state, activity_done, delivered or action; ignore others
	At          time.Time       `json:"at"`
	Cursor      string          `json:"cursor"`      // FeedOptions.After to go on behind it
	ID          string          `json:"id"`          // of the delivery, or of the activity that is done
	ActivityID  string          `json:"activity_id"` // the activity's own id
	Metadata    json.RawMessage `json:"metadata"`    // of the call
	Inbox       string          `json:"inbox"`
	IDs         []string        `json:"ids"` // of the actors behind the inbox, as the call named them
	Host        string          `json:"host"`
	State       string          `json:"state"`  // of the host, or of the activity that is done
	Reason      string          `json:"reason"` // why the delivery is dead
	Attempts    int             `json:"attempts"`
	LastAttempt *Attempt        `json:"last_attempt"`
	Counts      *Counts         `json:"counts"` // of the activity that is done
	Order       *Order          `json:"order"`  // the pause or block that changed the host's state, or that was given
	By          string          `json:"by"`     // the name of the token that changed the host's state, or did the action
	Action      string          `json:"action"` // what was done, such as host.block
	KeyID       string          `json:"key_id"` // of the key that was changed
	Count       int             `json:"count"`  // how many an action on many changed; Data has its filter
	URL         string          `json:"url"`    // the path by which the activity is watched
	Data        json.RawMessage `json:"-"`      // the whole entry, as the node sent it
}

// Counts are the deliveries of an activity.
type Counts struct {
	Total     int `json:"total"`
	Pending   int `json:"pending"`
	Delivered int `json:"delivered"`
	Dead      int `json:"dead"`
	Cancelled int `json:"cancelled"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Entry) UnmarshalJSON(text []byte) error {
	type plain Entry
	e.Data = slices.Clone(text)
	return json.Unmarshal(text, (*plain)(e))
}

// Feed returns the entries of the feed, oldest first, and waits for new ones until ctx ends. It survives restarts of the
// node: calls that get no answer, 429 or 5xx are repeated, however long that takes. It ends with an error: the context's, or
// that of a call that cannot succeed.
//
// The caller keeps the cursor: it stores Entry.Cursor once it has handled the entry, in the same transaction if it can, and
// gives it as FeedOptions.After after a restart. An entry may come again, so handling it twice must do no harm.
func (c *Client) Feed(ctx context.Context, o FeedOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		after := o.After
		for {
			page, err := c.feedPage(ctx, o, after)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range page.Items {
				if !yield(e, nil) {
					return
				}
			}
			atEnd := page.Next == "" || page.Next == after
			after = cmp.Or(page.Next, after)
			if atEnd && !sleep(ctx, cmp.Or(o.Poll, defaultPoll)) {
				yield(Entry{}, ctx.Err())
				return
			}
		}
	}
}

// feedPage returns the entries behind a cursor.
func (c *Client) feedPage(ctx context.Context, o FeedOptions, after string) (p page[Entry], err error) {
	query := url.Values{"limit": {"500"}}
	if after != "" {
		query.Set("after", after)
	}
	if len(o.Types) > 0 {
		query["type"] = o.Types
	}
	if len(o.Hosts) > 0 {
		query["host"] = o.Hosts
	}
	r := request{method: http.MethodGet, path: "/v1/feed?" + query.Encode()}
	a, err := c.send(ctx, r, math.MaxInt64)
	if err != nil {
		return p, err
	}
	return p, a.decode(&p)
}
