package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/internal/testdns"
)

var (
	atTwo = testdns.Reply{Addrs: []string{"127.0.0.2"}}
	nulls = testdns.Always(testdns.Silent)
)

// A look-up may take longer than connection and attempt: it has a time of its own.
func TestLookUpsHaveTheirOwnTime(t *testing.T) {
	port := inboxAtTwo(t)
	late := atTwo
	late.Delay = 1500 * time.Millisecond
	slow := testdns.Start(t, testdns.Always(late))
	r := resolver.New(resolver.Options{Timeout: 20 * time.Second, Servers: []string{slow.Addr}})
	c := newClient(t, ClientOptions{ConnectTimeout: time.Second, AttemptTimeout: time.Second, Policy: loopback, Resolver: r})
	if got := c.Post(newPost(t, "http://one.example:"+port+"/inbox")); got.Status != 202 {
		t.Errorf("got %+v", got)
	}
}

// The attempt's time goes on after the look-up.
func TestAnAttemptEndsThoughItLookedAName(t *testing.T) {
	mute := serveRaw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	_, port, err := net.SplitHostPort(mute.String())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, ClientOptions{
		AttemptTimeout: 50 * time.Millisecond, Policy: loopback, Resolver: newResolver(t, []string{"127.0.0.1"}),
	})
	got := c.Post(newPost(t, "http://one.example:"+port+"/inbox"))
	if got.Err == nil || !got.TimedOut || outcomeOf(got) != OutcomeUnreachable {
		t.Errorf("got %+v, want a time-out", got)
	}
}

// The outcome distinguishes faults of the host's name from those of the node's name servers.
func TestOutcomesOfLookUps(t *testing.T) {
	port := inboxAtTwo(t)
	good, bad := "http://good.example:"+port+"/inbox", "http://bad.example:"+port+"/inbox"
	badIs := func(r testdns.Reply) testdns.Script {
		return testdns.Names(map[string]testdns.Reply{"bad.example": r}, atTwo)
	}
	tests := map[string]struct {
		script testdns.Script
		want   Outcome
	}{
		"one host's name fails":             {badIs(testdns.Fail), OutcomeUnreachable},
		"one host's name has no answer":     {badIs(testdns.Silent), OutcomeUnreachable},
		"no such name":                      {testdns.Always(testdns.NoName), OutcomeUnreachable},
		"no address":                        {testdns.Always(testdns.Reply{}), OutcomeUnreachable},
		"all names fail":                    {testdns.Always(testdns.Fail), OutcomeFault},
		"no name has an answer":             {nulls, OutcomeFault},
		"AAAA queries are dropped":          {aOnly(atTwo), OutcomeDelivered},
		"a private address":                 {badIs(testdns.Reply{Addrs: []string{"10.0.0.1"}}), OutcomePrivateAddress},
		"AAAA dropped, and private":         {aOnly(testdns.Reply{Addrs: []string{"10.0.0.1"}}), OutcomePrivateAddress},
		"the allowed address is the latter": {badIs(testdns.Reply{Addrs: []string{"10.0.0.1", "fd00::1", "127.0.0.2"}}), OutcomeDelivered},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdns.Start(t, testdns.Always(atTwo))
			c := newClient(t, ClientOptions{Policy: loopback, Resolver: asking(s)})
			if got := c.Post(newPost(t, good)); got.Status != 202 {
				t.Fatalf("a good host: got %+v", got)
			}
			s.Do(tt.script)
			if got := c.Post(newPost(t, bad)); outcomeOf(got) != tt.want {
				t.Errorf("got %s: %+v, want %s", outcomeOf(got), got, tt.want)
			}
			if got := c.Post(newPost(t, "http://127.0.0.2:"+port+"/inbox")); got.Status != 202 {
				t.Errorf("a host that is an address: got %+v", got)
			}
		})
	}
}

// aOnly drops all queries but those for A records.
func aOnly(r testdns.Reply) testdns.Script {
	return func(q testdns.Query) testdns.Reply {
		if q.Type != dnsmessage.TypeA {
			return testdns.Silent
		}
		return r
	}
}

// An address that does not answer does not keep the host's other addresses from being dialled.
func TestAddressesAreRaced(t *testing.T) {
	port := inboxAtTwo(t)
	fill(t, [4]byte{127, 0, 0, 3}, port)
	c := newClient(t, ClientOptions{
		ConnectTimeout: 30 * time.Second, Policy: loopback, Resolver: newResolver(t, []string{"127.0.0.3", "127.0.0.2"}),
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got := c.Post(newPost(t, "http://one.example:"+port+"/inbox").WithContext(ctx)); got.Status != 202 {
		t.Errorf("got %+v", got)
	}
}

// fill listens on an address and lets so many connections wait there that the machine drops those that come later.
func fill(t *testing.T, addr [4]byte, port string) {
	t.Helper()
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Port: n, Addr: addr}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	target := netip.AddrPortFrom(netip.AddrFrom4(addr), uint16(n)).String()
	for {
		conn, err := net.DialTimeout("tcp", target, 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

// TestFewOfManyAddressesAreDialled checks that a name with any number of addresses makes an attempt connect to eight, also if
// the name servers take long over some of them.
func TestFewOfManyAddressesAreDialled(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("127.0.1.%d", i+1))
	}
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // keeps the port, on which nobody listens at the other addresses
	for name, tt := range map[string]struct{ ip6, ip4 int }{
		"one family":              {ip4: 8},
		"two families":            {ip6: 6, ip4: 2},
		"too many of each family": {ip6: 40},
	} {
		t.Run(name, func(t *testing.T) {
			names := testdns.Start(t, func(q testdns.Query) testdns.Reply {
				if q.Type == dnsmessage.TypeA {
					return testdns.Reply{Addrs: many, Delay: 375 * time.Millisecond}
				}
				return testdns.Reply{Addrs: slices.Repeat([]string{"::1"}, tt.ip6)} // there is no other
			})
			c := newClient(t, ClientOptions{Policy: loopback, Resolver: asking(names)})
			var ip6, ip4 atomic.Int64
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				ConnectStart: func(_, addr string) {
					if strings.HasPrefix(addr, "[::1]:") {
						ip6.Add(1)
					} else if strings.HasPrefix(addr, "127.0.1.") { // no name server
						ip4.Add(1)
					}
				},
			})
			got := c.Post(newPost(t, "http://one.example:"+portOf(l.Addr())+"/inbox").WithContext(ctx))
			if got.Err == nil || ip6.Load() != int64(min(tt.ip6, 8)) || ip4.Load() != int64(tt.ip4) {
				t.Errorf("%d IPv6 and %d IPv4 addresses were dialled: %+v", ip6.Load(), ip4.Load(), got)
			}
		})
	}
}

// IPv6 addresses that become known late are dialled where the IPv4 addresses don't answer.
func TestTheRestOfTheAddressesIsDialled(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: accept}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	for name, four := range map[string]string{"refused": "127.0.0.2", "private": "10.0.0.1"} {
		t.Run(name, func(t *testing.T) {
			names := testdns.Start(t, func(q testdns.Query) testdns.Reply {
				if q.Type == dnsmessage.TypeA {
					return testdns.Reply{Addrs: []string{four}}
				}
				return testdns.Reply{Addrs: []string{"::1"}, Delay: 375 * time.Millisecond}
			})
			c := newClient(t, ClientOptions{Policy: loopback, Resolver: asking(names)})
			if got := c.Post(newPost(t, "http://one.example:"+portOf(l.Addr())+"/inbox")); got.Status != 202 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A host name with an underscore is looked up and sent as it is.
func TestUnderscore(t *testing.T) {
	port := inboxAtTwo(t)
	names := testdns.Start(t, testdns.Names(map[string]testdns.Reply{"my_host.example": atTwo}, testdns.NoName))
	c := newClient(t, ClientOptions{Policy: loopback, Resolver: asking(names)})
	if got := c.Post(newPost(t, "http://my_host.example:"+port+"/inbox")); got.Status != 202 {
		t.Errorf("got %+v", got)
	}
}

// gated returns a request whose attempt is counted with the addresses that it goes to, as that of a suspect host, and
// the slots that count it.
func gated(t *testing.T, url string) (*http.Request, *Pool) {
	t.Helper()
	p := &Pool{slots: newSlots(8, 1), addresses: newHostSet(8, time.Hour)}
	p.slots.reserve(8)
	g := gate{p, p.slots.claim("one.example", true, []string{"one.example"})}
	return newPost(t, url).WithContext(context.WithValue(t.Context(), gateKey{}, g)), p
}

// An attempt is counted with the address that it goes to, and ends there if that has its share.
func TestAttemptsAreCountedWithTheirAddress(t *testing.T) {
	port := inboxAtTwo(t)
	inbox := "127.0.0.2:" + port
	c := newClient(t, ClientOptions{Policy: loopback, Resolver: newResolver(t, []string{"127.0.0.2"})})
	url := "http://one.example:" + port + "/inbox"
	req, p := gated(t, url)
	other := p.slots.claim("two.example", true, []string{"two.example", inbox})
	if got := c.Post(req); !errors.Is(got.Err, errCrowded) || outcomeOf(got) != OutcomeAborted {
		t.Errorf("got %+v", got)
	}
	if group, _ := p.addresses.get("one.example"); group != inbox {
		t.Errorf("the host's address is %q, want %q", group, inbox)
	}
	p.slots.release(other, 1)
	req, p = gated(t, url)
	if got := c.Post(req); got.Status != http.StatusAccepted || p.slots.held[inbox] != 1 {
		t.Errorf("got %+v, counted with %v", got, p.slots.held)
	}
	req, p = gated(t, url)
	if got := c.Post(req); !got.Reused || p.slots.held[inbox] != 1 {
		t.Errorf("on a connection that was kept: got %+v, counted with %v", got, p.slots.held)
	}
}
