package handlers

import (
	"net/textproto"
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
// connection or claim an identity. Canonical names; whatever begins with Proxy- is reserved too.
var reserved = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Authorization": true, "Connection": true, "Content-Digest": true,
	"Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Cookie": true, "Date": true, "Digest": true,
	"Expect": true, "Host": true, "Http2-Settings": true, "Idempotency-Key": true, "Keep-Alive": true,
	"Repr-Digest": true, "Signature": true, "Signature-Input": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "User-Agent": true, "X-Idempotency-Key": true,
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
		if message := checkHeaderName(name); message != "" {
			return p.refuse(message)
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
			return p.fault("stands twice")
		}
		hs = added
		return nil
	})
	return hs, err
}

// tooMany notes a fault that ends the reading.
func (p *parser) tooMany(message string) error {
	if err := p.fault(message); err != nil {
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

func checkHeaderName(name string) string {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return "is not the name of a header"
	case reserved[canonical] || strings.HasPrefix(canonical, "Proxy-"):
		return "is reserved"
	}
	return ""
}

func checkHeaderValue(value string) string {
	for _, c := range []byte(value) {
		if c < ' ' || c >= 0x7f {
			return "must be printable ASCII"
		}
	}
	return ""
}
