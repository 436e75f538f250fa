package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"golang.org/x/net/html"

	"github.com/postrider/postrider/internal/printable"
)

const (
	maxExcerpt  = 200      // characters kept of what a stranger says
	excerptFrom = 16 << 10 // bytes of a body in which it is looked for
	maxNesting  = 4        // objects, lists and strings within one another, down to the text of an error
)

// shown makes text of a stranger fit to be stored, logged and shown. All that is kept of what hosts say goes through
// it.
func shown(text string) string { return printable.Line(text, maxExcerpt) }

// errUnasked stands for an error of net/http that has no text of its own.
var errUnasked = errors.New("the inbox sent something before it was asked")

// shownError is shown for an error, which may name our own addresses.
func shownError(err error) string {
	if err != nil && strings.Contains(err.Error(), "readLoopPeekFailLocked: %!w(<nil>)") {
		err = errUnasked
	}
	return printable.Error(err, maxExcerpt)
}

// excerpt returns what an answer says of an error: the target of a redirect, the title of an HTML page, the error
// member of a JSON object, else its text. The body may be cut off.
func excerpt(status int, header http.Header, body []byte) string {
	if target := shown(header.Get("Location")); target != "" && status/100 == 3 {
		return target
	}
	if header.Get("Content-Encoding") != "" { // which the node did not ask for
		return ""
	}
	said := ""
	switch body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\ufeff"))); {
	case len(body) == 0:
		return ""
	case strings.IndexByte(`{["`, body[0]) >= 0:
		said = errorInJSON(body, maxNesting)
	case body[0] == '<':
		said = errorInMarkup(body)
	}
	if said != "" {
		return said
	}
	return shown(string(body))
}

// errorMembers are the members of a JSON object that say what is wrong, the one that says most first.
var errorMembers = []string{"error", "message", "detail", "details", "reason", "description", "title", "errors", "code"}

// errorInJSON returns what a JSON value says of an error: a string, the first string of a list, or that of a
// member of an object that usually holds the error. It descends at most depth levels.
func errorInJSON(value []byte, depth int) string {
	if depth == 0 || len(value) == 0 {
		return ""
	}
	switch value[0] {
	case '"':
		var text string
		_ = json.Unmarshal(value, &text) // what can't be read says nothing
		return shown(text)
	case '[':
		for _, element := range elements(value) {
			if said := errorInJSON(element, depth-1); said != "" {
				return said
			}
		}
	case '{':
		members := members(value)
		for _, name := range errorMembers {
			if said := errorInJSON(members[name], depth-1); said != "" {
				return said
			}
		}
	}
	return ""
}

// elements returns the elements of a JSON list, as many as can be read.
func elements(list []byte) (all []json.RawMessage) {
	d := json.NewDecoder(bytes.NewReader(list))
	_, _ = d.Token() // the bracket
	for d.More() {
		var element json.RawMessage
		if d.Decode(&element) != nil {
			break
		}
		all = append(all, element)
	}
	return all
}

// members returns the members of a JSON object by their names in lower case, as many as can be read, the first of each.
func members(object []byte) map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token() // the brace
	for d.More() {
		name, err := d.Token()
		text, ok := name.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			break
		}
		if text = strings.ToLower(text); all[text] == nil {
			all[text] = value
		}
	}
	return all
}

// errorInMarkup returns the title of a page of HTML or XML, else the text of it.
func errorInMarkup(page []byte) string {
	z := html.NewTokenizer(bytes.NewReader(page))
	z.AllowCDATA(true)
	var text strings.Builder
	within := "" // the element that began last
	for {
		switch z.Next() {
		case html.ErrorToken:
			return shown(text.String())
		case html.StartTagToken:
			name, _ := z.TagName()
			within = string(name)
		case html.EndTagToken:
			within = ""
		case html.TextToken:
			switch within {
			case "title":
				if title := shown(string(z.Text())); title != "" {
					return title
				}
			case "script", "style", "noscript":
			default:
				text.Write(z.Text())
			}
		}
		text.WriteByte(' ')
	}
}
