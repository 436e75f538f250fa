package handlers

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// delivered reads an object that will be delivered: one whose bto or bcc names somebody is refused, and not changed,
// because the bytes are the caller's. A context may define the names; it has no recipients.
//
// SPEC: ActivityPub, section 6: The server MUST remove the bto and/or bcc properties, if they exist, from the
// ActivityStreams object before delivery.
func (p *parser) delivered(value func(name string) error) error {
	return p.members(func(name string) error {
		switch shortName(name) {
		case "@context":
			return p.dec.SkipValue()
		case "bto", "bcc":
			return p.hidden()
		}
		return value(name)
	})
}

// hidden reads the value of bto or bcc.
func (p *parser) hidden() error {
	empty, err := p.empty()
	if err != nil || empty || len(p.faults) >= maxFaults-1 { // the last one would end the reading: see objects
		return err
	}
	at := strings.TrimPrefix(string(p.dec.StackPointer()), string(p.root))
	return p.fault(flaw{codeHiddenRecipients, "must never be delivered; it is at " + clip(at, maxLocation) + " of the activity"})
}

// empty reads any value and reports whether it names no recipient: null, "", {} or a list of such.
func (p *parser) empty() (bool, error) {
	switch p.dec.PeekKind() {
	case jsontext.KindNull, jsontext.KindString:
		tok, err := p.dec.ReadToken()
		return err == nil && (tok.Kind() == jsontext.KindNull || tok.String() == ""), err
	case jsontext.KindBeginObject:
		empty := true
		err := p.members(func(string) error {
			empty = false
			return p.dec.SkipValue()
		})
		return empty, err
	case jsontext.KindBeginArray:
		empty := true
		err := p.array(func() error {
			one, err := p.empty()
			empty = empty && one
			return err
		})
		return empty, err
	default:
		return false, p.dec.SkipValue()
	}
}

// member reads the value of a member of an object that will be delivered, and only checks it for hidden recipients.
func (p *parser) member(name string) error {
	switch shortName(name) {
	case "contentMap", "summaryMap", "nameMap":
		if p.dec.PeekKind() == jsontext.KindBeginObject {
			return p.members(func(string) error { return p.scan() }) // the names are languages, and bto and bcc are two of them
		}
	}
	return p.scan()
}

// scan reads any value for what must not be delivered.
func (p *parser) scan() error {
	switch p.dec.PeekKind() {
	case jsontext.KindBeginObject:
		return p.delivered(p.member)
	case jsontext.KindBeginArray:
		return p.array(p.scan)
	default:
		return p.dec.SkipValue()
	}
}

// others reports whether the activity carries what is of others, whose bto and bcc are not the caller's to answer for.
func (f *facts) others() bool {
	return f.kind == "Announce" && !slices.Contains(f.carried, f.actor)
}

// shortName returns a name of the ActivityStreams vocabulary without what stands for the vocabulary before it.
func shortName(name string) string {
	for _, prefix := range []string{"as:", "https://www.w3.org/ns/activitystreams#", "http://www.w3.org/ns/activitystreams#"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return name
}
