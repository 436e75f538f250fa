package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"
)

// Call hands one activity over, for many inboxes. Activity, KeyID or Key, and an inbox or a recipient are needed.
type Call struct {
	Activity      Text           `json:"activity"` // sent to each inbox byte for byte
	KeyID         string         `json:"key_id,omitempty"`
	Key           *Key           `json:"key,omitempty"` // instead of KeyID: is stored first if it is new
	Inboxes       []string       `json:"inboxes,omitempty"`
	Recipients    []Recipient    `json:"recipients,omitempty"`
	Priority      string         `json:"priority,omitempty"` // high, normal or low
	OrderingKey   string         `json:"ordering_key,omitempty"`
	ExpiresIn     string         `json:"expires_in,omitempty"`     // a Go duration, such as 72h
	FinalStatuses []int          `json:"final_statuses,omitempty"` // answers that end a delivery at once, 400 to 499
	Metadata      map[string]any `json:"metadata,omitempty"`       // comes back in the feed, and is not sent to inboxes

	// IdempotencyKey makes it harmless to make the call again within 24 hours, by Deliver or in a Batch. By default Deliver
	// and Batch each make one, for their own repetitions.
	IdempotencyKey string `json:"idempotency_key,omitempty"`

	TraceParent string `json:"traceparent,omitempty"` // the place of the call in a trace, as the header of that name (W3C Trace Context) has it
	TraceState  string `json:"tracestate,omitempty"`  // what belongs to that
}

// Text is the text of an activity in UTF-8. In a call it is a JSON string, so no encoder changes it.
type Text []byte

// MarshalText implements encoding.TextMarshaler.
func (t Text) MarshalText() ([]byte, error) {
	if !utf8.Valid(t) {
		return nil, errors.New("the activity is not UTF-8")
	}
	return t, nil
}

// Recipient is an inbox with more than its URL.
type Recipient struct {
	Inbox       string            `json:"inbox,omitempty"`
	SharedInbox string            `json:"shared_inbox,omitempty"` // only for what may go there
	IDs         []string          `json:"ids,omitempty"`          // of the actors behind the inbox
	Headers     map[string]string `json:"headers,omitempty"`      // for this inbox only; they are signed
}

// Accepted is the answer to a call whose deliveries are durable.
type Accepted struct {
	ID           string      `json:"id"`          // of the node
	ActivityID   string      `json:"activity_id"` // the activity's own id
	Accepted     int         `json:"accepted"`    // deliveries made
	Duplicates   int         `json:"duplicates"`
	Rejected     []Rejection `json:"rejected"`
	RejectedMore int         `json:"rejected_more"` // how many were rejected beyond those listed
	URL          string      `json:"url"`           // the path by which the activity is watched
	Replayed     bool        `json:"replayed"`      // an earlier call with the same Idempotency-Key was accepted
}

// Rejection is an inbox that is not delivered to.
type Rejection struct {
	Inbox  string `json:"inbox"`
	Reason string `json:"reason"` // such as host_blocked
	Detail string `json:"detail"`
}

// Deliver hands an activity over. When it returns without an error, the deliveries are durable. If all inboxes were
// rejected, the error is an *Error for which NoInboxAccepted holds.
func (c *Client) Deliver(ctx context.Context, call Call) (Accepted, error) {
	body, err := encode(call)
	if err != nil {
		return Accepted{}, err
	}
	r := request{method: http.MethodPost, path: "/v1/activities", body: body, key: cmp.Or(call.IdempotencyKey, rand.Text())}
	a, err := c.send(ctx, r, c.patience)
	if err != nil {
		return Accepted{}, err
	}
	result := Accepted{Replayed: a.header.Get("Idempotent-Replayed") == "true"}
	return result, a.decode(&result)
}

// Result is the answer to one call of a batch: Err is nil if it was accepted.
type Result struct {
	Accepted
	Err *Error
}

// Batch hands up to 1,000 activities over in one call, and returns a result for each, in order. One that is refused does not
// affect the others. While the node cannot take some of them, Batch repeats all of them, so the order stays; if its patience
// ends, these have a temporary Err. A call with an IdempotencyKey of its own may come again in another batch.
func (c *Client) Batch(ctx context.Context, calls []Call) ([]Result, error) {
	var body bytes.Buffer
	for _, call := range calls {
		line, err := encode(call)
		if err != nil {
			return nil, err
		}
		body.Write(append(line, '\n'))
	}
	var results []Result
	r := request{
		method: http.MethodPost, path: "/v1/activities/batch", media: "application/x-ndjson", body: body.Bytes(), key: rand.Text(),
	}
	r.check = func(a answer) (err error) {
		if results, err = readResults(a.text, len(calls)); err != nil {
			return err
		}
		return firstTemporary(results)
	}
	_, err := c.send(ctx, r, c.patience)
	if results != nil {
		return results, nil
	}
	return nil, err
}

// readResults reads the lines of an answer to n calls. An answer of fewer lines broke off.
func readResults(text []byte, n int) ([]Result, error) {
	results := make([]Result, 0, n)
	for line := range bytes.Lines(text) {
		var r struct {
			Accepted
			Error
			RetryAfter int `json:"retry_after"`
		}
		if json.Unmarshal(line, &r) != nil {
			return nil, ErrNotPostrider
		}
		result := Result{Accepted: r.Accepted}
		if r.Status != http.StatusAccepted {
			r.Error.RetryAfter = time.Duration(r.RetryAfter) * time.Second
			result.Err = &r.Error
		}
		results = append(results, result)
	}
	if len(results) != n {
		return nil, fmt.Errorf("the node answered %d of %d calls", len(results), n)
	}
	return results, nil
}

// firstTemporary returns the first error that repeating may change.
func firstTemporary(results []Result) error {
	for _, r := range results {
		if r.Err != nil && r.Err.Temporary() {
			return r.Err
		}
	}
	return nil
}
