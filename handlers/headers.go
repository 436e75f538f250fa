package handlers

import (
	"net/textproto"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/postrider/postrider/queue"
)

const (
	maxHeaders     = 16
	maxHeaderBytes = 8 << 10
)

// reserved are the headers that a recipient can't set: those that are ours to set and sign, and those that steer the
// connection or a proxy, or claim an identity or an origin. Canonical names; so are all that begin with reservedPrefixes.
var reserved = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Authorization": true, "Connection": true, "Content-Digest": true,
	"Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Cookie": true, "Date": true, "Digest": true,
	"Expect": true, "Forwarded": true, "Host": true, "Http2-Settings": true, "Idempotency-Key": true, "Keep-Alive": true,
	"Max-Forwards": true, "Origin": true, "Referer": true, "Repr-Digest": true, "Signature": true, "Signature-Input": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "User-Agent": true, "Via": true, "X-Idempotency-Key": true,

	"Cf-Connecting-Ip": true, "Client-Ip": true, "Fastly-Client-Ip": true, "True-Client-Ip": true, "X-Client-Ip": true,
	"X-Cluster-Client-Ip": true, "X-Http-Method": true, "X-Http-Method-Override": true, "X-Method-Override": true,
	"X-Original-Host": true, "X-Original-Url": true, "X-Real-Ip": true, "X-Rewrite-Url": true,
}

// reservedPrefixes begin the names of further headers that are reserved.
var reservedPrefixes = []string{"Access-Control-", "Proxy-", "Sec-", "X-Forwarded-"}

func isReserved(canonical string) bool {
	return reserved[canonical] ||
		slices.ContainsFunc(reservedPrefixes, func(prefix string) bool { return strings.HasPrefix(canonical, prefix) })
}

// headers are a recipient's, with canonical names, no two alike.
type headers []queue.Header

// Schema describes headers as what they are in a call: an object of strings.
func (headers) Schema(huma.Registry) *huma.Schema {
	most := maxHeaders
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: &huma.Schema{Type: huma.TypeString}, MaxProperties: &most,
		Description: "at most 16 headers and 8 KiB, printable ASCII; none that is reserved",
	}
}

// headers reads the headers of a recipient.
func (p *parser) headers() (headers, error) {
	var hs headers
	total := 0
	err := p.members(func(name string) error {
		if what := checkHeaderName(name); what != (flaw{}) {
			return p.refuse(what)
		}
		h := queue.Header{Name: textproto.CanonicalMIMEHeaderKey(name)}
		if err := p.checked(&h.Value, checkHeaderValue); err != nil {
			return err
		}
		h.Value = textproto.TrimString(h.Value) // as HTTP does: signed must be what is sent
		if total += len(h.Name) + len(h.Value); total > maxHeaderBytes || len(hs) == maxHeaders {
			return p.tooMany("more than 16 headers or 8 KiB")
		}
		added, ok := hs.with(h)
		if !ok {
			return p.fault(standsTwice)
		}
		hs = added
		return nil
	})
	return hs, err
}

// tooMany notes a fault that ends the reading.
func (p *parser) tooMany(message string) error {
	if err := p.fault(flaw{codeTooMany, message}); err != nil {
		return err
	}
	return errEnough
}

// with returns the headers with one more, unless it is there already. It is not ok if it is there with another value.
func (hs headers) with(h queue.Header) (_ headers, ok bool) {
	for _, old := range hs {
		if old.Name == h.Name {
			return hs, old.Value == h.Value
		}
	}
	return append(hs, h), true
}

func checkHeaderName(name string) flaw {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return flaw{codeInvalidHeader, "is not the name of a header"}
	case isReserved(canonical):
		return flaw{codeReservedHeader, "is reserved"}
	}
	return flaw{}
}

func checkHeaderValue(value string) flaw {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return flaw{codeInvalidHeader, "must be printable ASCII"}
	}
	return flaw{}
}
