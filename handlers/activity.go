package handlers

import (
	"cmp"

	"github.com/go-json-experiment/json/jsontext"
)

// maxWraps is how many activities inside each other are looked at: an Announce of an Undo of an Announce of a Delete
// has four. Further in there is nothing but what must not be delivered.
const maxWraps = 8

// facts are what has to be known of an activity, or of what stands as its object. The rest is not looked at, but for
// what must not be in it. All IDs are "" if there are none.
type facts struct {
	id, kind      string // the first type, if there are several
	actor, object string // the first ones, if there are several
	several       bool   // there are several objects
	inner         *facts // the first object, if it is not named by its ID only

	authors []string // the actors that it is from
	carried []string // the actors that its objects are from
	hidden  []fault  // bto and bcc in its objects
}

// facts reads an activity.
func (p *parser) facts(f *facts) error {
	before, seen := len(p.faults), map[string]bool{}
	err := p.delivered(func(name string) error {
		if seen[name] {
			return p.refuse(standsTwice)
		}
		seen[name] = true
		switch name {
		case "id":
			return p.checked(&f.id, checkText)
		case "type":
			return p.kind(f)
		}
		return p.fact(f, name, maxWraps)
	})
	if err == nil && !f.others() {
		p.faults = someOf(p.faults, f.hidden)
	}
	if err != nil || len(p.faults) > before {
		return err
	}
	if !seen["id"] {
		err = p.faultAt("id", isMissing)
	}
	if err == nil && !seen["type"] {
		err = p.faultAt("type", isMissing)
	}
	return err
}

// kind reads the type of an activity: a string, or the first of a list of strings.
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
	return p.fault(flaw{codeEmpty, "must hold a type"})
}

// fact reads a member other than id and type.
func (p *parser) fact(f *facts, name string, depth int) (err error) {
	switch {
	case name == "actor":
		f.actor, err = p.author(f)
	case name == "attributedTo":
		_, err = p.author(f)
	case name == "object" && depth > 0:
		err = p.objects(f, depth-1)
	default:
		err = p.member(name)
	}
	return err
}

// author reads who an activity or object is from, and returns the first of them.
func (p *parser) author(f *facts) (first string, err error) {
	err = p.references(0, func(id string, _ *facts) {
		first = cmp.Or(first, id)
		f.authors = append(f.authors, id)
	})
	return first, err
}

// objects reads the objects of an activity. The faults in them are set aside, because only the activity's type and
// actor, which may stand behind them, say whether they count. There are too few to end the reading.
func (p *parser) objects(f *facts, depth int) error {
	f.object, f.inner = "", nil
	count, outside := 0, p.faults
	p.faults = nil
	err := p.references(depth, func(id string, inner *facts) {
		if count++; count == 1 {
			f.object, f.inner = id, inner
		}
		if inner != nil {
			f.carried = append(f.carried, inner.authors...)
		}
	})
	f.several = count > 1
	f.hidden = someOf(f.hidden, p.faults)
	p.faults = outside
	return err
}

// references reads any value and finds the objects that it stands for: it may be the ID of one, the object itself, or a
// list of such. The facts are nil where there is only an ID.
func (p *parser) references(depth int, found func(id string, inner *facts)) error {
	switch p.dec.PeekKind() {
	case jsontext.KindString:
		id, err := p.str()
		found(id, nil)
		return err
	case jsontext.KindBeginObject:
		inner := &facts{}
		err := p.innerFacts(inner, depth)
		found(inner.id, inner)
		return err
	case jsontext.KindBeginArray:
		return p.array(func() error { return p.references(depth, found) })
	default:
		return p.dec.SkipValue()
	}
}

// innerFacts reads what stands as the object of an activity. Nothing in it is a fault but what must not be delivered.
func (p *parser) innerFacts(f *facts, depth int) error {
	err := p.delivered(func(name string) error {
		switch {
		case name == "id" && p.dec.PeekKind() == jsontext.KindString:
			id, err := p.str()
			f.id = id
			return err
		case name == "type":
			f.kind = ""
			return p.references(0, func(kind string, _ *facts) { f.kind = cmp.Or(f.kind, kind) })
		}
		return p.fact(f, name, depth)
	})
	if f.actor == "" || !f.others() {
		p.faults = someOf(p.faults, f.hidden)
	}
	return err
}

// someOf adds faults to a list as long as it holds less than would end the reading.
func someOf(list, more []fault) []fault {
	room := max(0, maxFaults-1-len(list))
	return append(list, more[:min(room, len(more))]...)
}
