package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/postrider/postrider/queue"
)

// retryAway is how long a caller is asked to wait for a store or node that is away.
const retryAway = 5 * time.Second

// problem is an error answer, RFC 9457, and an error. Endpoints return it for faults of the caller.
type problem struct {
	Type   string  `json:"type" doc:"always about:blank: the status says it all" example:"about:blank"`
	Title  string  `json:"title" example:"Unprocessable Entity"`
	Status int     `json:"status" example:"422"`
	Detail string  `json:"detail,omitempty" example:"the call is not valid"`
	Errors []fault `json:"errors,omitempty" nullable:"false" doc:"each fault with its place"`

	retryAfter time.Duration
}

// fault is one thing wrong with a request. The last three are set where it is an inbox that was rejected.
type fault struct {
	Location string `json:"location" doc:"where the fault is, beginning with body, query, path or header" example:"body.activity.id"`
	Message  string `json:"message" example:"is missing"`
	Inbox    string `json:"inbox,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Error makes a problem an error.
func (p *problem) Error() string { return fmt.Sprintf("%d %s", p.Status, p.Detail) }

// invalid is a 422 with one fault.
func invalid(location, message string) *problem {
	return unprocessable(fault{Location: location, Message: message})
}

// unprocessable is a 422 with the faults given.
func unprocessable(faults ...fault) *problem {
	return &problem{Status: http.StatusUnprocessableEntity, Detail: "the call is not valid", Errors: faults}
}

// fail answers a request with the problem that err is. What the caller needn't know is kept for the log.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError {
		visitOf(r).err = err
	}
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.retryAfter/time.Second)))
	}
	write(w, reply{Status: p.Status, Body: p}, "application/problem+json")
}

// problemOf finds the answer to an error. One that is no sentinel of the queue means that the store is away.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return &problem{Status: http.StatusNotFound, Detail: "there is no such thing, or not any more"}
	case errors.Is(err, queue.ErrBadCursor):
		return invalid("query.cursor", "is not a cursor that this list gave")
	case errors.Is(err, queue.ErrIdempotencyMismatch):
		return invalid("header.Idempotency-Key", "was used with other bytes before")
	case errors.Is(err, queue.ErrBusy):
		return &problem{Status: http.StatusTooManyRequests, Detail: "too many calls at once", retryAfter: time.Second}
	case errors.Is(err, queue.ErrFull):
		return &problem{Status: http.StatusServiceUnavailable, Detail: "the store is full", retryAfter: time.Minute}
	case errors.Is(err, queue.ErrClosed), errors.Is(err, context.Canceled):
		return &problem{Status: http.StatusServiceUnavailable, Detail: "the node is stopping", retryAfter: retryAway}
	default:
		return &problem{Status: http.StatusServiceUnavailable, Detail: "the store is away", retryAfter: retryAway}
	}
}
