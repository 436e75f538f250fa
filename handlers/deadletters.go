package handlers

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// deadLetter shows a delivery that ended without being delivered.
type deadLetter struct {
	ID          string   `json:"id"`
	ActivityID  string   `json:"activity_id" doc:"the activity's own id"`
	Inbox       string   `json:"inbox"`
	IDs         []string `json:"ids,omitempty" nullable:"false" doc:"of the actors behind the inbox, as the call named them"`
	Host        string   `json:"host"`
	Reason      reason   `json:"reason"`
	Attempts    int      `json:"attempts"`
	LastAttempt *attempt `json:"last_attempt,omitempty"`
	DiedAt      string   `json:"died_at" format:"date-time"`
	URL         string   `json:"url" doc:"where the activity can be watched"`

	History  []*attempt      `json:"history" nullable:"false" doc:"the last five attempts, newest first"`
	Metadata json.RawMessage `json:"metadata,omitempty" doc:"what the call that brought the activity said"`
}

// filterNames are the members of a filter, in calls and queries.
var filterNames = []string{"host", "reason", "since", "inbox", "activity_id"}

func deadLetterFilter(q *query) (f queue.DeadLetterFilter) {
	for _, name := range filterNames {
		if value := q.Get(name); value != "" && q.err == nil {
			q.err = setFilter(&f, "query", name, value)
		}
	}
	return f
}

// setFilter sets a member of a filter to a value that stands in the query or the body.
func setFilter(f *queue.DeadLetterFilter, part, name, value string) (err error) {
	location := part + "." + name
	switch name {
	case "host":
		f.Host, err = normalised(location, value)
	case "reason":
		if f.Reason = queue.Reason(value); !slices.Contains(queue.Reasons, f.Reason) {
			err = invalid(location, mustBeOneOf(queue.Reasons))
		}
	case "since":
		if f.Since, err = time.Parse(time.RFC3339, value); err != nil {
			err = invalid(location, notATime)
		}
	case "inbox":
		f.Inbox = value
	case "activity_id":
		f.URI = value
	}
	return err
}

func deadLetterOf(d *queue.DeadLetter) deadLetter {
	return deadLetter{
		ID: d.ID, ActivityID: d.URI, Inbox: d.Inbox, Host: d.Host, Reason: reason(d.Reason), Attempts: d.Attempts,
		IDs: d.IDs, LastAttempt: attemptView(d.History.Last()), DiedAt: stamp(d.DiedAt), URL: activityURL(d.ActivityID),
		History: views(d.History, attemptView), Metadata: d.Metadata,
	}
}
