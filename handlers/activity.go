package handlers

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/queue"
)

// facts are what we have to know of an activity. The rest of it is not looked at, but for what must not be in it.
type facts struct {
	id, kind, actor, object string // actor and object are IDs, "" if they have none
	several                 bool   // object is a list, of which object is the first
}

// about are the types of activities whose order matters by what they are about.
var about = map[string]bool{
	"Create": true, "Update": true, "Delete": true, "Undo": true, "Accept": true, "Reject": true, "Add": true,
	"Remove": true, "Move": true,
}

// orderingKey is the default one: the object's id where the activity changes something that others may change too.
func (f *facts) orderingKey() string {
	if about[f.kind] && f.object != "" && len(f.object) <= maxText {
		return f.object
	}
	return f.id
}

// role is what the activity does to what an ordering key names, if that is its object. Under any other key there may be
// more than one object, and a Delete of one must not undo the Create of another.
func (f *facts) role(orderingKey string) queue.Role {
	switch {
	case f.object == "" || f.object != orderingKey:
		return queue.Other
	case f.kind == "Create" && !f.several:
		return queue.Makes
	case f.kind == "Delete":
		return queue.Deletes
	}
	return queue.Other
}

// facts reads an activity.
func (p *parser) facts(f *facts) error {
	before, seen := len(p.faults), map[string]bool{}
	err := p.delivered(func(name string) error {
		if seen[name] {
			return p.refuse("stands twice")
		}
		seen[name] = true
		return p.fact(f, name)
	})
	if err != nil || len(p.faults) > before {
		return err
	}
	if !seen["id"] {
		err = p.faultAt("id", "is missing")
	}
	if err == nil && !seen["type"] {
		err = p.faultAt("type", "is missing")
	}
	return err
}

func (p *parser) fact(f *facts, name string) (err error) {
	switch name {
	case "id":
		return p.checked(&f.id, checkText)
	case "type":
		return p.kind(f)
	case "actor":
		f.actor, err = p.reference()
	case "object":
		f.several = p.dec.PeekKind() == jsontext.KindBeginArray
		f.object, err = p.reference()
	default:
		err = p.scan()
	}
	return err
}

// kind reads the type of an activity: a string, or a list of strings of which the first counts.
func (p *parser) kind(f *facts) error {
	if p.dec.PeekKind() != jsontext.KindBeginArray {
		return p.checked(&f.kind, checkText)
	}
	if err := p.array(func() error {
		var s string
		err := p.checked(&s, checkText)
		if f.kind == "" {
			f.kind = s
		}
		return err
	}); err != nil || f.kind != "" {
		return err
	}
	return p.fault("must hold a type")
}

// reference reads what stands for an object: its id, the object itself, or a list of which the first counts. It
// returns "" where there is no id.
func (p *parser) reference() (id string, err error) {
	switch p.dec.PeekKind() {
	case jsontext.KindString:
		return p.str()
	case jsontext.KindBeginObject:
		return p.idOf()
	case jsontext.KindBeginArray:
		first := true
		err = p.array(func() (err error) {
			if !first {
				return p.scan()
			}
			first = false
			id, err = p.reference()
			return err
		})
		return id, err
	default:
		return "", p.scan()
	}
}

// idOf reads an object and returns its id.
func (p *parser) idOf() (id string, err error) {
	err = p.delivered(func(name string) (err error) {
		if name != "id" || p.dec.PeekKind() != jsontext.KindString {
			return p.scan()
		}
		id, err = p.str()
		return err
	})
	return id, err
}

// scan reads any value for what must not be delivered.
func (p *parser) scan() error {
	switch p.dec.PeekKind() {
	case jsontext.KindBeginObject:
		return p.delivered(func(string) error { return p.scan() })
	case jsontext.KindBeginArray:
		return p.array(p.scan)
	default:
		return p.dec.SkipValue()
	}
}

// delivered reads an object that will be delivered: one with bto or bcc is refused, and not changed, because the bytes
// are the caller's. A context may define the names; it addresses nobody.
//
// SPEC: ActivityPub, section 6: The server MUST remove the bto and/or bcc properties, if they exist, from the
// ActivityStreams object before delivery.
func (p *parser) delivered(value func(name string) error) error {
	return p.members(func(name string) error {
		switch {
		case name == "@context":
			return p.dec.SkipValue()
		case hidden(name):
			at := strings.TrimPrefix(string(p.dec.StackPointer()), "/activity")
			return p.refuse("must never be delivered; it stands at " + clip(at, maxPlace) + " of the activity")
		}
		return value(name)
	})
}

// hidden tells the names of bto and bcc: short, compact and full.
func hidden(name string) bool {
	for _, prefix := range []string{"as:", "https://www.w3.org/ns/activitystreams#", "http://www.w3.org/ns/activitystreams#"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return name == "bto" || name == "bcc"
}
