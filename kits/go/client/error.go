package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// noInboxAccepted is the type of problem of a valid call that nobody is left to deliver for.
const noInboxAccepted = "/problems/no-inbox-accepted"

// Error is an answer of the node that is not a success: a problem document (RFC 9457), or, if a proxy answered, the status
// alone.
type Error struct {
	Status     int           `json:"status"`
	Type       string        `json:"type"`
	Title      string        `json:"title"`
	Detail     string        `json:"detail"`
	Errors     []Fault       `json:"errors"`
	RetryAfter time.Duration `json:"-"` // how long the node asks to wait, 0 if it does not say
}

// Fault is one of the faults of a call.
type Fault struct {
	Location string `json:"location"` // such as body.activity.id
	Message  string `json:"message"`  // for people; its wording may change
	Code     string `json:"code"`     // a stable word
	Inbox    string `json:"inbox"`    // of a rejected inbox, whose reason is the code
}

// Error returns a line that names the status and each fault.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	for _, f := range e.Errors {
		fmt.Fprintf(&b, "; %s: %s", f.Location, f.Message)
	}
	return b.String()
}

// Temporary reports whether the same call may succeed later.
func (e *Error) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError
}

// NoInboxAccepted reports whether the call was valid and each of its inboxes was rejected: Errors names them. There is
// nobody left to deliver to, and nothing to correct.
func (e *Error) NoInboxAccepted() bool { return e.Type == noInboxAccepted }

// newError reads an answer without success.
func newError(resp *http.Response, text []byte) *Error {
	e := &Error{}
	if resp.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(text, e) != nil {
		*e = Error{}
	}
	e.Status = resp.StatusCode
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return e
}

// retryAfter reads the value of the header: seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
