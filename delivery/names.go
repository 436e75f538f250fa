package delivery

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"
)

// nameServers is the part of a resolver.Resolver that the pool needs.
type nameServers interface {
	Run(ctx context.Context)
	Away() error
	Suggest(hosts []string)
}

// namelessPause is how long the pool waits before it looks for work again while our name servers are away. Each look
// keeps what it is offered from other nodes for a moment.
const namelessPause = 2 * time.Second

// nameless reports whether the node can't work on a host because our name servers are away.
func (p *Pool) nameless(host string) bool {
	_, named := nameOf(host)
	return named && p.Names.Away() != nil
}

// workable returns the hosts that the node can work on, and has the names of the others tried next. It works on none
// that has to be looked up while our name servers are away: on a fleet, another node may know their addresses.
func (p *Pool) workable(hosts []string) []string {
	if p.Names.Away() == nil {
		return hosts
	}
	var workable, names []string
	for _, host := range hosts {
		if name, named := nameOf(host); named {
			names = append(names, name)
		} else {
			workable = append(workable, host)
		}
	}
	p.Names.Suggest(names)
	return workable
}

// nameOf returns the name in a host, and whether it has to be looked up: an address has not.
func nameOf(host string) (name string, named bool) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	_, err = netip.ParseAddr(name)
	return name, err != nil
}
