package handlers

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxFaults is how many faults of a call are reported. Reading stops there, so that a hostile call costs little.
const maxFaults = 20

const (
	maxName     = 64  // the longest member name that is repeated in an error
	maxLocation = 256 // the length from which on a location is cut
)

// errEnough ends the reading of a call that has maxFaults faults.
var errEnough = errors.New("enough faults")

// parser reads a JSON text strictly and in one pass: each method reads one whole value of any type, and notes what is
// wrong with it as a fault. The errors that the methods return end the reading: errEnough, a problem, or those of the
// JSON text itself.
//
// Only what is known is read: unknown members, repeated ones and values of a wrong type are faults.
type parser struct {
	dec    *jsontext.Decoder
	text   []byte
	base   string           // where the text stands in the request
	root   jsontext.Pointer // where in the text the activity stands
	faults []fault
}

// newParser makes a parser of a text that stands at base, which is "body" or a location below it.
func newParser(base string, text []byte) *parser {
	// Repeated names are our own matter: they are refused in calls and at the top of activities, where they change what
	// we understand, and pass deeper down.
	dec := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true))
	return &parser{dec: dec, text: text, base: base}
}

// finish checks that nothing follows the value that was read with err, and returns the problem with the text, if any.
func (p *parser) finish(err error) error {
	if err == nil {
		if _, err = p.dec.ReadToken(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			return malformed(p.base, p.dec.InputOffset())
		}
	}
	switch {
	case err == nil && len(p.faults) == 0:
		return nil
	case err == nil || errors.Is(err, errEnough):
		return unprocessable(p.faults...)
	}
	if _, ok := errors.AsType[*problem](err); ok {
		return err
	}
	bad := syntax(p.base, p.text, err)
	if bad.Status == http.StatusUnprocessableEntity {
		bad.Errors = append(p.faults, bad.Errors...)
	}
	return bad
}

// fault notes what is wrong with the value, or the member's name, read last.
func (p *parser) fault(what flaw) error { return p.faultAt("", what) }

// faultAt notes what is wrong with a member of the value read last.
func (p *parser) faultAt(member string, what flaw) error {
	if member != "" {
		member = "." + member
	}
	p.faults = append(p.faults, what.at(p.location()+member))
	if len(p.faults) >= maxFaults {
		return errEnough
	}
	return nil
}

// wrong skips a value that is not what was wanted.
func (p *parser) wrong(want string) error {
	if err := p.dec.SkipValue(); err != nil {
		return err
	}
	return p.fault(wanted(want))
}

// adopt notes the faults of a part of the text that was read apart from the rest.
func (p *parser) adopt(err error) error {
	bad, ok := errors.AsType[*problem](err)
	if !ok || bad.Status != http.StatusUnprocessableEntity {
		return err
	}
	p.faults = append(p.faults, bad.Errors...)
	if len(p.faults) >= maxFaults {
		p.faults = p.faults[:maxFaults]
		return errEnough
	}
	return nil
}

// location returns where in the request the value read last stands, or the one whose name was read last.
func (p *parser) location() string { return p.base + dotted(p.dec.StackPointer()) }

// null reads a null, if there is one: optional members may be null as well as absent.
func (p *parser) null() bool {
	if p.dec.PeekKind() != jsontext.KindNull {
		return false
	}
	_, err := p.dec.ReadToken()
	return err == nil
}

// str reads a string.
func (p *parser) str() (string, error) {
	if p.dec.PeekKind() != jsontext.KindString {
		return "", p.wrong("a string")
	}
	tok, err := p.dec.ReadToken()
	if err != nil {
		return "", err
	}
	return tok.String(), nil
}

// checked reads a string and notes the flaw that check finds in it.
func (p *parser) checked(into *string, check func(string) flaw) error {
	before := len(p.faults)
	s, err := p.str()
	if err != nil || len(p.faults) > before {
		return err
	}
	if what := check(s); what != (flaw{}) {
		return p.fault(what)
	}
	*into = s
	return nil
}

// array reads an array; each reads one element.
func (p *parser) array(each func() error) error {
	if p.dec.PeekKind() != jsontext.KindBeginArray {
		return p.wrong("a list")
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() != jsontext.KindEndArray {
		if err := each(); err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

// members reads an object; value reads the value of the member named.
func (p *parser) members(value func(name string) error) error {
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return p.wrong("an object")
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() != jsontext.KindEndObject {
		tok, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := value(tok.String()); err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

// object reads an object with known members only; value reads the value of the member names[i]. It refuses unknown
// members, because a misspelt option would be lost silently, and repeated ones.
func (p *parser) object(names []string, value func(i int) error) error {
	var seen uint
	return p.members(func(name string) error {
		i := slices.Index(names, name)
		switch {
		case i < 0:
			return p.refuse(unknownMember)
		case seen&(1<<i) != 0:
			return p.refuse(standsTwice)
		}
		seen |= 1 << i
		return value(i)
	})
}

// refuse notes what is wrong with the member whose name was read last, and skips its value.
func (p *parser) refuse(what flaw) error {
	if err := p.fault(what); err != nil {
		return err
	}
	return p.dec.SkipValue()
}

// dotted writes a JSON pointer the way locations are written: .recipients[3].headers. Numbers are taken for indexes.
func dotted(pointer jsontext.Pointer) string {
	var b strings.Builder
	for name := range pointer.Tokens() {
		if b.Len() > maxLocation {
			return b.String() + ".…"
		}
		if _, err := strconv.ParseUint(name, 10, 32); err == nil {
			b.WriteString("[" + name + "]")
		} else {
			b.WriteString("." + repeatable(name))
		}
	}
	return b.String()
}

// repeatable is a name fit to be repeated: what is long or holds control characters may be anything, a secret too.
func repeatable(name string) string {
	if len(name) > maxName || strings.ContainsFunc(name, isControl) {
		return "?"
	}
	return name
}

// clip cuts what is repeated to a length that does no harm.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
