package signer

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// message is a request as it goes over the wire, with what is to be signed of it.
type message struct {
	Params
	method string
	scheme string // of the URL
	host   string // the Host header
	target string // the request target
	header http.Header
	now    time.Time
}

// component is one line of what is signed: a header, its name in lower case, or something derived from the request.
type component struct{ name, value string }

// newMessage reads req as net/http will send it, and dates it. It refuses a request that net/http would change before it
// sends it, since the signature would not match.
func newMessage(req *http.Request, p Params, now time.Time) (*message, error) {
	m := &message{
		Params: p,
		method: cmp.Or(req.Method, http.MethodGet),
		scheme: req.URL.Scheme,
		host:   cmp.Or(req.Host, req.URL.Host),
		target: req.URL.RequestURI(),
		header: req.Header,
		now:    now,
	}
	switch {
	case m.scheme != "https" && m.scheme != "http":
		return nil, errors.New("URL is neither https nor http")
	case m.host == "" || strings.ContainsFunc(m.host, notInHost):
		return nil, errors.New("host is not in plain ASCII without zone (names as A-labels)")
	case !strings.HasPrefix(m.target, "/") || strings.ContainsFunc(m.target, spaceOrControl):
		return nil, errors.New("request target is not an absolute path without spaces")
	case !httpguts.ValidHeaderFieldName(m.method):
		return nil, errors.New("method is not a token")
	}
	m.header["Date"] = []string{now.UTC().Format(http.TimeFormat)}
	return m, nil
}

func spaceOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

// notInHost reports whether net/http would encode a character of a Host header or cut it out, or refuse it.
func notInHost(r rune) bool {
	return spaceOrControl(r) || r > '~' || strings.ContainsRune(`%/\?#@"`, r)
}

// field returns a header of the request as a component: values trimmed and joined (RFC 9421 section 2.1,
// draft-cavage-12 section 2.3).
// SPEC: RFC 9421 section 2: "Component values MUST NOT contain newline (\n) characters."
func (m *message) field(name string) (component, error) {
	canonical := http.CanonicalHeaderKey(name)
	switch canonical {
	case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
		return component{}, fmt.Errorf("header %q can't be signed: net/http sends its own", name)
	}
	values := m.header[canonical]
	if len(values) == 0 || !httpguts.ValidHeaderFieldName(name) {
		return component{}, fmt.Errorf("header %q to be signed is not set", name)
	}
	joined := ""
	for i, v := range values {
		if !httpguts.ValidHeaderFieldValue(v) {
			return component{}, fmt.Errorf("header %q to be signed holds a control character", name)
		}
		if i > 0 {
			joined += ", "
		}
		joined += strings.Trim(v, " \t")
	}
	return component{strings.ToLower(name), joined}, nil
}

// withHeaders appends the extra headers to the covered components. It leaves out those that are covered already.
// SPEC: RFC 9421 section 2.5: "If the component identifier (including its parameters) has already been added to the
// signature base, produce an error."
func (m *message) withHeaders(covered []component) ([]component, error) {
	for _, name := range m.Headers {
		c, err := m.field(name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(covered, func(other component) bool { return other.name == c.name }) {
			covered = append(covered, c)
		}
	}
	return covered, nil
}
