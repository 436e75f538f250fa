package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"

	"github.com/postrider/postrider/internal/printable"
	"github.com/postrider/postrider/queue"
)

const (
	maxOrderCall = 16 << 10
	maxReason    = 500 // characters
	orderExample = `{"reason": "spam, see ticket 42", "subdomains": true}`
)

// orderCall is the body of pause and block. All of it, and the body itself, may be left out.
type orderCall struct {
	Reason     *string `json:"reason,omitempty" maxLength:"500" doc:"shown with the host and in the feed; one line"`
	Until      *string `json:"until,omitempty" format:"date-time" doc:"when it ends by itself, within ten years; it has no end if this is absent"`
	Subdomains *bool   `json:"subdomains,omitempty" doc:"it covers every host under this name too, also those that are only heard of later"`
}

// orderView shows a pause or a block.
type orderView struct {
	Action     string `json:"action" enum:"pause,block"`
	Host       string `json:"host" doc:"the host that it was given for; another host if that one's subdomains are covered" example:"one.example"`
	Reason     string `json:"reason,omitempty" example:"spam, see ticket 42"`
	By         string `json:"by,omitempty" doc:"the name of the API token that gave it" example:"moderators"`
	Since      string `json:"since,omitempty" format:"date-time"`
	Until      string `json:"until,omitempty" format:"date-time" doc:"when it ends by itself; absent if it has no end"`
	Subdomains bool   `json:"subdomains" doc:"it covers the subdomains of its host"`
}

func orderViewOf(o *queue.HostOrder) *orderView {
	if o == nil {
		return nil
	}
	return &orderView{
		Action: string(o.Action), Host: o.Host, Reason: o.Reason, By: o.By, Since: stamp(o.Since), Until: stamp(o.Until), Subdomains: o.Subdomains,
	}
}

// readOrder reads the body of a call of a pause or a block.
func readOrder(host string, body []byte) (o queue.Order, err error) {
	var c orderCall
	if len(body) > 0 {
		err = unmarshal("body", body, &c)
	}
	if err == nil && c.Reason != nil {
		o.Reason, err = readReason(*c.Reason)
	}
	if err == nil && c.Until != nil {
		o.For, err = readUntil(*c.Until)
	}
	if err == nil && c.Subdomains != nil && *c.Subdomains {
		o.Subdomains, err = true, hasSubdomains(host)
	}
	return o, err
}

func readReason(text string) (string, error) {
	if utf8.RuneCountInString(text) > maxReason {
		return "", invalid("body.reason", flaw{codeTooLong, "is longer than 500 characters"})
	}
	return printable.Line(text, maxReason), nil
}

func readUntil(text string) (time.Duration, error) {
	at, err := time.Parse(time.RFC3339, text)
	left := time.Until(at)
	switch {
	case err != nil:
		return 0, invalid("body.until", notATime)
	case left <= 0:
		return 0, invalid("body.until", flaw{codeInvalidValue, "is in the past"})
	case left > queue.MaxOrder:
		return 0, invalid("body.until", flaw{codeInvalidValue, "is more than ten years from now: leave it out for an order without end"})
	}
	return left, nil
}

// hasSubdomains returns an error if no order may cover what is under a host: it is an address, has a port, or is a public suffix
// such as co.uk. Suffixes that somebody lends out to others, such as those of tunnels, are not among these: to cover them is
// what an operator wants.
func hasSubdomains(host string) error {
	var what string
	_, err := netip.ParseAddr(host)
	suffix, isPublic := publicsuffix.PublicSuffix(host)
	switch {
	case err == nil, strings.HasPrefix(host, "["):
		what = "an address has no subdomains"
	case strings.Contains(host, ":"):
		what = "is for a name without a port; it covers all ports"
	case !strings.Contains(host, "."), isPublic && suffix == host:
		what = "would cover a public suffix, under which names belong to many"
	default:
		return nil
	}
	return invalid("body.subdomains", flaw{codeConflict, what})
}

// actOn returns the endpoint that does something to a host, and answers with how it is then.
func (s *server) actOn(action queue.HostAction) endpoint {
	return func(r *http.Request, body []byte) (reply, error) {
		host, err := pathHost(r)
		if err != nil {
			return reply{}, err
		}
		order, err := readOrder(host, body)
		if err != nil {
			return reply{}, err
		}
		order.By = queue.Caller(r.Context())
		status, err := s.Queue.Act(r.Context(), host, action, order)
		if cover, ok := errors.AsType[*queue.CoveredError](err); ok {
			return reply{}, coveredBy(cover.Host, action)
		}
		if err != nil {
			return reply{}, fmt.Errorf("%s host %s: %w", action, host, err)
		}
		s.logAction(r.Context(), queue.HostActed(host, action, order))
		return reply{Status: http.StatusOK, Body: hostViewOf(&status)}, nil
	}
}

// coveredBy is the 409 of an action that has to be taken on another host.
func coveredBy(host string, action queue.HostAction) *problem {
	what := fault{
		Location: "path.host", Code: codeCovered, Host: host,
		Message: fmt.Sprintf("has no such order of its own; the one for %s and its subdomains holds", host),
	}
	return &problem{Status: http.StatusConflict, Detail: fmt.Sprintf("%s %s instead", action, host), Errors: []fault{what}}
}
