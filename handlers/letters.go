package handlers

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/queue"
)

const (
	maxLetterCall = 1 << 20
	maxIDs        = 10_000
)

// deadLetterCall is the body of the calls that change dead letters. All of it, and the body itself, may be left out.
type deadLetterCall struct {
	IDs    []string `json:"ids,omitempty" nullable:"false" maxItems:"10000" doc:"these only, instead of a filter; those that there are not are passed over"`
	Host   string   `json:"host,omitempty" doc:"of this host only"`
	Reason string   `json:"reason,omitempty" enum:"rejected,gone,expired,exhausted,host_blocked,host_unavailable,key_missing,private_address,lane_full" doc:"with this reason only"`
	Since  string   `json:"since,omitempty" format:"date-time" doc:"died since then"`
	DryRun bool     `json:"dry_run,omitempty" doc:"only count them"`
}

// letterNames are the members of such a call, and the parameters of its query.
var letterNames = []string{"ids", "host", "reason", "since", "dry_run"}

// retried is the answer of POST /v1/dead-letters/retry.
type retried struct {
	Matched int  `json:"matched" doc:"dead letters that were meant"`
	Retried int  `json:"retried" doc:"how many of them are pending again: not those for hosts that are blocked or unavailable"`
	DryRun  bool `json:"dry_run" doc:"nothing was done, only counted"`
}

// deleted is the answer of DELETE /v1/dead-letters.
type deleted struct {
	Matched int  `json:"matched" doc:"dead letters that were meant"`
	Deleted int  `json:"deleted"`
	DryRun  bool `json:"dry_run" doc:"nothing was done, only counted"`
}

func (s *server) retryDeadLetters(r *http.Request, body []byte) (reply, error) {
	n, which, err := s.changeLetters(r, body, func(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
		return s.Queue.RetryDead(ctx, which, s.DeliveryTTL)
	})
	return reply{Status: http.StatusOK, Body: retried{n.Matched, n.Done, which.DryRun}}, err
}

func (s *server) deleteDeadLetters(r *http.Request, body []byte) (reply, error) {
	n, which, err := s.changeLetters(r, body, s.Queue.DeleteDead)
	return reply{Status: http.StatusOK, Body: deleted{n.Matched, n.Done, which.DryRun}}, err
}

func (s *server) changeLetters(
	r *http.Request, body []byte, change func(context.Context, queue.DeadLetterChoice) (queue.DeadLetterCount, error),
) (n queue.DeadLetterCount, which queue.DeadLetterChoice, err error) {
	c, err := chooseLetters(r.URL.Query(), body)
	if err != nil || c.byID && len(c.IDs) == 0 {
		return n, c.DeadLetterChoice, err
	}
	if n, err = change(r.Context(), c.DeadLetterChoice); err != nil {
		return n, which, fmt.Errorf("change dead letters: %w", err)
	}
	return n, c.DeadLetterChoice, nil
}

// choice is which dead letters are meant.
type choice struct {
	queue.DeadLetterChoice
	byID bool // IDs were named, be it none: then none are meant, and not all
}

// chooseLetters reads which dead letters are meant, from the query and, where it says something too, rather from the
// body. It is strict, because a filter that is misspelt or empty would leave all of them.
func chooseLetters(query url.Values, body []byte) (c choice, err error) {
	var faults []fault
	for _, name := range slices.Sorted(maps.Keys(query)) {
		message := "is unknown"
		if slices.Contains(letterNames, name) {
			message = c.fromQuery(name, query[name])
		}
		if message != "" {
			faults = append(faults, fault{Location: "query." + printable(name), Message: message})
		}
	}
	if len(faults) > 0 {
		return c, unprocessable(faults[:min(len(faults), maxFaults)]...)
	}
	if len(body) > 0 {
		if err := c.fromBody(body); err != nil {
			return c, err
		}
	}
	if c.byID && c.Filter != (queue.DeadLetterFilter{}) {
		return c, invalid("body.ids", "can't stand beside a filter")
	}
	return c, nil
}

// fromQuery reads a parameter and tells what is wrong with it.
func (c *choice) fromQuery(name string, values []string) string {
	if name == "ids" {
		c.byID = true
		if c.IDs = listed(values); len(c.IDs) > maxIDs {
			return "more than 10000"
		}
		return ""
	}
	if len(values) > 1 {
		return "stands twice"
	}
	if name != "dry_run" {
		return c.set(name, values[0])
	}
	var err error
	if c.DryRun, err = strconv.ParseBool(values[0]); err != nil {
		return "must be true or false"
	}
	return ""
}

// set sets a member of the filter and tells what is wrong with its value.
func (c *choice) set(name, value string) string {
	var err error
	switch name {
	case "host":
		if c.Filter.Host, err = normalised("", value); err != nil {
			return problemOf(err).Errors[0].Message
		}
	case "reason":
		c.Filter.Reason = queue.Reason(value)
		if !slices.Contains(queue.Reasons, c.Filter.Reason) {
			return "must be one of " + strings.Join(texts(queue.Reasons), ", ")
		}
	default:
		if c.Filter.Since, err = time.Parse(time.RFC3339, value); err != nil {
			return wantTime
		}
	}
	return ""
}

// fromBody reads the body over what the query said.
func (c *choice) fromBody(body []byte) error {
	p := newParser("body", body)
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return p.malformed(0)
	}
	return p.finish(p.object(letterNames, func(i int) error {
		switch name := letterNames[i]; {
		case p.null():
			return nil
		case name == "ids":
			c.byID, c.IDs = true, nil
			return p.ids(&c.IDs)
		case name == "dry_run":
			return p.boolean(&c.DryRun)
		default:
			return p.checked(new(string), func(value string) string { return c.set(name, value) })
		}
	}))
}

// ids reads a list of IDs.
func (p *parser) ids(into *[]string) error {
	return p.array(func() error {
		id, err := p.str()
		*into = append(*into, id)
		if err == nil && len(*into) > maxIDs {
			err = p.tooMany("more than 10000")
		}
		return err
	})
}

// boolean reads true or false.
func (p *parser) boolean(into *bool) error {
	if kind := p.dec.PeekKind(); kind != jsontext.KindTrue && kind != jsontext.KindFalse {
		return p.wrong("true or false")
	}
	tok, err := p.dec.ReadToken()
	*into = err == nil && tok.Bool()
	return err
}
