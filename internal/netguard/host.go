package netguard

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// NormaliseHost returns the lane's name (see Inbox.Host) for a host as users write it (host[:port], IPv6 in brackets). It
// accepts names as ParseInbox does, and any IP address in its usual form. The error is a *Refusal.
func NormaliseHost(s string) (string, error) {
	if refusal := checkCharacters(s); refusal != nil {
		return "", refusal
	}
	at, refusal := parseAuthority(s, NewPolicy([]netip.Prefix{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	}))
	if refusal != nil {
		return "", refusal
	}
	return at.without("443"), nil
}

// authority is a host and its port, both normalised; port is "" if there was none.
type authority struct{ host, port string }

// without returns the authority as text, without the port if it is the default port.
func (a authority) without(defaultPort string) string {
	if a.port == "" || a.port == defaultPort {
		return a.host
	}
	return a.host + ":" + a.port
}

// parseAuthority normalises host[:port].
func parseAuthority(s string, p *Policy) (authority, *Refusal) {
	if strings.Contains(s, "@") {
		return authority{}, badURL("has a user name or password")
	}
	host := s
	port := ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host = s[:i]
		port = s[i+1:]
	}
	port, refusal := normalisePort(port)
	if refusal != nil {
		return authority{}, refusal
	}
	if strings.HasPrefix(host, "[") {
		host, refusal = parseIPv6(host, p)
	} else {
		host, refusal = parseName(host, p)
	}
	return authority{host, port}, refusal
}

func normalisePort(port string) (string, *Refusal) {
	if port == "" { // an empty port is allowed and means the default
		return "", nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", badURL("port must be 1 to 65535")
	}
	return strconv.FormatUint(n, 10), nil
}

// parseIPv6 normalises an IPv6 address in brackets.
func parseIPv6(host string, p *Policy) (string, *Refusal) {
	inner, closed := strings.CutSuffix(host[1:], "]")
	addr, err := netip.ParseAddr(inner)
	if !closed || err != nil || addr.Is4() || addr.Zone() != "" {
		return "", badURL("what is in brackets must be a plain IPv6 address")
	}
	if err := p.Check(addr); err != nil {
		return "", &Refusal{ReasonPrivateAddress, err.Error()}
	}
	return "[" + addr.String() + "]", nil
}

// parseName normalises a host name or an IPv4 address.
func parseName(given string, p *Policy) (string, *Refusal) {
	name, err := toASCII(given)
	if err != nil {
		return "", badURL("host is not a domain name: " + err.Error())
	}
	name = strings.TrimSuffix(name, ".")
	switch last := name[strings.LastIndexByte(name, '.')+1:]; {
	case len(name) > 253 || hasBadLabel(name):
		return "", badURL("host is missing or not a domain name")
	case isNumber(last):
		return parseIPv4(given, p)
	case slices.Contains(loopbackNames, name) || last == "localhost":
		return "", &Refusal{ReasonPrivateAddress, name + " names this machine"}
	case last == "onion" || last == "i2p":
		// SPEC: RFC 7686, section 2: "Applications that do not implement the Tor protocol SHOULD generate an error
		// upon the use of .onion and SHOULD NOT perform a DNS lookup."
		return "", badURL("." + last + " hosts can't be reached")
	}
	return name, nil
}

// parseIPv4 accepts an IPv4 address in the one spelling that all parsers agree on. All others (a single number, octal,
// hexadecimal, fewer than four parts, a final dot, digits of other scripts) are used to hide an address.
func parseIPv4(given string, p *Policy) (string, *Refusal) {
	addr, err := netip.ParseAddr(given)
	if err != nil {
		return "", &Refusal{ReasonPrivateAddress, "an IPv4 address must be written as four decimal numbers"}
	}
	if err := p.Check(addr); err != nil {
		return "", &Refusal{ReasonPrivateAddress, err.Error()}
	}
	return addr.String(), nil
}

// lookupProfile is idna.Lookup with two exceptions, since there are such hosts: it allows hyphens at the third and fourth
// position, and underscores. badLabel refuses the other characters that StrictDomainName would.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.CheckJoiners(true),
	idna.CheckHyphens(false),
	idna.StrictDomainName(false),
)

// toASCII returns a name as A-labels. It does not change names of lower-case letters, digits, hyphens, underscores and dots
// unless they hold A-labels, which it checks.
func toASCII(name string) (string, error) {
	asGiven := func(r rune) bool { return r == '.' || isNameCharacter(r) }
	if strings.TrimFunc(name, asGiven) == "" && !strings.Contains(name, "xn--") {
		return name, nil
	}
	return lookupProfile.ToASCII(name)
}

// loopbackNames are the names, beside .localhost, that resolvers and hosts files usually map to this machine.
var loopbackNames = []string{
	"localhost.localdomain", "localhost4", "localhost6", "localhost4.localdomain4", "localhost6.localdomain6",
	"ip6-localhost", "ip6-loopback", "ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters",
	"loopback", "broadcasthost",
}

func hasBadLabel(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if badLabel(label) {
			return true
		}
	}
	return false
}

// badLabel reports whether a label is not one of a host name.
func badLabel(label string) bool {
	return label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
		strings.ContainsFunc(label, func(r rune) bool { return !isNameCharacter(r) })
}

// isNameCharacter reports whether a label may hold the character. The standards exclude the underscore from host names, but
// resolvers and certificates accept it and some hosts have it.
func isNameCharacter(r rune) bool { return r == '_' || r < utf8.RuneSelf && isLDH(byte(r)) }

func isLDH(c byte) bool { return c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' }

// isNumber reports whether a resolver may read a label as a number: decimal, octal or hexadecimal. It takes a name that
// ends in one for an IPv4 address (URL Standard, section 3.5, "ends in a number").
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
