// Package locktest is the contract of lockmgr.Manager as tests, to be run against every back-end.
//
// Cases sleep to let leases lapse, so give a back-end without sockets a wrapper that runs them in a synctest bubble. On
// the real clock a case takes about three seconds at most, and tolerates a machine that stalls for a third of a second.
package locktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/postrider/postrider/lockmgr"
)

// Options adapt the suite to a back-end. The zero value suits one that works on the real clock and isn't shared.
type Options struct {
	// Wrap runs a case, for example synctest.Test; nil just calls it.
	Wrap func(t *testing.T, f func(t *testing.T))
	// Fleet says that managers made within one case are nodes that share one store, as in a fleet. Without it a second
	// manager is the same node after a restart, and the first is not used any more.
	Fleet bool
}

// ttl is how long the leases of the cases last.
const ttl = time.Second

// Run checks every promise of lockmgr on the back-end. newManager returns a manager whose leases last ttl; it frees
// what it opened by t.Cleanup. Called twice in one case, the second manager works on the store of the first, if the
// back-end has one, and its tokens are greater than those of the first.
func Run(t *testing.T, newManager func(t *testing.T, ttl time.Duration) lockmgr.Manager, o Options) {
	if o.Wrap == nil {
		o.Wrap = func(t *testing.T, f func(t *testing.T)) { f(t) }
	}
	open := func(t *testing.T) suite { return suite{t, newManager(t, ttl)} }
	cases := map[string]func(t *testing.T){
		"leases what is free":            func(t *testing.T) { leasesFree(open(t)) },
		"leaves out what is held":        func(t *testing.T) { leavesOutHeld(open(t)) },
		"leases a host once in a call":   func(t *testing.T) { leasesOnce(open(t)) },
		"does nothing for no hosts":      func(t *testing.T) { nothingForNone(open(t)) },
		"handles many hosts":             func(t *testing.T) { manyHosts(open(t)) },
		"a lease lapses":                 func(t *testing.T) { lapses(open(t)) },
		"extending keeps it":             func(t *testing.T) { extendKeeps(open(t)) },
		"extending does not revive":      func(t *testing.T) { extendNeverRevives(open(t)) },
		"extending reports only lost":    func(t *testing.T) { extendReportsLost(open(t)) },
		"extending spares the successor": func(t *testing.T) { extendSparesSuccessor(open(t)) },
		"releasing frees at once":        func(t *testing.T) { releaseFrees(open(t)) },
		"releasing spares the successor": func(t *testing.T) { releaseSparesSuccessor(open(t)) },
		"releasing twice does nothing":   func(t *testing.T) { releaseTwice(open(t)) },
		"tokens rise":                    func(t *testing.T) { tokensRise(open(t)) },
		"one of many gets a host":        func(t *testing.T) { race(t, []suite{open(t)}) },
		"tokens rise across a restart": func(t *testing.T) {
			before := open(t)
			restart(before, func() suite { return open(t) })
		},
	}
	if o.Fleet {
		cases["one of many nodes gets a host"] = func(t *testing.T) { race(t, []suite{open(t), open(t)}) }
		cases["nodes exclude each other"] = func(t *testing.T) { exclude(open(t), open(t)) }
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) { o.Wrap(t, f) })
	}
}

// suite is a manager under test with the checks that cases are made of.
type suite struct {
	t *testing.T
	m lockmgr.Manager
}

// acquire tries to lease hosts, and must get exactly those in want.
func (s suite) acquire(want []string, hosts ...string) []lockmgr.Lease {
	s.t.Helper()
	leases, err := s.m.Acquire(s.t.Context(), hosts)
	if err != nil {
		s.t.Fatalf("Acquire(%q): %v", hosts, err)
	}
	if diff := cmp.Diff(sorted(want), sorted(hostsOf(leases))); diff != "" {
		s.t.Fatalf("Acquire(%q) gave other hosts (-want +got):\n%s", hosts, diff)
	}
	for _, l := range leases {
		if l.Token == 0 || l.TTL != ttl {
			s.t.Fatalf("Acquire gave %+v, want a token and a TTL of %s", l, ttl)
		}
	}
	return leases
}

// all leases hosts, which must all be free.
func (s suite) all(hosts ...string) []lockmgr.Lease {
	s.t.Helper()
	return s.acquire(hosts, hosts...)
}

// one leases a host, which must be free.
func (s suite) one(host string) lockmgr.Lease {
	s.t.Helper()
	return s.all(host)[0]
}

// none tries to lease hosts, none of which may be free.
func (s suite) none(hosts ...string) {
	s.t.Helper()
	s.acquire(nil, hosts...)
}

// extend extends leases. Exactly those in lost must be reported.
func (s suite) extend(lost []lockmgr.Lease, leases ...lockmgr.Lease) {
	s.t.Helper()
	got, err := s.m.Extend(s.t.Context(), leases)
	if err != nil {
		s.t.Fatalf("Extend(%v): %v", leases, err)
	}
	if diff := cmp.Diff(byHost(lost), byHost(got)); diff != "" {
		s.t.Fatalf("Extend(%v) reported others as lost (-want +got):\n%s", leases, diff)
	}
}

func (s suite) release(leases ...lockmgr.Lease) {
	s.t.Helper()
	if err := s.m.Release(s.t.Context(), leases); err != nil {
		s.t.Fatalf("Release(%v): %v", leases, err)
	}
}

func hostsOf(leases []lockmgr.Lease) []string {
	var hosts []string
	for _, l := range leases {
		hosts = append(hosts, l.Host)
	}
	return hosts
}

func byHost(leases []lockmgr.Lease) []lockmgr.Lease {
	return slices.SortedFunc(slices.Values(leases), func(a, b lockmgr.Lease) int { return strings.Compare(a.Host, b.Host) })
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func leasesFree(s suite) {
	s.all("a.example", "b.example:8443", "[2001:db8::1]")
}

func leavesOutHeld(s suite) {
	s.all("a.example", "b.example")
	s.none("a.example")
	s.acquire([]string{"c.example"}, "a.example", "c.example", "b.example")
}

func leasesOnce(s suite) {
	s.acquire([]string{"a.example", "b.example"}, "a.example", "b.example", "a.example")
}

func nothingForNone(s suite) {
	s.all()
	s.extend(nil)
	s.release()
}

func manyHosts(s suite) {
	hosts := make([]string, 2000)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host%d.example", i)
	}
	leases := s.all(hosts...)
	s.extend(nil, leases...)
	s.release(leases...)
	s.all(hosts...)
}

func lapses(s suite) {
	s.one("a.example")
	time.Sleep(ttl / 2)
	s.none("a.example")
	time.Sleep(ttl/2 + ttl/10)
	s.one("a.example")
}

func extendKeeps(s suite) {
	l := s.one("a.example")
	for range 2 {
		time.Sleep(ttl * 6 / 10)
		s.extend(nil, l)
	}
	s.none("a.example")
	time.Sleep(ttl + ttl/10)
	s.one("a.example")
}

func extendNeverRevives(s suite) {
	l := s.one("a.example")
	time.Sleep(ttl + ttl/10)
	s.extend([]lockmgr.Lease{l}, l)
	s.one("a.example")
}

func extendReportsLost(s suite) {
	leases := byHost(s.all("a.example", "b.example", "c.example"))
	s.release(leases[1])
	never := lockmgr.Lease{Host: "d.example", Token: leases[0].Token, TTL: ttl}
	s.extend([]lockmgr.Lease{leases[1], never}, leases[0], leases[1], never, leases[2])
	s.all("b.example", "d.example")
}

func extendSparesSuccessor(s suite) {
	old := s.one("a.example")
	s.release(old)
	successor := s.one("a.example")
	time.Sleep(ttl * 6 / 10)
	s.extend([]lockmgr.Lease{old}, old)
	time.Sleep(ttl * 6 / 10)
	s.extend([]lockmgr.Lease{successor}, successor)
	s.one("a.example")
}

func releaseFrees(s suite) {
	leases := s.all("a.example", "b.example")
	s.release(leases...)
	s.all("a.example", "b.example")
}

func releaseSparesSuccessor(s suite) {
	old := s.one("a.example")
	time.Sleep(ttl + ttl/10)
	successor := s.one("a.example")
	s.release(old)
	s.none("a.example")
	s.extend(nil, successor)
}

func releaseTwice(s suite) {
	l := s.one("a.example")
	s.release(l, l)
	s.release(l)
	s.one("a.example")
}

func tokensRise(s suite) {
	last := s.one("a.example")
	rising := func(how string) {
		s.t.Helper()
		next := s.one("a.example")
		if next.Token <= last.Token {
			s.t.Fatalf("after %s the token is %d, not greater than %d", how, next.Token, last.Token)
		}
		last = next
	}
	s.release(last)
	rising("release")
	time.Sleep(ttl + ttl/10)
	rising("expiry")
	s.release(last)
	s.release(s.all("b.example", "c.example")...)
	rising("work on other hosts")
	s.extend(nil, last)
	s.release(last)
	rising("extension")
}

func restart(before suite, reopen func() suite) {
	var last lockmgr.Lease
	for range 100 {
		last = before.one("a.example")
		before.release(last)
	}
	time.Sleep(ttl / 100)
	after := reopen()
	if next := after.one("a.example"); next.Token <= last.Token {
		after.t.Fatalf("after a restart the token is %d, not greater than %d", next.Token, last.Token)
	}
}

// race lets many callers ask for one host at the same time.
func race(t *testing.T, nodes []suite) {
	for round := range 20 {
		host := fmt.Sprintf("host%d.example", round)
		var (
			wg  sync.WaitGroup
			mu  sync.Mutex
			got []lockmgr.Lease
		)
		for i := range 16 {
			wg.Go(func() {
				leases, err := nodes[i%len(nodes)].m.Acquire(context.Background(), []string{host})
				if err != nil {
					t.Errorf("Acquire: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, leases...)
			})
		}
		wg.Wait()
		if len(got) != 1 {
			t.Fatalf("%d leases of one host were given: %v", len(got), got)
		}
	}
}

// exclude checks that a host held by one node is held for the other, and that a lease is the same lease everywhere.
func exclude(a, b suite) {
	l := a.one("a.example")
	b.none("a.example")
	b.release(lockmgr.Lease{Host: l.Host, Token: l.Token + 1, TTL: ttl})
	a.extend(nil, l)
	a.release(l)
	next := b.one("a.example")
	if next.Token <= l.Token {
		b.t.Fatalf("the other node's token is %d, not greater than %d", next.Token, l.Token)
	}
	a.extend([]lockmgr.Lease{l}, l)
	a.none("a.example")
}
