package handlers

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/queue"
)

const (
	maxActivity   = 1 << 20
	maxRecipients = 100_000
	maxText       = 2048 // of IDs and keys
	maxTTL        = 720 * time.Hour
)

// activityCall is the body of POST /v1/activities.
type activityCall struct {
	Activity    rawObject   `json:"activity" doc:"the activity, stored and sent byte for byte; at most 1 MiB"`
	KeyID       string      `json:"key_id" maxLength:"2048" doc:"the key that signs it, looked up for each attempt"`
	Inboxes     []string    `json:"inboxes,omitempty" nullable:"false" maxItems:"100000" doc:"inbox URLs; at most 100,000 inboxes and recipients together"`
	Recipients  []recipient `json:"recipients,omitempty" nullable:"false" maxItems:"100000" doc:"inboxes of which more is known"`
	Priority    string      `json:"priority,omitempty" enum:"high,normal,low" default:"normal"`
	OrderingKey string      `json:"ordering_key,omitempty" maxLength:"2048" doc:"deliveries of one ordering key to one host go out in the order accepted; by default what the activity is about"`
	ExpiresIn   string      `json:"expires_in,omitempty" example:"72h" doc:"a Go duration of at most 720h, after which a delivery is given up"`

	priority queue.Priority
	ttl      time.Duration // 0 if the call doesn't say
	facts    facts
}

// rawObject is a JSON object, byte for byte.
type rawObject []byte

// Schema describes it as what it is in a call.
func (rawObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// recipient is an inbox with what is known of it.
type recipient struct {
	ID          string  `json:"id,omitempty" doc:"the actor; if it is the activity's own, nothing is delivered to it"`
	Inbox       string  `json:"inbox,omitempty" doc:"may be left out if there is a shared inbox"`
	SharedInbox string  `json:"shared_inbox,omitempty" doc:"used instead of the inbox; recipients that share one become one delivery"`
	Headers     headers `json:"headers,omitempty" doc:"more headers to send and to sign"`
}

var (
	callNames      = []string{"activity", "key_id", "inboxes", "recipients", "priority", "ordering_key", "expires_in"}
	recipientNames = []string{"id", "inbox", "shared_inbox", "headers"}
	priorities     = []string{queue.High: "high", queue.Normal: "normal", queue.Low: "low"}
)

// parseCall reads and checks a call. The error is a problem that names the faults.
func parseCall(body []byte) (*activityCall, error) {
	c, p := &activityCall{priority: queue.Normal}, newParser("body", body)
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return nil, p.malformed(0)
	}
	err := p.object(callNames, func(i int) error { return p.callMember(c, callNames[i]) })
	if err == nil {
		err = p.require(c)
	}
	if err := p.finish(err); err != nil {
		return nil, err
	}
	return c, nil
}

func (p *parser) callMember(c *activityCall, name string) error {
	if name != "activity" && name != "key_id" && p.null() {
		return nil
	}
	switch name {
	case "activity":
		return p.activity(c)
	case "key_id":
		return p.checked(&c.KeyID, checkText)
	case "inboxes":
		return p.inboxes(c)
	case "recipients":
		return p.recipients(c)
	case "priority":
		return p.priority(c)
	case "ordering_key":
		return p.checked(&c.OrderingKey, checkText)
	default:
		return p.expiry(c)
	}
}

// require notes what is missing from a call that was read.
func (p *parser) require(c *activityCall) error {
	switch {
	case len(p.faults) > 0:
		return nil
	case c.Activity == nil:
		return p.faultAt("activity", "is missing")
	case c.KeyID == "":
		return p.faultAt("key_id", "is missing")
	case len(c.Inboxes)+len(c.Recipients) == 0:
		return p.faultAt("inboxes", "there must be inboxes or recipients")
	}
	return nil
}

// activity keeps the bytes of the activity and reads what we have to know of it.
func (p *parser) activity(c *activityCall) error {
	before := p.dec.InputOffset()
	if err := p.facts(&c.facts); err != nil {
		return err
	}
	value := bytes.TrimLeft(p.text[before:p.dec.InputOffset()], ": \t\r\n")
	if len(value) > maxActivity {
		return &problem{Status: http.StatusRequestEntityTooLarge, Detail: "the activity is larger than " + size(maxActivity)}
	}
	c.Activity = value
	if len(p.text) > 2*len(value) { // the store may keep it for longer than the rest of the call
		c.Activity = bytes.Clone(value)
	}
	return nil
}

func (p *parser) inboxes(c *activityCall) error {
	return p.array(func() error {
		s, err := p.str()
		c.Inboxes = append(c.Inboxes, s)
		return p.within(c, err)
	})
}

func (p *parser) recipients(c *activityCall) error {
	return p.array(func() error {
		var r recipient
		before := len(p.faults)
		err := p.object(recipientNames, func(i int) error { return p.recipientMember(&r, recipientNames[i]) })
		if err == nil && r.Inbox == "" && r.SharedInbox == "" && len(p.faults) == before {
			err = p.faultAt("inbox", "is missing")
		}
		c.Recipients = append(c.Recipients, r)
		return p.within(c, err)
	})
}

// within ends the reading of a call that has too many recipients.
func (p *parser) within(c *activityCall, err error) error {
	if err != nil || len(c.Inboxes)+len(c.Recipients) <= maxRecipients {
		return err
	}
	return p.tooMany("more than 100000 inboxes and recipients")
}

func (p *parser) recipientMember(r *recipient, name string) (err error) {
	if p.null() {
		return nil
	}
	switch name {
	case "id":
		r.ID, err = p.str()
	case "inbox":
		r.Inbox, err = p.str()
	case "shared_inbox":
		r.SharedInbox, err = p.str()
	default:
		r.Headers, err = p.headers()
	}
	return err
}

func (p *parser) priority(c *activityCall) error {
	return p.checked(&c.Priority, func(s string) string {
		i := slices.Index(priorities, s)
		if i < 0 {
			return "must be high, normal or low"
		}
		c.priority = queue.Priority(i)
		return ""
	})
}

func (p *parser) expiry(c *activityCall) error {
	return p.checked(&c.ExpiresIn, func(s string) string {
		ttl, err := time.ParseDuration(s)
		if err != nil || ttl <= 0 || ttl > maxTTL {
			return "must be a duration like 90s or 72h, above 0 and at most 720h"
		}
		c.ttl = ttl
		return ""
	})
}

// checkText tells what is wrong with an ID or key.
func checkText(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxText:
		return "is longer than 2048 bytes"
	case strings.ContainsFunc(s, isControl):
		return "holds a control character"
	}
	return ""
}
