package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/postrider/postrider/queue"
)

const (
	maxLetterCall = 1 << 20
	maxIDs        = 10_000
)

var tooManyIDs = flaw{codeTooMany, "more than 10000"}

// deadLetterCall is the body of the calls that change dead letters. All of it, and the body itself, may be left out.
type deadLetterCall struct {
	IDs    []string `json:"ids,omitempty" nullable:"false" maxItems:"10000" doc:"these only, instead of a filter; those that there are not are passed over"`
	Host   *string  `json:"host,omitempty" doc:"of this host only"`
	Reason *reason  `json:"reason,omitempty" doc:"with this reason only"`
	Since  *string  `json:"since,omitempty" format:"date-time" doc:"died since then"`
	Inbox  *string  `json:"inbox,omitempty" doc:"to this inbox only"`
	URI    *string  `json:"activity_id,omitempty" doc:"of this activity only, by its own id"`
	DryRun *bool    `json:"dry_run,omitempty" doc:"only count them"`
}

// retried is the answer of POST /v1/dead-letters/retry.
type retried struct {
	Matched    int  `json:"matched" doc:"dead letters that were meant"`
	Retried    int  `json:"retried" doc:"how many of them are pending again: not those for hosts that are blocked or unavailable, nor those superseded"`
	Superseded int  `json:"superseded" doc:"how many stay dead because an activity accepted later deletes their object"`
	DryRun     bool `json:"dry_run" doc:"nothing was done, only counted"`
}

// deleted is the answer of DELETE /v1/dead-letters.
type deleted struct {
	Matched int  `json:"matched" doc:"dead letters that were meant"`
	Deleted int  `json:"deleted"`
	DryRun  bool `json:"dry_run" doc:"nothing was done, only counted"`
}

func (s *server) retryDeadLetters(r *http.Request, body []byte) (reply, error) {
	n, which, err := s.changeLetters(r, body, queue.ActionRetryDead, func(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
		return s.Queue.RetryDead(ctx, which, s.DeliveryTTL)
	})
	return reply{Status: http.StatusOK, Body: retried{n.Matched, n.Done, n.Superseded, which.DryRun}}, err
}

func (s *server) deleteDeadLetters(r *http.Request, body []byte) (reply, error) {
	n, which, err := s.changeLetters(r, body, queue.ActionDeleteDead, s.Queue.DeleteDead)
	return reply{Status: http.StatusOK, Body: deleted{n.Matched, n.Done, which.DryRun}}, err
}

// changeLetters does something to the dead letters that a call chooses.
func (s *server) changeLetters(
	r *http.Request, body []byte, action queue.Action, change func(context.Context, queue.DeadLetterChoice) (queue.DeadLetterCount, error),
) (n queue.DeadLetterCount, which queue.DeadLetterChoice, err error) {
	c, err := chooseLetters(queryOf(r), body)
	if err != nil || c.byID && len(c.IDs) == 0 {
		return n, c.DeadLetterChoice, err
	}
	if n, err = change(r.Context(), c.DeadLetterChoice); !c.DryRun {
		s.actedOnMany(r.Context(), queue.Event{Action: action, Count: n.Done, Filter: letterChoice(c.DeadLetterChoice)},
			slog.Int("matched", n.Matched), slog.Int("superseded", n.Superseded))
	}
	return n, c.DeadLetterChoice, err
}

// choice is which dead letters are meant.
type choice struct {
	queue.DeadLetterChoice
	byID bool // IDs were named, be it none: then none are meant, and not all
}

// chooseLetters reads which dead letters are meant, from the query and, where it says something too, rather from the
// body. It is strict, because a filter that is misspelt or empty would leave all of them.
func chooseLetters(q *query, body []byte) (c choice, err error) {
	c.fromQuery(q)
	if err = q.err; err == nil && len(body) > 0 {
		err = c.fromBody(body)
	}
	if err == nil && c.byID && c.Filter != (queue.DeadLetterFilter{}) {
		err = invalid("body.ids", flaw{codeConflict, "can't stand beside a filter"})
	}
	return c, err
}

func (c *choice) fromQuery(q *query) {
	if c.byID = q.Has("ids"); c.byID {
		if c.IDs = listed(q.Values["ids"]); len(c.IDs) > maxIDs {
			q.refuse("ids", tooManyIDs)
		}
	}
	if q.Has("dry_run") {
		var err error
		if c.DryRun, err = strconv.ParseBool(q.Get("dry_run")); err != nil {
			q.refuse("dry_run", flaw{codeInvalidValue, "must be true or false"})
		}
	}
	for _, name := range filterNames {
		if q.Has(name) && q.err == nil {
			q.err = setFilter(&c.Filter, "query", name, q.Get(name))
		}
	}
}

// fromBody reads the body over what the query said. A null says nothing.
func (c *choice) fromBody(body []byte) error {
	var call deadLetterCall
	if err := unmarshal("body", body, &call); err != nil {
		return err
	}
	if call.IDs != nil {
		c.byID, c.IDs = true, call.IDs
	}
	if call.DryRun != nil {
		c.DryRun = *call.DryRun
	}
	if len(call.IDs) > maxIDs {
		return invalid(fmt.Sprintf("body.ids[%d]", maxIDs), tooManyIDs)
	}
	for i, value := range []*string{call.Host, (*string)(call.Reason), call.Since, call.Inbox, call.URI} {
		if value == nil {
			continue
		}
		if err := setFilter(&c.Filter, "body", filterNames[i], *value); err != nil {
			return err
		}
	}
	return nil
}
