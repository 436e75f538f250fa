package resolver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testdns"
)

var found = testdns.Reply{Addrs: []string{four}}

// step is a look-up while the name servers follow a script.
type step struct {
	script testdns.Script
	host   string
	want   string // found, theirs or ours
}

func TestFaults(t *testing.T) {
	t.Parallel()
	fine := testdns.Always(found)
	failing := testdns.Always(testdns.Fail)
	mute := testdns.Always(testdns.Silent)
	only := func(name string, r, others testdns.Reply) testdns.Script {
		return testdns.Names(map[string]testdns.Reply{name: r}, others)
	}
	rooted := func(r testdns.Reply) testdns.Script { return only("", testdns.RootZone, r) }
	rootless := func(r testdns.Reply) testdns.Script { return only("", testdns.NoName, r) }
	many := []step{{fine, "one.example", "found"}, {fine, "two.example", "found"}, {fine, "three.example", "found"}}
	tests := map[string][]step{
		"one host fails among healthy ones": {
			{fine, "one.example", "found"}, {only("bad.example", testdns.Fail, found), "bad.example", "theirs"},
		},
		"one host fails, and there is no answer about the root": {
			{fine, "one.example", "found"}, {testdns.Names(map[string]testdns.Reply{"one.example": found}, testdns.Fail), "bad.example", "theirs"},
		},
		"one host has no answer among healthy ones": {
			{fine, "one.example", "found"}, {only("bad.example", testdns.Silent, found), "bad.example", "theirs"},
		},
		"a host that was found before fails": {
			{fine, "one.example", "found"}, {fine, "bad.example", "found"}, {only("bad.example", testdns.Fail, found), "bad.example", "theirs"},
		},
		"all hosts fail":             append(many[:3:3], step{failing, "one.example", "ours"}, step{failing, "four.example", "ours"}),
		"no host has an answer":      append(many[:3:3], step{mute, "four.example", "ours"}),
		"the servers refuse":         append(many[:3:3], step{testdns.Always(testdns.Refused), "four.example", "ours"}),
		"a cache knows but the root": append(many[:3:3], step{rooted(testdns.Fail), "four.example", "ours"}),
		"no name exists":             append(many[:3:3], step{testdns.Always(testdns.NoName), "four.example", "theirs"}),
		"they come back":             append(many[:3:3], step{failing, "one.example", "ours"}, step{fine, "one.example", "found"}),
		"they come back, and one host does not": append(many[:3:3], step{failing, "one.example", "ours"},
			step{only("one.example", testdns.Fail, found), "two.example", "found"},
			step{only("one.example", testdns.Fail, found), "one.example", "theirs"}),
		"from the start they are silent": {{mute, "one.example", "ours"}},
		"from the start they fail":       {{failing, "one.example", "ours"}},
		"dead hosts, and nothing else known": {
			{rooted(testdns.Fail), "one.example", "theirs"}, {rooted(testdns.Silent), "two.example", "theirs"},
			{rooted(testdns.Fail), "three.example", "theirs"},
		},
		"one domain fails where there is no root": {
			{rootless(testdns.Fail), "a.dead.example", "theirs"}, {rootless(testdns.Fail), "b.dead.example", "theirs"},
		},
		"hosts that have nothing in common fail where there is no root": {
			{rootless(testdns.Fail), "a.dead.example", "theirs"}, {rootless(testdns.Fail), "a.example.net", "ours"},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdns.Start(t, fine)
			r := newResolver(s)
			var observed []Result
			r.observe = func(result Result, took time.Duration) {
				if took <= 0 {
					t.Errorf("a look-up took %s", took)
				}
				observed = append(observed, result)
			}
			for i, step := range steps {
				observed = nil
				s.Do(step.script)
				_, err := all(t, r, step.host)
				got := map[bool]string{true: "ours", false: "theirs"}[errors.Is(err, ErrAway)]
				if err == nil {
					got = "found"
				}
				if away := r.Away() != nil; got != step.want || away != (got == "ours") {
					t.Errorf("step %d, %s: got %v, %s, away: %t; want %s", i, step.host, err, got, away, step.want)
				}
				if want := (map[string]Result{"ours": Away, "theirs": Failed, "found": Found})[step.want]; !slices.Equal(observed, []Result{want}) {
					t.Errorf("step %d, %s: observed as %v, want %s once", i, step.host, observed, want)
				}
			}
		})
	}
}

// A closed port of a name server is known at once, and is no fault of a host.
func TestNoServerListens(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 2} {
		o := Options{Timeout: time.Hour}
		for range servers {
			s := testdns.Start(t, testdns.Always(found))
			s.Stop()
			o.Servers = append(o.Servers, s.Addr)
		}
		r := New(o)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for addrs, err := range r.Lookup(ctx, "one.example") {
			if !errors.Is(err, ErrAway) || r.Away() == nil {
				t.Errorf("%d servers: got %v, %v, away: %v", servers, addrs, err, r.Away())
			}
		}
	}
}

// Many look-ups that fail at once have one verdict, by few checks.
func TestManyFailAtOnce(t *testing.T) {
	t.Parallel()
	slowly := testdns.Fail
	slowly.Delay = 400 * time.Millisecond // so that all have begun
	for name, tt := range map[string]struct {
		script testdns.Script
		ours   bool
	}{
		"ours":   {testdns.Always(testdns.Silent), true},
		"theirs": {testdns.Names(map[string]testdns.Reply{"witness.example": found}, slowly), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdns.Start(t, testdns.Always(found))
			r := newResolver(s)
			wantAddrs(t, r, "witness.example", []string{four})
			s.Do(tt.script)
			errs := make(chan error)
			const n = 100
			for i := range n {
				go func() { _, err := all(t, r, fmt.Sprintf("host.%d.example", i)); errs <- err }()
			}
			for range n {
				if err := <-errs; err == nil || errors.Is(err, ErrAway) != tt.ours {
					t.Errorf("got %v, want a fault of ours: %t", err, tt.ours)
				}
			}
			if n := s.Asked("witness.example"); n > 20 {
				t.Errorf("the witness was asked for %d times", n)
			}
		})
	}
}

// Run finds out that the name servers are back: by a name that was good, by one that had no answer, by one that is needed
// next, or by the root.
func TestRunFindsThemBack(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"good.example", "bad.example", "next.example", ""} {
		t.Run("by "+name, func(t *testing.T) {
			t.Parallel()
			s := testdns.Start(t, testdns.Always(found))
			r := newResolver(s)
			var running sync.WaitGroup
			running.Go(func() { r.Run(t.Context()) })
			t.Cleanup(running.Wait)
			wantAddrs(t, r, "good.example", []string{four})
			s.Do(testdns.Always(testdns.Fail))
			if _, err := all(t, r, "bad.example"); !errors.Is(err, ErrAway) {
				t.Fatalf("got %v", err)
			}
			r.Suggest([]string{"next.example"})
			back := found
			if name == "" {
				back = testdns.RootZone
			}
			s.Do(testdns.Names(map[string]testdns.Reply{name: back}, testdns.Fail))
			deadline := time.After(time.Minute)
			for tick := time.NewTicker(10 * time.Millisecond); r.Away() != nil; {
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatal("still away")
				}
			}
		})
	}
}

func TestANilResolverIsNeverAway(t *testing.T) {
	t.Parallel()
	var r *Resolver
	r.Run(t.Context())
	r.Suggest([]string{"one.example"})
	if err := r.Away(); err != nil {
		t.Error(err)
	}
}
