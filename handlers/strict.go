package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// readFrom says which JSON type a kind of Go type is read from.
var readFrom = map[reflect.Kind]string{
	reflect.String: "a string", reflect.Bool: "true or false", reflect.Slice: "a list", reflect.Struct: "an object",
}

// unmarshal reads a small JSON text, which stands at base, into a struct. It refuses members that the struct does not have,
// because a misspelt option would be lost in silence, and members that stand twice. A body that is no object is malformed.
// The error names the first fault.
func unmarshal(base string, text []byte, into any) error {
	if base == "body" && jsontext.Value(text).Kind() != jsontext.KindBeginObject {
		return malformed(base, 0)
	}
	err := json.Unmarshal(text, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	bad, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return syntax(base, text, err)
	}
	what := unknownMember
	if !errors.Is(err, json.ErrUnknownName) {
		what = wanted(readFrom[bad.GoType.Kind()])
	}
	return invalid(base+dotted(bad.JSONPointer), what)
}

// wanted is the flaw of a value of another type.
func wanted(kind string) flaw { return flaw{codeWrongType, "must be " + kind} }

// syntax distinguishes a text that is not JSON (400) from one that is not Unicode or repeats a member (422). It repeats
// nothing of the text, which may be a private key.
func syntax(base string, text []byte, err error) *problem {
	bad, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return malformed(base, 0)
	}
	if !jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return malformed(base, bad.ByteOffset)
	}
	what := flaw{codeInvalidUTF8, "is not valid UTF-8"}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		what = standsTwice
	case bytes.HasPrefix(text[min(bad.ByteOffset, int64(len(text))):], []byte(`\u`)):
		what = flaw{codeLoneSurrogate, "holds half of a surrogate pair (an escape from \\ud800 to \\udfff alone), which is no character"}
	}
	return invalid(base+dotted(bad.JSONPointer), what)
}

// malformed is a 400 for a text at base that is not JSON from an offset on.
func malformed(base string, offset int64) *problem {
	where := flaw{codeMalformed, fmt.Sprintf("is not a JSON object from byte %d on", offset)}.at(base)
	return &problem{Status: http.StatusBadRequest, Detail: base + " is not a JSON object", Errors: []fault{where}}
}
