package netguard

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// MaxURL is the length in bytes of the longest inbox URL accepted.
const MaxURL = 2048

// The reasons for refusing an inbox; there are no others.
const (
	ReasonBadURL         = "bad_url"
	ReasonHTTPNotAllowed = "http_not_allowed"
	ReasonPrivateAddress = "private_address"
)

// Inbox is an inbox URL that may be stored, signed and dialled.
type Inbox struct {
	// URL is absolute and normalised: scheme and host in lower case, the host's name as A-labels and without a final
	// dot, no default port, no fragment, "/" for an empty path. Path and query are byte for byte as given, but for
	// characters beyond ASCII, which are percent-encoded.
	URL string
	// Host is the name of the lane: host[:port], IPv6 in brackets, without the default port of the scheme. Port 443
	// is always left out, because NormaliseHost does not know the scheme and must find the same lane.
	Host string
}

// Refusal says why an inbox or host can't be used.
type Refusal struct {
	Reason string // one of the Reason constants
	Detail string // a text for users
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reason + ": " + r.Detail }

func badURL(detail string) *Refusal { return &Refusal{ReasonBadURL, detail} }

// ParseInbox checks and normalises an inbox URL. It accepts http only if allowHTTP is set, and IP literals only if the
// policy allows them. If several reasons apply, it returns the first of bad_url, private_address and http_not_allowed.
func ParseInbox(raw string, allowHTTP bool, p *Policy) (Inbox, *Refusal) {
	scheme, authority, target, refusal := split(raw)
	if refusal != nil {
		return Inbox{}, refusal
	}
	at, refusal := parseAuthority(authority, p)
	if refusal != nil {
		return Inbox{}, refusal
	}
	if scheme == "http" && !allowHTTP {
		return Inbox{}, &Refusal{ReasonHTTPNotAllowed, "only https inboxes are accepted"}
	}
	host := at.without(defaultPort[scheme])
	in := Inbox{URL: join(raw, scheme+"://", host, target), Host: strings.TrimSuffix(host, ":443")}
	if refusal := checkSent(in.URL, target); refusal != nil {
		return Inbox{}, refusal
	}
	return in, nil
}

// join returns a URL, without an allocation if raw was normalised already.
func join(raw, start, host, target string) string {
	if at := len(start) + len(host); len(raw) == at+len(target) && raw[:len(start)] == start && raw[len(start):at] == host && raw[at:] == target {
		return raw
	}
	return start + host + target
}

var defaultPort = map[string]string{"http": "80", "https": "443"}

// split returns the parts of a URL: scheme in lower case, authority as given, and the request target (path and query) as
// it will be sent.
func split(raw string) (scheme, authority, target string, _ *Refusal) {
	if refusal := checkCharacters(raw); refusal != nil {
		return "", "", "", refusal
	}
	raw, _, _ = strings.Cut(raw, "#")
	scheme, rest, ok := strings.Cut(raw, "://")
	scheme = strings.ToLower(scheme)
	if _, known := defaultPort[scheme]; !ok || !known {
		return "", "", "", badURL("not an absolute https:// URL")
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority = rest[:end]
	target = escape(rest[end:])
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return scheme, authority, target, nil
}

// checkCharacters refuses characters that no URL may hold, and those that parsers are known to disagree on.
func checkCharacters(raw string) *Refusal {
	if len(raw) > MaxURL {
		return badURL("too long")
	}
	if !utf8.ValidString(raw) {
		return badURL("not UTF-8")
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c == 0x7f || c == '\\' || c == '"' || c == '<' || c == '>' {
			return badURL(`has a space, a control character or one of \ " < >`)
		}
	}
	return nil
}

// escape percent-encodes all bytes beyond ASCII.
//
// SPEC: RFC 3987, section 3.1: "each octet […] is converted to %HH".
func escape(s string) string {
	if !strings.ContainsFunc(s, beyondASCII) {
		return s
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < utf8.RuneSelf {
			b.WriteByte(c)
			continue
		}
		const hex = "0123456789ABCDEF"
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

func beyondASCII(r rune) bool { return r >= utf8.RuneSelf }

// checkSent refuses a URL that net/http would not send as it is, because the target is signed as it is: net/http decodes
// and re-encodes a path with characters that should have been encoded.
func checkSent(normalised, target string) *Refusal {
	if len(normalised) > MaxURL {
		return badURL("too long")
	}
	if isPlain(target) {
		return nil
	}
	u, err := url.Parse(normalised)
	if err != nil || u.RequestURI() != target {
		return badURL("path has a character that must be percent-encoded, or a bad percent-encoding")
	}
	return nil
}

// isPlain reports whether a target is a path of characters that net/http never changes. That of nearly all inboxes is.
func isPlain(target string) bool {
	for _, c := range []byte(target) {
		if !isLDH(c) && c != '/' && c != '.' && c != '_' && c != '~' && c != '@' && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
