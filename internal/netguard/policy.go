// Package netguard decides which addresses and which inbox URLs may be used, so that an inbox named by a stranger
// can't make a node talk to the network it stands in.
//
// What callers may rely on: it fails closed (what it doesn't know to be public is refused), it opens no connection and
// asks no resolver, and what ParseInbox returns is sent by net/http exactly as it stands. All is safe for concurrent
// use.
//
// What callers may not rely on: that a name accepted here leads to a public address. Names are judged when they are
// dialled, by Policy.Check on the address really connected to; anything earlier could be undone by the next look-up.
// Nor can anybody tell by its look that a public address is translated to a private one on the way (a NAT64 prefix of
// the network's own, a router that hairpins).
package netguard

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrPrivate is wrapped by every refusal of an address.
var ErrPrivate = errors.New("private or special address")

// Policy says which addresses may be dialled: the public ones, and what its allow list adds. A nil Policy allows the
// public ones only.
type Policy struct {
	allow []netip.Prefix
}

// NewPolicy makes a policy that allows public addresses and all addresses in allow. An IPv4 address is matched by IPv4
// prefixes whichever way it is written, so a prefix of IPv4-mapped addresses is taken for the IPv4 prefix it maps.
func NewPolicy(allow []netip.Prefix) *Policy {
	p := &Policy{allow: make([]netip.Prefix, 0, len(allow))}
	for _, prefix := range allow {
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		p.allow = append(p.allow, prefix)
	}
	return p
}

// Check returns nil if addr may be dialled, else an error that wraps ErrPrivate and says why not.
func (p *Policy) Check(addr netip.Addr) error {
	// A zone names an interface of this machine, so no inbox of a stranger can have one.
	if !addr.IsValid() || addr.Zone() != "" {
		return fmt.Errorf("%w: %s is no plain IP address", ErrPrivate, addr)
	}
	plain := addr.Unmap()
	if p.allows(plain) {
		return nil
	}
	if why := special(plain); why != "" {
		return fmt.Errorf("%w: %s is %s", ErrPrivate, addr, why)
	}
	return nil
}

func (p *Policy) allows(addr netip.Addr) bool {
	if p == nil {
		return false
	}
	for _, prefix := range p.allow {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// embedded is the IPv4 address in the last 32 bits of an IPv6 one.
func embedded(addr netip.Addr) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// special says what makes an address unfit to be dialled, or returns "" for a public one.
func special(addr netip.Addr) string {
	if nat64.Contains(addr) {
		return specialNAT64(addr)
	}
	for _, r := range specialRanges {
		if r.prefix.Contains(addr) {
			return fmt.Sprintf("in %s (%s)", r.prefix, r.name)
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return fmt.Sprintf("outside %s (global unicast)", globalUnicast)
	}
	return ""
}

// specialNAT64 judges an address of the well-known NAT64 prefix, which hosts without IPv4 need to reach those without
// IPv6.
//
// SPEC: RFC 6052, section 3.1: "The Well-Known Prefix MUST NOT be used to represent non-global IPv4 addresses".
func specialNAT64(addr netip.Addr) string {
	if why := special(embedded(addr)); why != "" {
		return fmt.Sprintf("in %s (NAT64) for %s, %s", nat64, embedded(addr), why)
	}
	return ""
}

var (
	nat64         = netip.MustParsePrefix("64:ff9b::/96")
	globalUnicast = netip.MustParsePrefix("2000::/3")
)

// specialRange is a range in which no inbox can be.
type specialRange struct {
	prefix netip.Prefix
	name   string
}

// specialRanges are the IANA special-purpose address registries (RFC 6890 and its successors), multicast, and one
// address that is special in fact. Ranges that are globally reachable for some other use (AS112, AMT) are here too. Of
// IPv6, what lies outside of 2000::/3 is refused anyway and listed for the sake of a better message.
var specialRanges = []specialRange{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private use"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud platform service"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private use"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112"},
	{netip.MustParsePrefix("192.52.193.0/24"), "AMT"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private use"},
	{netip.MustParsePrefix("192.175.48.0/24"), "AS112"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},

	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local-use NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard-only"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "dummy"},
	{netip.MustParsePrefix("2001::/32"), "Teredo"},
	{netip.MustParsePrefix("2001:2::/48"), "benchmarking"},
	{netip.MustParsePrefix("2001:10::/28"), "ORCHID"},
	{netip.MustParsePrefix("2001:20::/28"), "ORCHIDv2"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing"},
	{netip.MustParsePrefix("fc00::/7"), "unique local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}
