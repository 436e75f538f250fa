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
	Type         string  `json:"type" format:"uri-reference" doc:"about:blank where the status says it all, else the address of a page about the problem" example:"about:blank"`
	Title        string  `json:"title" example:"Unprocessable Entity"`
	Status       int     `json:"status" example:"422"`
	Detail       string  `json:"detail,omitempty" example:"the call is not valid"`
	Reason       string  `json:"reason,omitempty" doc:"of /readyz: what the node waits for, a stable word" enum:"starting,store,names,pool"`
	RejectedMore int     `json:"rejected_more,omitempty" doc:"how many rejected inboxes there are beyond those under errors"`
	Errors       []fault `json:"errors,omitempty" nullable:"false" doc:"each fault with its location"`

	retryAfter time.Duration
}

// fault is one thing wrong with a request. Inbox, Reason and Detail are set where it is an inbox that was rejected.
type fault struct {
	Location string `json:"location" doc:"where the fault is, beginning with body, query, path or header" example:"body.activity.id"`
	Message  string `json:"message" doc:"for people" example:"is missing"`
	Code     code   `json:"code" doc:"a stable word for the kind of fault; the reason where an inbox was rejected" example:"missing"`
	Host     string `json:"host,omitempty" doc:"whose order it is, where an order covers the host of the call"`
	Inbox    string `json:"inbox,omitempty"`
	Reason   string `json:"reason,omitempty" enum:"private_address,bad_url,http_not_allowed,host_blocked,host_unavailable"`
	Detail   string `json:"detail,omitempty"`
}

// Error makes a problem an error.
func (p *problem) Error() string { return fmt.Sprintf("%d %s", p.Status, p.Detail) }

// invalid is a 422 with one fault.
func invalid(location string, what flaw) *problem {
	return unprocessable(what.at(location))
}

// unprocessable is a 422 with the faults given.
func unprocessable(faults ...fault) *problem {
	return &problem{Status: http.StatusUnprocessableEntity, Detail: "the call is not valid", Errors: faults}
}

// fail answers a request with the problem that err is. The log gets what the caller must not see.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError {
		visitOf(r).err = err
	}
	p.send(w)
}

// send writes a problem as the answer.
func (p *problem) send(w http.ResponseWriter) {
	p.name()
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.retryAfter/time.Second)))
	}
	write(w, reply{Status: p.Status, Body: p}, "application/problem+json")
}

// ownFault is the answer to a request whose endpoint panicked.
func ownFault() *problem {
	return &problem{Status: http.StatusInternalServerError, Detail: "a fault of our own; it was logged"}
}

// transient reports whether the same call may be accepted later.
func (p *problem) transient() bool {
	return p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests
}

// name gives a problem its type and title: if it has no type of its own, those of its status.
func (p *problem) name() {
	if p.Type == "" {
		p.Type = "about:blank"
		p.Title = http.StatusText(p.Status)
	}
}

// underWay is for a call that repeats one whose node died, or is slow.
const underWay = "an earlier call with the same activity is under way: repeat this one after Retry-After; " +
	"if the node that had the earlier one died, that helps after 30 s at most"

// problemOf finds the answer to an error. One that is no sentinel of the queue means that the store is away.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return &problem{Status: http.StatusNotFound, Detail: "there is no such thing, or not any more"}
	case errors.Is(err, queue.ErrBadCursor):
		return invalid("query.cursor", flaw{codeInvalidValue, "is not a cursor that this list gave"})
	case errors.Is(err, queue.ErrIdempotencyMismatch):
		return invalid("header.Idempotency-Key", otherBytes)
	case errors.Is(err, queue.ErrBusy):
		return &problem{Status: http.StatusTooManyRequests, Detail: "too many calls at once", retryAfter: time.Second}
	case errors.Is(err, queue.ErrUnderWay):
		return &problem{Status: http.StatusTooManyRequests, Detail: underWay, retryAfter: retryAway}
	case errors.Is(err, queue.ErrFull):
		return &problem{Status: http.StatusServiceUnavailable, Detail: "the store is full", retryAfter: time.Minute}
	case errors.Is(err, queue.ErrClosed), errors.Is(err, context.Canceled):
		return &problem{Status: http.StatusServiceUnavailable, Detail: "the node is stopping", retryAfter: retryAway}
	default:
		return &problem{Status: http.StatusServiceUnavailable, Detail: "the store is away", retryAfter: retryAway}
	}
}
