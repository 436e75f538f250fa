// Package netguard is the SSRF protection: it decides which addresses may be connected to and which inbox URLs are
// accepted, so that an inbox can't make a node send requests to its own network.
//
// What callers may rely on: it fails closed (only addresses known to be public are accepted), it opens no connection and
// looks up no name, and net/http sends the URLs that ParseInbox returns without a change. All is safe for concurrent use.
//
// What callers may not rely on: that a name accepted here has a public address. Policy.Check is called when a name is
// dialled, on the address that is connected to; an earlier check could be undone by the next look-up. Nor can it know
// that a public address is translated to a private one on the way (by a NAT64 prefix of the network's own, or a router
// that hairpins).
package netguard

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ErrPrivate is wrapped by every refusal of an address.
var ErrPrivate = errors.New("private or special address")

// Policy says which addresses may be dialled: the public ones and those of its allow list, except for those of its deny
// list. A nil Policy allows the public ones only.
type Policy struct {
	allow, deny []netip.Prefix
}

// NewPolicy makes a policy that allows public addresses and all addresses in allow, but none in deny. IPv4-mapped addresses
// and prefixes of them are treated as IPv4, and an address of the well-known NAT64 prefix is denied if the IPv4 address in
// it is.
func NewPolicy(allow []netip.Prefix, deny ...netip.Prefix) *Policy {
	return &Policy{allow: unmapped(allow), deny: unmapped(deny)}
}

func unmapped(prefixes []netip.Prefix) []netip.Prefix {
	list := make([]netip.Prefix, 0, len(prefixes))
	for _, prefix := range prefixes {
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		list = append(list, prefix)
	}
	return list
}

// Check returns nil if addr may be dialled, else an error that wraps ErrPrivate and says why not.
func (p *Policy) Check(addr netip.Addr) error {
	// A zone names an interface of this machine, so no remote inbox can have one.
	if !addr.IsValid() || addr.Zone() != "" {
		return fmt.Errorf("%w: %s is no plain IP address", ErrPrivate, addr)
	}
	plain := addr.Unmap()
	if prefix, denied := p.denies(plain); denied {
		return fmt.Errorf("%w: %s is in %s (deny-addresses)", ErrPrivate, addr, prefix)
	}
	if p.allows(plain) {
		return nil
	}
	if why := special(plain); why != "" {
		return fmt.Errorf("%w: %s is %s", ErrPrivate, addr, why)
	}
	return nil
}

// denies returns the prefix of the deny list that an address is in, if there is one.
func (p *Policy) denies(addr netip.Addr) (netip.Prefix, bool) {
	if p == nil {
		return netip.Prefix{}, false
	}
	for _, prefix := range p.deny {
		if prefix.Contains(addr) || nat64.Contains(addr) && prefix.Contains(embedded(addr)) {
			return prefix, true
		}
	}
	return netip.Prefix{}, false
}

func (p *Policy) allows(addr netip.Addr) bool {
	return p != nil && slices.ContainsFunc(p.allow, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// embedded returns the IPv4 address in the last 32 bits of an IPv6 address.
func embedded(addr netip.Addr) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// special returns why an address must not be dialled, or "" for a public one.
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

// specialNAT64 is special for an address of the well-known NAT64 prefix, by which nodes without IPv4 reach hosts without
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

// specialRange is a range of addresses that no public inbox has.
type specialRange struct {
	prefix netip.Prefix
	name   string
}

// specialRanges are the IANA special-purpose address registries (RFC 6890 and its successors), multicast, and one
// address of a cloud platform. Ranges that are globally reachable for some other use (AS112, AMT) are here too. IPv6
// addresses outside of 2000::/3 are refused anyway; their ranges are listed for a better message.
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
