package delivery

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

const (
	maxAddressed  = 1 << 15   // hosts whose addresses are remembered
	addressedLast = time.Hour // after they were last used
)

// errCrowded means that an attempt was not made because suspect hosts at the same address have all slots that they may.
var errCrowded = errors.New("other hosts at this address have all the attempts that they may")

// groupsOf returns the groups of a host: that of its name and, if it was dialled lately, that of the address.
func (p *Pool) groupsOf(host string) []string {
	groups := []string{groupOf(host)}
	if group, ok := p.addresses.get(host); ok && group != groups[0] {
		groups = append(groups, group)
	}
	return groups
}

// gate counts the slots of a turn with the addresses that its attempts dial.
type gate struct {
	pool  *Pool
	share *share
}

type gateKey struct{}

// enterAddress notes that the attempt of a context goes to an address. It returns errCrowded if it must not.
func enterAddress(ctx context.Context, address string) error {
	g, ok := ctx.Value(gateKey{}).(gate)
	if !ok {
		return nil
	}
	group := groupOf(address)
	g.pool.addresses.put(g.share.host, group)
	if !g.pool.slots.enter(g.share, group) {
		return errCrowded
	}
	return nil
}

// groupOf returns what a host has in common with all others that its owner can have for nothing: the domain that was
// registered, an IPv4 address, or the first 48 bits of an IPv6 address, without the port. A private or loopback address
// stands for itself with its port: its owner is the operator, who allowed it.
func groupOf(host string) string {
	name, named := nameOf(host)
	if named {
		return registered(name)
	}
	addr, err := netip.ParseAddr(name)
	switch {
	case err != nil || addr.IsLoopback() || addr.IsPrivate():
		return host
	case addr.Is4() || addr.Is4In6():
		return addr.Unmap().String()
	}
	prefix, err := addr.WithZone("").Prefix(48)
	if err != nil {
		return host
	}
	return prefix.String()
}

// registered returns the domain of a name that a registry sold. A suffix under which a company lets others have names for
// nothing is not one of a registry: all of these names share the company's domain.
func registered(name string) string {
	name = strings.TrimSuffix(name, ".")
	suffix, icann := publicsuffix.PublicSuffix(name)
	for !icann && strings.Contains(suffix, ".") {
		_, parent, _ := strings.Cut(suffix, ".")
		name = suffix
		suffix, icann = publicsuffix.PublicSuffix(parent)
	}
	rest, found := strings.CutSuffix(name, "."+suffix)
	if !found {
		return name // a suffix itself
	}
	return rest[strings.LastIndex(rest, ".")+1:] + "." + suffix
}
