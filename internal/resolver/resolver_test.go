package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/postrider/postrider/internal/testdns"
)

const (
	four, fourToo = "192.0.2.4", "192.0.2.44"
	six, sixToo   = "2001:db8::6", "2001:db8::66"
)

// newResolver returns a resolver that asks these servers, each for half a second.
func newResolver(servers ...*testdns.Server) *Resolver {
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr)
	}
	return New(Options{Timeout: 2 * time.Second, Servers: addrs})
}

// all returns all addresses of a host, a list for each time that some came.
func all(t *testing.T, r *Resolver, host string) (batches [][]string, err error) {
	t.Helper()
	for addrs, failed := range r.Lookup(t.Context(), host) {
		if failed != nil {
			return nil, failed
		}
		var batch []string
		for _, addr := range addrs {
			batch = append(batch, addr.String())
		}
		batches = append(batches, batch)
	}
	return batches, nil
}

func wantAddrs(t *testing.T, r *Resolver, host string, want ...[]string) {
	t.Helper()
	got, err := all(t, r, host)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s: %v\n%s", host, err, diff)
	}
}

// by answers A and AAAA queries differently.
func by(a, aaaa testdns.Reply) testdns.Script {
	return func(q testdns.Query) testdns.Reply {
		if q.Type == dnsmessage.TypeA {
			return a
		}
		return aaaa
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	v4, v6 := testdns.Reply{Addrs: []string{four, fourToo}}, testdns.Reply{Addrs: []string{six, sixToo}}
	late := testdns.Reply{Addrs: []string{six}, Delay: grace + grace/2}
	tests := []struct {
		name   string
		script testdns.Script
		want   [][]string
	}{
		{"both families", by(v4, v6), [][]string{{six, four, sixToo, fourToo}}},
		{"one IPv6 address", by(v4, testdns.Reply{Addrs: []string{six}}), [][]string{{six, four, fourToo}}},
		{"IPv4 only", by(v4, testdns.Reply{}), [][]string{{four, fourToo}}},
		{"IPv6 only", by(testdns.Reply{}, v6), [][]string{{six, sixToo}}},
		{"AAAA queries dropped", by(v4, testdns.Silent), [][]string{{four, fourToo}}},
		{"A queries dropped", by(testdns.Silent, v6), [][]string{{six, sixToo}}},
		{"AAAA queries fail", by(v4, testdns.Fail), [][]string{{four, fourToo}}},
		{"IPv6 late", by(v4, late), [][]string{{four, fourToo}, {six}}},
		{"IPv6 only and late", by(testdns.Reply{}, late), [][]string{{six}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantAddrs(t, newResolver(testdns.Start(t, tt.script)), "one.example", tt.want...)
		})
	}
}

// A family without an answer holds the other one back for a moment only: a caller that is content with that need not wait.
func TestOneFamilyHasNoAnswer(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]testdns.Script{
		"A": by(testdns.Silent, testdns.Reply{Addrs: []string{six}}), "AAAA": by(found, testdns.Silent),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdns.Start(t, script)
			r := New(Options{Timeout: time.Hour, Servers: []string{s.Addr}})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for addrs, err := range r.Lookup(ctx, "one.example") {
				if err != nil || len(addrs) != 1 {
					t.Errorf("got %v, %v", addrs, err)
				}
				break
			}
		})
	}
}

func TestLookupFindsNothing(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]testdns.Script{
		"no name":                          testdns.Always(testdns.NoName),
		"no address":                       testdns.Always(testdns.Reply{}),
		"no address, AAAA queries dropped": by(testdns.Reply{}, testdns.Silent),
		"no address, AAAA queries fail":    by(testdns.Reply{}, testdns.Fail),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newResolver(testdns.Start(t, script))
			_, err := all(t, r, "one.example")
			failed, ok := errors.AsType[*net.DNSError](err)
			if !ok || failed.Name != "one.example" || errors.Is(err, ErrAway) || r.Away() != nil {
				t.Errorf("got %v, away: %v; want an error of the host", err, r.Away())
			}
		})
	}
}

// A name with a dot in it is asked for as it is, whatever the system's search list says.
func TestNamesWithADotAreAbsolute(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"one.example": "one.example.", "one.example.": "one.example.", "mastodon": "mastodon", "my_host.example": "my_host.example.",
	} {
		if got := absolute(host); got != want {
			t.Errorf("%s is looked up as %s, want %s", host, got, want)
		}
	}
	s := testdns.Start(t, testdns.Names(map[string]testdns.Reply{"my_host.example": {Addrs: []string{four}}}, testdns.NoName))
	wantAddrs(t, newResolver(s), "my_host.example", []string{four})
}

// A silent server costs the first look-up a part of its time, and those that follow nothing: it is not asked.
func TestOneOfTwoServersIsSilent(t *testing.T) {
	t.Parallel()
	mute := testdns.Start(t, testdns.Always(testdns.Silent))
	good := testdns.Start(t, testdns.Always(testdns.Reply{Addrs: []string{four}}))
	r := newResolver(mute, good)
	wantAddrs(t, r, "one.example", []string{four})
	if mute.Asked("one.example") == 0 {
		t.Fatal("the silent server was not asked first")
	}
	for _, host := range []string{"two.example", "three.example"} {
		wantAddrs(t, r, host, []string{four})
		if n := mute.Asked(host); n > 0 {
			t.Errorf("the silent server was asked for %s", host)
		}
	}
	mute.Do(testdns.Always(testdns.Reply{Addrs: []string{fourToo}}))
	good.Do(testdns.Always(testdns.Silent))
	wantAddrs(t, r, "four.example", []string{fourToo})
}

// A server that was silent is skipped for a while. Then one query tries it.
func TestPassOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const server = "192.0.2.1:53"
		var s silent
		want := func(when string, passed ...bool) {
			t.Helper()
			for i, want := range passed {
				if got := s.skip(server); got != want {
					t.Errorf("%s, query %d: passed over: %t, want %t", when, i, got, want)
				}
			}
		}
		want("at first", false, false)
		s.add(server)
		want("after silence", true, true)
		time.Sleep(skipFor)
		want("after a while", false, true, true)
		time.Sleep(skipFor)
		want("after another while", false, true)
		s.remove(server)
		want("after an answer", false, false)
	})
}

// A server that answers that it can't is no reason to fail either.
func TestOneOfTwoServersFails(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]testdns.Reply{"SERVFAIL": testdns.Fail, "REFUSED": testdns.Refused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := testdns.Start(t, testdns.Always(reply))
			good := testdns.Start(t, testdns.Always(testdns.Reply{Addrs: []string{four}}))
			wantAddrs(t, newResolver(bad, good), "one.example", []string{four})
		})
	}
}

// While a server is silent a look-up asks it again until its time is over.
func TestALostAnswerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	lost := 0
	r := newResolver(testdns.Start(t, func(q testdns.Query) testdns.Reply {
		if q.Type == dnsmessage.TypeA && lost < 2 {
			lost++
			return testdns.Silent
		}
		return testdns.Reply{Addrs: []string{four}}
	}))
	wantAddrs(t, r, "one.example", []string{four})
}

// The hosts file is asked first, and needs no server.
func TestHostsFile(t *testing.T) {
	t.Parallel()
	r := newResolver(testdns.Start(t, testdns.Always(testdns.Silent)))
	got, err := all(t, r, "localhost")
	if err != nil || len(got) != 1 || !netip.MustParseAddr(got[0][0]).IsLoopback() {
		t.Errorf("got %v, %v", got, err)
	}
}

// The end of the caller's context is no fault of a server.
func TestLookupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newResolver(testdns.Start(t, testdns.Always(testdns.Silent)))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	for addrs, err := range r.Lookup(ctx, "one.example") {
		if err == nil || errors.Is(err, ErrAway) || r.Away() != nil {
			t.Errorf("got %v, %v, away: %v", addrs, err, r.Away())
		}
	}
}

func TestErrorsAreShort(t *testing.T) {
	t.Parallel()
	s := testdns.Start(t, testdns.Always(testdns.Fail))
	r := newResolver(s)
	_, err := all(t, r, "one.example")
	want := "no host name can be looked up: lookup one.example on " // and which server
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "server misbehaving") {
		t.Errorf("got %v, want %s…", err, want)
	}
	if why := r.Away(); why == nil || strings.Contains(why.Error(), "one.example") || !strings.Contains(why.Error(), "server misbehaving") {
		t.Errorf("away: %v, want the reason without the host", why)
	}
}
