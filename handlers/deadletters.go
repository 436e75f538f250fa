package handlers

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/postrider/postrider/queue"
)

// deadLetter shows a delivery that ended without being delivered.
type deadLetter struct {
	ID          string   `json:"id"`
	ActivityID  string   `json:"activity_id" doc:"the activity's own id"`
	Inbox       string   `json:"inbox"`
	Host        string   `json:"host"`
	Reason      string   `json:"reason" enum:"rejected,gone,expired,exhausted,host_blocked,host_unavailable,key_missing,private_address,lane_full"`
	Attempts    int      `json:"attempts"`
	LastAttempt *attempt `json:"last_attempt,omitempty"`
	DiedAt      string   `json:"died_at" format:"date-time"`
	URL         string   `json:"url" doc:"where the activity can be watched"`
}

func (s *server) listDeadLetters(r *http.Request, _ []byte) (reply, error) {
	p, err := pageOf(r)
	if err != nil {
		return reply{}, err
	}
	f, err := deadLetterFilter(r.URL.Query())
	if err != nil {
		return reply{}, err
	}
	list, err := s.Queue.DeadLetters(r.Context(), f, p)
	if err != nil {
		return reply{}, fmt.Errorf("list dead letters: %w", err)
	}
	return listReply(list, deadLetterOf), nil
}

const wantTime = "must be a time like 2006-01-02T15:04:05Z"

func deadLetterFilter(q url.Values) (f queue.DeadLetterFilter, err error) {
	if f.Reason, err = oneOf(q, "reason", queue.Reasons); err != nil {
		return f, err
	}
	if host := q.Get("host"); host != "" {
		if f.Host, err = normalised("query.host", host); err != nil {
			return f, err
		}
	}
	if since := q.Get("since"); since != "" {
		if f.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return f, invalid("query.since", wantTime)
		}
	}
	return f, nil
}

func deadLetterOf(d *queue.DeadLetter) deadLetter {
	return deadLetter{
		ID: d.ID, ActivityID: d.URI, Inbox: d.Inbox, Host: d.Host, Reason: string(d.Reason), Attempts: d.Attempts,
		LastAttempt: attemptView(d.LastAttempt), DiedAt: stamp(d.DiedAt), URL: activityURL(d.ActivityID),
	}
}
