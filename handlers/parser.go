package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxFaults is how many faults of a call are told. Reading stops there, so that a hostile call costs little.
const maxFaults = 20

const (
	maxName  = 64  // the longest member name that is repeated in an error
	maxPlace = 256 // the length from which on a location is cut
)

// errEnough ends the reading of a call that has maxFaults faults.
var errEnough = errors.New("enough faults")

// parser reads a JSON text strictly and in one pass: each method reads one whole value, whatever its type, and notes
// what is wrong with it as a fault. The errors that the methods return end the reading: errEnough, a problem, or those of
// the JSON text itself.
//
// Only what is known is read: unknown members, repeated ones and values of a wrong type are faults.
type parser struct {
	dec    *jsontext.Decoder
	text   []byte
	base   string // where the text stands in the request
	faults []fault
}

// newParser makes a parser of a text that stands at base, which is "body" or a place below.
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
			return p.malformed(p.dec.InputOffset())
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
	return p.syntax(err)
}

// syntax tells a text that is not JSON (400) from one that is not Unicode (422). It repeats nothing of the text, which
// may be a private key.
func (p *parser) syntax(err error) error {
	bad, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return p.malformed(0)
	}
	if !jsontext.Value(p.text).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return p.malformed(bad.ByteOffset)
	}
	return unprocessable(append(p.faults, fault{Location: p.base + dotted(bad.JSONPointer), Message: "is not valid UTF-8"})...)
}

func (p *parser) malformed(offset int64) error {
	where := fault{Location: p.base, Message: fmt.Sprintf("is not a JSON object from byte %d on", offset)}
	return &problem{Status: http.StatusBadRequest, Detail: "the body is not a JSON object", Errors: []fault{where}}
}

// fault notes what is wrong with the value, or the member's name, read last.
func (p *parser) fault(message string) error { return p.faultAt("", message) }

// faultAt notes what is wrong with a member of the value read last.
func (p *parser) faultAt(member, message string) error {
	if member != "" {
		member = "." + member
	}
	location := p.base + dotted(p.dec.StackPointer()) + member
	p.faults = append(p.faults, fault{Location: location, Message: message})
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
	return p.fault("must be " + want)
}

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

// secret reads a string that the caller wipes.
func (p *parser) secret() ([]byte, error) {
	if p.dec.PeekKind() != jsontext.KindString {
		return nil, p.wrong("a string")
	}
	raw, err := p.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	return jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw)
}

// checked reads a string and notes what check says is wrong with it.
func (p *parser) checked(into *string, check func(string) string) error {
	before := len(p.faults)
	s, err := p.str()
	if err != nil || len(p.faults) > before {
		return err
	}
	if message := check(s); message != "" {
		return p.fault(message)
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

// object reads an object of which all members are known; value reads that of the member names[i]. What is unknown is
// refused, because a misspelt option would be lost in silence, and so is what stands twice.
func (p *parser) object(names []string, value func(i int) error) error {
	var seen uint
	return p.members(func(name string) error {
		i := slices.Index(names, name)
		switch {
		case i < 0:
			return p.refuse("is unknown")
		case seen&(1<<i) != 0:
			return p.refuse("stands twice")
		}
		seen |= 1 << i
		return value(i)
	})
}

// refuse notes what is wrong with the member whose name was read last, and skips its value.
func (p *parser) refuse(message string) error {
	if err := p.fault(message); err != nil {
		return err
	}
	return p.dec.SkipValue()
}

// dotted writes a JSON pointer the way locations are written: .recipients[3].headers. Numbers are taken for indexes.
func dotted(pointer jsontext.Pointer) string {
	var b strings.Builder
	for name := range pointer.Tokens() {
		if b.Len() > maxPlace {
			return b.String() + ".…"
		}
		if _, err := strconv.ParseUint(name, 10, 32); err == nil {
			b.WriteString("[" + name + "]")
		} else {
			b.WriteString("." + printable(name))
		}
	}
	return b.String()
}

// printable is a name fit to be repeated: what is long or holds control characters may be anything, a secret too.
func printable(name string) string {
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
