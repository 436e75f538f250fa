package handlers

import (
	"errors"
	"testing"
)

// TestUnmarshal checks the location, the code and the status of the first fault of a small body.
func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct {
		text   string
		status int
		fault  fault
	}{
		{`[]`, 400, fault{Location: "body", Code: codeMalformed}},
		{`null`, 400, fault{Location: "body", Code: codeMalformed}},
		{``, 400, fault{Location: "body", Code: codeMalformed}},
		{`{"ids":["a"]`, 400, fault{Location: "body", Code: codeMalformed}},
		{`{} {}`, 400, fault{Location: "body", Code: codeMalformed}},
		{`{"host":"a` + "\n" + `"}`, 400, fault{Location: "body", Code: codeMalformed}},
		{`{"host":"` + "\xff" + `"}`, 422, fault{Location: "body.host", Code: codeInvalidUTF8}},
		{`{"ids":["a","\ud800"]}`, 422, fault{Location: "body.ids[1]", Code: codeLoneSurrogate}},
		{`{"host":"a","host":"a"}`, 422, fault{Location: "body.host", Code: codeRepeated, Message: "stands twice"}},
		{`{"Host":"a"}`, 422, fault{Location: "body.Host", Code: codeUnknownMember, Message: "is unknown"}},
		{`{"a\nb":1}`, 422, fault{Location: "body.?", Code: codeUnknownMember}},
		{`{"host":1}`, 422, fault{Location: "body.host", Code: codeWrongType, Message: "must be a string"}},
		{`{"ids":{}}`, 422, fault{Location: "body.ids", Code: codeWrongType, Message: "must be a list"}},
		{`{"ids":["a",1]}`, 422, fault{Location: "body.ids[1]", Code: codeWrongType, Message: "must be a string"}},
		{`{"dry_run":"true"}`, 422, fault{Location: "body.dry_run", Code: codeWrongType, Message: "must be true or false"}},
	} {
		err := unmarshal("body", []byte(tt.text), &deadLetterCall{})
		p, ok := errors.AsType[*problem](err)
		if !ok || p.Status != tt.status || len(p.Errors) != 1 {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		got := p.Errors[0]
		if tt.fault.Message == "" {
			got.Message = ""
		}
		if got != tt.fault {
			t.Errorf("%s: got %+v, want %+v", tt.text, got, tt.fault)
		}
	}
}
