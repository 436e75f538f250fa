package handlers

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/queue"
)

const (
	maxActivity   = 1 << 20
	longestEscape = 6 // bytes of JSON that stand for one byte: \u0041
	maxRecipients = 100_000
	maxText       = 2048 // of IDs and keys
	maxFinal      = 100  // final statuses
	maxMetadata   = 4 << 10
	maxTTL        = 720 * time.Hour
)

// activityCall is the body of POST /v1/activities.
type activityCall struct {
	Activity    rawObject   `json:"activity" doc:"the activity, stored and sent byte for byte; at most 1 MiB"`
	KeyID       string      `json:"key_id,omitempty" maxLength:"2048" doc:"the key that signs it, looked up for each attempt"`
	Key         *pinnedKey  `json:"key,omitempty" doc:"instead of key_id: the key itself, stored if it is new or another than the one under its ID"`
	Inboxes     []string    `json:"inboxes,omitempty" nullable:"false" maxItems:"100000" doc:"inbox URLs; at most 100,000 inboxes and recipients together"`
	Recipients  []recipient `json:"recipients,omitempty" nullable:"false" maxItems:"100000" doc:"inboxes with more about them"`
	Priority    string      `json:"priority,omitempty" enum:"high,normal,low" doc:"normal by default"`
	OrderingKey string      `json:"ordering_key,omitempty" maxLength:"2048" doc:"deliveries of one ordering key to one inbox go out in the order accepted; by default what the activity is about"`
	ExpiresIn   string      `json:"expires_in,omitempty" example:"72h" doc:"a Go duration of at most 720h, after which a delivery expires"`
	Repeats     string      `json:"idempotency_key,omitempty" maxLength:"255" doc:"as the header Idempotency-Key, which it replaces; in a batch each line can have one"`
	TraceParent string      `json:"traceparent,omitempty" doc:"as the header traceparent, which it replaces; in a batch each line can have one. One that is malformed counts as none"`
	TraceState  string      `json:"tracestate,omitempty" doc:"as the header tracestate; it counts with the traceparent of the call only"`
	Final       []int       `json:"final_statuses,omitempty" nullable:"false" maxItems:"100" doc:"statuses, of 400 to 499, that end a delivery as rejected at once: 401 for the Delete of an account whose key is gone"`
	Metadata    sentBytes   `json:"metadata,omitempty" doc:"what you know the activity by, at most 4 KiB: it comes back in the feed, events, dead letters and deliveries, and is never sent to an inbox"`

	priority queue.Priority
	ttl      time.Duration // 0 if the call doesn't say
	facts    facts
	ids      int      // of all recipients
	key      *sentKey // nil if the call only names its key
}

// rawObject is a JSON object, byte for byte.
type rawObject []byte

// Schema describes it as what it is in a call.
func (rawObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeObject, AdditionalProperties: true},
		{Type: huma.TypeString, Description: "the text of the object, for clients whose encoder would change it"},
	}}
}

// recipient is an inbox with what is known of it.
type recipient struct {
	ID          string   `json:"id,omitempty" maxLength:"2048" doc:"the actor; if it is the activity's own, nothing is delivered to it. It comes back in the feed, events, dead letters and deliveries"`
	IDs         []string `json:"ids,omitempty" nullable:"false" maxItems:"100000" doc:"the actors, if there are several, of at most 2048 bytes each; likewise"`
	Inbox       string   `json:"inbox,omitempty" doc:"may be left out if there is a shared inbox"`
	SharedInbox string   `json:"shared_inbox,omitempty" doc:"used instead of the inbox; recipients that share one become one delivery"`
	Headers     headers  `json:"headers,omitempty" doc:"more headers to send and to sign"`
}

var (
	callNames      = []string{"activity", "key_id", "key", "inboxes", "recipients", "priority", "ordering_key", "expires_in", "final_statuses", "idempotency_key", "traceparent", "tracestate", "metadata"}
	recipientNames = []string{"id", "ids", "inbox", "shared_inbox", "headers"}
	priorities     = []string{queue.High: "high", queue.Normal: "normal", queue.Low: "low"}
)

// parseCall reads and checks a call. The error is a problem that names the faults. The caller wipes the call's key,
// also after an error.
func parseCall(body []byte) (*activityCall, error) {
	c, p := &activityCall{priority: queue.Normal}, newParser("body", body)
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return nil, malformed(p.base, 0)
	}
	err := p.object(callNames, func(i int) error { return p.callMember(c, callNames[i]) })
	if err == nil {
		err = p.require(c)
	}
	if err := p.finish(err); err != nil {
		return c, err
	}
	return c, nil
}

func (p *parser) callMember(c *activityCall, name string) (err error) {
	if name != "activity" && name != "key_id" && p.null() {
		return nil
	}
	switch name {
	case "activity":
		return p.activity(c)
	case "key_id":
		return p.checked(&c.KeyID, checkText)
	case "key":
		return p.key(c)
	case "inboxes":
		return p.inboxes(c)
	case "recipients":
		return p.recipients(c)
	case "priority":
		return p.priority(c)
	case "ordering_key":
		return p.checked(&c.OrderingKey, checkLength)
	case "final_statuses":
		return p.finalStatuses(c)
	case "idempotency_key":
		return p.checked(&c.Repeats, checkIdempotencyKey)
	case "traceparent":
		c.TraceParent, err = p.str()
	case "tracestate":
		c.TraceState, err = p.str()
	case "metadata":
		return p.metadata(c)
	default:
		return p.expiry(c)
	}
	return err
}

// require notes what is missing from a call that was read.
func (p *parser) require(c *activityCall) error {
	switch {
	case len(p.faults) > 0:
		return nil
	case c.Activity == nil:
		return p.faultAt("activity", isMissing)
	case c.KeyID == "" && c.key == nil:
		return p.faultAt("key_id", isMissing)
	case c.KeyID != "" && c.key != nil:
		return p.faultAt("key", flaw{codeConflict, "there is a key_id already"})
	case len(c.Inboxes)+len(c.Recipients) == 0:
		return p.faultAt("inboxes", flaw{codeMissing, "there must be inboxes or recipients"})
	}
	return nil
}

// activity keeps the bytes of the activity and reads what we have to know of it.
func (p *parser) activity(c *activityCall) error {
	if p.dec.PeekKind() == jsontext.KindString {
		return p.activityText(c)
	}
	p.root = p.dec.StackPointer()
	before := p.dec.InputOffset()
	if err := p.facts(&c.facts); err != nil {
		return err
	}
	value := bytes.TrimLeft(p.text[before:p.dec.InputOffset()], ": \t\r\n")
	if len(value) > maxActivity {
		return activityTooLarge()
	}
	c.Activity = value
	if len(p.text) > 2*len(value) { // the store may keep it for longer than the rest of the call
		c.Activity = bytes.Clone(value)
	}
	return nil
}

// activityText reads an activity that is a JSON string with the activity's text: the bytes sent are those of that text
// in UTF-8. The locations of faults point into that text.
func (p *parser) activityText(c *activityCall) error {
	quoted, err := p.dec.ReadValue()
	if err != nil {
		return err
	}
	if len(quoted) > longestEscape*maxActivity+2 {
		return activityTooLarge()
	}
	text, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return err
	}
	if len(text) > maxActivity {
		return activityTooLarge()
	}
	inner := newParser(p.location(), text)
	err = inner.finish(inner.facts(&c.facts))
	if c.Activity = text; cap(text) > 2*len(text) { // there were many escapes
		c.Activity = bytes.Clone(text)
	}
	return p.adopt(err)
}

func activityTooLarge() error {
	return &problem{Status: http.StatusRequestEntityTooLarge, Detail: "the activity is larger than " + size(maxActivity)}
}

// key reads the key that comes with the activity.
func (p *parser) key(c *activityCall) error {
	c.key = &sentKey{base: p.location(), raw: p.text[p.dec.InputOffset():]} // all that follows, until its end is known
	raw, err := p.dec.ReadValue()
	if err != nil {
		return err
	}
	c.key.raw = raw
	if err = unmarshal(c.key.base, raw, &c.key.pinnedKey); err == nil {
		err = c.key.check()
	}
	return p.adopt(err)
}

func (p *parser) inboxes(c *activityCall) error {
	return p.array(func() error {
		s, err := p.str()
		c.Inboxes = appendDoubling(c.Inboxes, s)
		return p.within(c, err)
	})
}

func (p *parser) recipients(c *activityCall) error {
	return p.array(func() error {
		var r recipient
		before := len(p.faults)
		err := p.object(recipientNames, func(i int) error { return p.recipientMember(c, &r, recipientNames[i]) })
		if err == nil && r.Inbox == "" && r.SharedInbox == "" && len(p.faults) == before {
			err = p.faultAt("inbox", isMissing)
		}
		c.Recipients = appendDoubling(c.Recipients, r)
		return p.within(c, err)
	})
}

// appendDoubling appends to a list that may become long. It grows faster than append does, which copies the list so
// often that it takes five times its size.
func appendDoubling[T any](list []T, item T) []T {
	if len(list) == cap(list) {
		list = slices.Grow(list, max(4, len(list)))
	}
	return append(list, item)
}

// within ends the reading of a call that has too many recipients.
func (p *parser) within(c *activityCall, err error) error {
	if err != nil || len(c.Inboxes)+len(c.Recipients) <= maxRecipients {
		return err
	}
	return p.tooMany("more than 100000 inboxes and recipients")
}

func (p *parser) recipientMember(c *activityCall, r *recipient, name string) (err error) {
	if p.null() {
		return nil
	}
	switch name {
	case "id":
		err = p.checked(&r.ID, checkActor)
	case "ids":
		return p.actors(c, r)
	case "inbox":
		r.Inbox, err = p.str()
	case "shared_inbox":
		r.SharedInbox, err = p.str()
	default:
		r.Headers, err = p.headers()
	}
	return err
}

// actors reads the IDs of the actors behind an inbox.
func (p *parser) actors(c *activityCall, r *recipient) error {
	return p.array(func() error {
		var id string
		err := p.checked(&id, checkActor)
		r.IDs = append(r.IDs, id)
		if c.ids++; err == nil && c.ids > maxRecipients {
			err = p.tooMany("more than 100000 ids")
		}
		return err
	})
}

// is reports whether an actor is the one behind the inbox, or one of them.
func (r *recipient) is(actor string) bool {
	return actor != "" && (r.ID == actor || slices.Contains(r.IDs, actor))
}

// finalStatuses reads a list of statuses and keeps each once, in ascending order.
func (p *parser) finalStatuses(c *activityCall) error {
	n := 0
	err := p.array(func() error {
		err := p.finalStatus(c)
		if n++; err == nil && n > maxFinal {
			err = p.tooMany("more than 100 statuses")
		}
		return err
	})
	slices.Sort(c.Final)
	c.Final = slices.Compact(c.Final)
	return err
}

func (p *parser) finalStatus(c *activityCall) error {
	if p.dec.PeekKind() != jsontext.KindNumber {
		return p.wrong("a number")
	}
	value, err := p.dec.ReadValue()
	if err != nil {
		return err
	}
	status, err := strconv.Atoi(string(value))
	if err != nil || status < 400 || status > 499 {
		return p.fault(flaw{codeInvalidValue, "must be a whole number from 400 to 499"})
	}
	c.Final = append(c.Final, status)
	return nil
}

// metadata keeps an object of the app's, without its white space.
func (p *parser) metadata(c *activityCall) error {
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return p.wrong("an object")
	}
	value, err := p.dec.ReadValue()
	if err != nil {
		return err
	}
	if len(value) > maxMetadata {
		return p.fault(flaw{codeTooLong, "is longer than 4096 bytes"})
	}
	value = value.Clone()
	if err := value.Compact(); err != nil {
		return err
	}
	c.Metadata = sentBytes(value)
	return nil
}

func (p *parser) priority(c *activityCall) error {
	return p.checked(&c.Priority, func(s string) flaw {
		i := slices.Index(priorities, s)
		if i < 0 {
			return flaw{codeInvalidValue, "must be high, normal or low"}
		}
		c.priority = queue.Priority(i)
		return flaw{}
	})
}

func (p *parser) expiry(c *activityCall) error {
	return p.checked(&c.ExpiresIn, func(s string) flaw {
		ttl, err := time.ParseDuration(s)
		if err != nil || ttl <= 0 || ttl > maxTTL {
			return flaw{codeInvalidValue, "must be a duration like 90s or 72h, above 0 and at most 720h"}
		}
		c.ttl = ttl
		return flaw{}
	})
}

// checkText finds the flaw of an ID.
func checkText(s string) flaw {
	if strings.ContainsFunc(s, isControl) {
		return flaw{codeControlCharacter, "holds a control character"}
	}
	return checkLength(s)
}

// checkIdempotencyKey finds the flaw of an idempotency key.
func checkIdempotencyKey(s string) flaw {
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return badIdempotencyKey
	}
	return flaw{}
}

// checkActor finds the flaw of an actor's ID. One that is empty is none.
func checkActor(s string) flaw {
	if s == "" {
		return flaw{}
	}
	return checkText(s)
}

// checkLength finds the flaw of an ordering key, which may hold any character.
func checkLength(s string) flaw {
	switch {
	case s == "":
		return flaw{codeEmpty, "is empty"}
	case len(s) > maxText:
		return flaw{codeTooLong, "is longer than 2048 bytes"}
	}
	return flaw{}
}
