package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Host is what the node knows of a host. Times are zero if there is none.
type Host struct {
	Host          string    `json:"host"`
	State         string    `json:"state"` // healthy, throttled, refusing, failing, open, unavailable, paused or blocked
	Pending       int       `json:"pending"`
	FailedOn      []string  `json:"failed_on"` // days in UTC, such as 2026-01-02
	Refusals      int       `json:"refusals"`
	LastSuccessAt time.Time `json:"last_success_at"`
	LastAnswerAt  time.Time `json:"last_answer_at"`
	LastError     *Attempt  `json:"last_error"`
	Orders        []Order   `json:"orders"` // pauses and blocks that hold: the host's own, and those that cover it
}

// Order is a pause or a block. PauseHost and BlockHost read Reason, Until and Subdomains.
type Order struct {
	Action     string    `json:"action,omitempty"` // pause or block
	Host       string    `json:"host,omitempty"`   // that it was given for
	Reason     string    `json:"reason,omitempty"` // for people: at most 500 characters
	By         string    `json:"by,omitempty"`     // the name of the token that gave it
	Since      time.Time `json:"since,omitzero"`
	Until      time.Time `json:"until,omitzero"`       // when it ends; zero is never
	Subdomains bool      `json:"subdomains,omitempty"` // it covers every host under this name
}

// Attempt is one attempt at a delivery.
type Attempt struct {
	At         time.Time `json:"at"`
	Status     int       `json:"status"` // 0 if there was no answer
	Outcome    string    `json:"outcome"`
	Error      string    `json:"error"`
	DurationMS int64     `json:"duration_ms"`
}

// Delivery is a delivery that is pending or dead. Times are zero if there is none.
type Delivery struct {
	ID            string          `json:"id"`
	ActivityID    string          `json:"activity_id"` // the activity's own id
	Type          string          `json:"type"`        // of the activity
	Priority      string          `json:"priority"`    // high, normal or low
	Metadata      json.RawMessage `json:"metadata"`    // of the call
	CreatedAt     time.Time       `json:"created_at"`  // when the activity was accepted
	Inbox         string          `json:"inbox"`
	IDs           []string        `json:"ids"` // of the actors behind the inbox, as the call named them
	Host          string          `json:"host"`
	State         string          `json:"state"`     // pending or dead
	WaitsFor      string          `json:"waits_for"` // answer, predecessor, key, host, retry or turn
	Reason        string          `json:"reason"`    // why it is dead
	Attempts      int             `json:"attempts"`
	NextAttemptAt time.Time       `json:"next_attempt_at"`
	LastAttempt   *Attempt        `json:"last_attempt"`
	URL           string          `json:"url"` // the path by which the activity is watched
}

// HostDeliveries lists what is pending for a host, in the order accepted.
func (c *Client) HostDeliveries(ctx context.Context, host string) iter.Seq2[Delivery, error] {
	return List[Delivery](ctx, c, "/v1/hosts/"+url.PathEscape(host)+"/deliveries", nil)
}

// Hosts lists the hosts in a state, or all hosts if that is empty, by name.
func (c *Client) Hosts(ctx context.Context, state string) iter.Seq2[Host, error] {
	query := url.Values{}
	if state != "" {
		query.Set("state", state)
	}
	return List[Host](ctx, c, "/v1/hosts", query)
}

// Host returns what the node knows of a host. A host that it never heard of is healthy.
func (c *Client) Host(ctx context.Context, host string) (h Host, err error) {
	_, err = c.Do(ctx, http.MethodGet, "/v1/hosts/"+url.PathEscape(host), nil, &h)
	return h, err
}

// ActOnHost does something to a host, known or not, and returns it afterwards. The action is one of pause, resume, block,
// unblock, reset, probe and seen. An app calls seen when it receives something from the host.
func (c *Client) ActOnHost(ctx context.Context, host, action string) (h Host, err error) {
	_, err = c.Do(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/"+url.PathEscape(action), nil, &h)
	return h, err
}

// PauseHost has the node make no attempts to a host; new deliveries are accepted and wait. Another pause replaces it.
func (c *Client) PauseHost(ctx context.Context, host string, o Order) (Host, error) {
	return c.order(ctx, host, "pause", o)
}

// ResumeHost ends a pause. It is an *Error with the status 409 if only the pause of another host covers this one.
func (c *Client) ResumeHost(ctx context.Context, host string) (Host, error) {
	return c.ActOnHost(ctx, host, "resume")
}

// BlockHost has the node refuse new deliveries to a host, and makes dead letters of those that pend. Another block replaces it.
func (c *Client) BlockHost(ctx context.Context, host string, o Order) (Host, error) {
	return c.order(ctx, host, "block", o)
}

// UnblockHost ends a block; dead letters stay. It is an *Error with the status 409 if only the block of another host covers
// this one.
func (c *Client) UnblockHost(ctx context.Context, host string) (Host, error) {
	return c.ActOnHost(ctx, host, "unblock")
}

func (c *Client) order(ctx context.Context, host, action string, o Order) (h Host, err error) {
	body, err := json.Marshal(Order{Reason: o.Reason, Until: o.Until, Subdomains: o.Subdomains})
	if err == nil {
		_, err = c.Do(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/"+action, body, &h)
	}
	return h, err
}
