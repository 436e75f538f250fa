package redisq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// TestStoredTogether checks that submissions that one script stores become what they become one after the other, that
// what one stumbles over is no concern of the others, and that each gets its own answer.
func TestStoredTogether(t *testing.T) {
	server := testredis.Start(t)
	together, alone := openStore(t, Options{URL: server.URL(), Prefix: "together"}), openStore(t, Options{URL: server.URL(), Prefix: "alone"})
	for _, key := range []string{"together:{p0}:h:bad.example", "together:{p0}:w:e.example", "alone:{p0}:h:bad.example", "alone:{p0}:w:e.example"} {
		server.Must("SET", key, "of another type")
	}
	var subs []*queue.Submission
	add := func(uri string, p queue.Priority, hosts ...string) *queue.Submission {
		sub := submission(uri, 100, hosts...)
		sub.Priority = p
		subs = append(subs, sub)
		return sub
	}
	for i := range 40 { // more than the window holds
		add(fmt.Sprint("low", i), queue.Low, "a.example", "b.example")
	}
	first := add("first", queue.Normal, "a.example", "c.example")
	add("stumbles", queue.Normal, "c.example", "bad.example")
	add("high", queue.High, "a.example", "d.example").OrderingKey = first.OrderingKey
	add("first", queue.Normal, "a.example", "d.example") // the same activity
	add("last", queue.Low, "d.example")
	add("head", queue.Normal, "e.example")
	add("waits", queue.Normal, "e.example").OrderingKey = "head" // and stumbles where it would have to
	add("other", queue.Normal, "e.example")
	replay := *first
	subs = append(subs, &replay)
	mismatch := *first
	mismatch.Idempotency.Fingerprint[0]++
	subs = append(subs, &mismatch)

	want := make([]outcome, len(subs))
	for i, sub := range subs {
		want[i] = outcomeOf(alone.Enqueue(t.Context(), sub))
	}
	if diff := cmp.Diff(want, enqueueTogether(t, together, subs)); diff != "" {
		t.Errorf("answers (-one by one +together):\n%s", diff)
	}
	if diff := cmp.Diff(overview(t, alone), overview(t, together)); diff != "" {
		t.Errorf("the store (-one by one +together):\n%s", diff)
	}
	for _, host := range []string{"a.example", "b.example", "c.example", "d.example", "e.example"} {
		if diff := cmp.Diff(inOrder(t, alone, host), inOrder(t, together, host)); diff != "" {
			t.Errorf("what %s gets (-one by one +together):\n%s", host, diff)
		}
	}
}

// outcome is what Enqueue answered, without what differs between two stores.
type outcome struct {
	Accepted, Duplicates int
	Replayed, Mismatch   bool
	Broken               string
}

func outcomeOf(r queue.Receipt, err error) outcome {
	o := outcome{Accepted: r.Accepted, Duplicates: r.Duplicates, Replayed: r.Replayed, Mismatch: errors.Is(err, queue.ErrIdempotencyMismatch)}
	if broken, ok := errors.AsType[*brokenKey](err); ok {
		_, o.Broken, _ = strings.Cut(broken.key, ":")
	}
	return o
}

// enqueueTogether has submissions wait, in this order, until all can be stored.
func enqueueTogether(t *testing.T, s *Store, subs []*queue.Submission) []outcome {
	t.Helper()
	return together(t, s.intake, len(subs), func(i int) outcome { return outcomeOf(s.Enqueue(context.Background(), subs[i])) })
}

// together has calls wait, in their order, until all can go.
func together[T any](t *testing.T, g *gatherer, n int, call func(i int) T) []T {
	t.Helper()
	g.running = gatherScripts + 1 // one that ends below
	var calls sync.WaitGroup
	answers := make([]T, n)
	for i := range n {
		calls.Go(func() { answers[i] = call(i) })
		for waiting := 0; waiting <= i; time.Sleep(time.Millisecond) {
			g.mu.Lock()
			waiting = len(g.waiting)
			g.mu.Unlock()
		}
	}
	calls.Go(func() {
		g.run()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running -= gatherScripts
		if len(g.waiting) > 0 { // what came in between
			g.running++
			calls.Go(g.run)
		}
	})
	calls.Wait()
	return answers
}

// overview is the totals, and how many lanes are found in each set.
func overview(t *testing.T, s *Store) map[string]any {
	t.Helper()
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Host(t.Context(), "e.example")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"pending": stats.Pending, "hosts": fmt.Sprint(stats.Hosts), "of e.example": h.Pending}
	for _, set := range []string{"due0", "due1", "due2", "due3", "due4", "due5", "expires", "pending", "uris"} {
		key := s.parts[0].Key(set)
		command := "ZCARD"
		if set == "uris" {
			command = "HLEN"
		}
		n, err := s.client.Do(t.Context(), s.client.B().Arbitrary(command).Keys(key).Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		all[set] = n
	}
	return all
}

// TestStoredBehindDuplicate checks that one which has to know of others stands before another.
func TestStoredBehindDuplicate(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	first := submission("1", 100, "a.example")
	enqueue(t, s, first)
	var group []*gathered
	for _, c := range []struct {
		sub  *queue.Submission
		same string
	}{{submission("1", 100, "a.example", "b.example"), first.ID}, {submission("2", 100, "c.example"), ""}} {
		in, err := s.newIntake(c.sub)
		if err != nil {
			t.Fatal(err)
		}
		to, err := lanes(c.sub.Recipients)
		if err != nil {
			t.Fatal(err)
		}
		o := others{}
		if c.same != "" {
			id := uuid.MustParse(c.same)
			o.same = string(id[:])
		}
		group = append(group, in.gathered(to, o))
	}
	for _, c := range group {
		c.done = make(chan struct{})
	}
	s.intake.do(group)
	for i, want := range []outcome{{Accepted: 1, Duplicates: 1}, {Accepted: 1}} {
		r, err := receipt(group[i].answer)
		if diff := cmp.Diff(want, outcomeOf(r, errors.Join(group[i].err, err))); diff != "" {
			t.Errorf("%d (-want +got):\n%s", i, diff)
		}
	}
	if got := inOrder(t, s, "c.example"); !slices.Equal(got, []string{"2"}) {
		t.Errorf("the other host gets %q", got)
	}
}

// TestGatherer checks that what waits goes in bounded groups, and that two submissions with the same claim don't go
// together.
func TestGatherer(t *testing.T) {
	g := &gatherer{running: 1}
	for i := range gatherCalls + 2 {
		g.waiting = append(g.waiting, &gathered{apart: fmt.Sprint(i / 2), args: []string{"x"}})
	}
	g.waiting = append(g.waiting,
		&gathered{apart: "large", args: []string{strings.Repeat("x", gatherBytes)}}, &gathered{apart: "last"},
		&gathered{apart: "wide", keys: make([]string, gatherKeys+1)}, &gathered{apart: "very last"})
	var sizes []int
	for group := g.next(); len(group) > 0; group = g.next() {
		sizes = append(sizes, len(group))
		apart := map[string]bool{}
		for _, c := range group {
			if apart[c.apart] {
				t.Errorf("two of %s go together", c.apart)
			}
			apart[c.apart] = true
		}
	}
	half := gatherCalls/2 + 1
	if diff := cmp.Diff([]int{half + 1, half + 2, 1}, sizes); diff != "" || g.running != 0 {
		t.Errorf("%d run; sizes of groups (-want +got):\n%s", g.running, diff)
	}
}

// TestSettledTogether checks that settlements that one script writes do what they do one after the other, that one which is
// refused or stumbles over a key of its own is no concern of the others, and that each gets its own answer.
func TestSettledTogether(t *testing.T) {
	for _, c := range []struct {
		name    string
		bad     string
		scripts int // of them all
		answers []string
	}{
		{"all are well", "nothing", 1, []string{"", "", "lease not held", "", "", "", "", ""}},
		{"one stumbles", "h:worse.example", 9, []string{"", "", "lease not held", "h:worse.example", "", "", "", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := testredis.Start(t)
			want, _ := settled(t, server, "alone", c.bad, func(s *Store, n int, settle func(int) string) (errs []string) {
				for i := range n {
					errs = append(errs, settle(i))
				}
				return errs
			})
			got, scripts := settled(t, server, "together", c.bad, func(s *Store, n int, settle func(int) string) []string {
				return together(t, s.parts[0].settles, n, settle)
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-one by one +together):\n%s", diff)
			}
			if diff := cmp.Diff(c.answers, got[0]); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if scripts != c.scripts {
				t.Errorf("%d scripts ran, want %d", scripts, c.scripts)
			}
		})
	}
}

// settled settles deliveries to eight hosts, once something else has overwritten a key, and returns what is to be seen of
// that, the errors first, and how many scripts settling took.
func settled(t *testing.T, server *testredis.Server, prefix, bad string, all func(s *Store, n int, settle func(int) string) []string) (seen []any, scripts int) {
	t.Helper()
	hosts := []string{
		"done.example", "retry.example", "late.example", "worse.example", "dead.example", "behind.example", "last.example", "key.example",
	}
	s := openStore(t, Options{URL: server.URL(), Prefix: prefix})
	subs := []*queue.Submission{
		submission("1", 100, hosts...), submission("2", 100, "done.example", "last.example"), submission("3", 100, "behind.example"),
	}
	subs[2].OrderingKey = subs[0].OrderingKey // waits behind it
	for _, sub := range subs {
		enqueue(t, s, sub)
	}
	leases, settlements := settlementsOf(t, s, hosts)
	server.Must("SET", prefix+":{p0}:"+bad, "of another type")
	before := calls(t, server, "evalsha")
	seen = []any{all(s, len(hosts), func(i int) string { return stumble(s.Settle(context.Background(), leases[i], settlements[i])) })}
	scripts = calls(t, server, "evalsha") - before
	server.Must("DEL", prefix+":{p0}:"+bad)
	next, err := s.Take(t.Context(), []lockmgr.Lease{{Host: "behind.example", Token: leases[5].Token + 1000, TTL: time.Minute}}, 10)
	if err != nil || len(next) != 1 || len(next[0].Deliveries) != 1 || next[0].Deliveries[0].Activity.URI != subs[2].URI {
		t.Errorf("then the lane gives %+v, %v, want what waited", next, err)
	}
	seen = append(seen, overview(t, s), server.Must("EXISTS", prefix+":{p0}:lease:done.example"))
	for _, sub := range subs {
		a, err := s.Activity(t.Context(), sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, a.Counts, a.State)
	}
	return seen, scripts
}

// calls returns how often a server has run a command.
func calls(t *testing.T, server *testredis.Server, command string) int {
	t.Helper()
	_, text, found := strings.Cut(server.Must("INFO", "commandstats"), "cmdstat_"+command+":calls=")
	if !found {
		return 0
	}
	text, _, _ = strings.Cut(text, ",")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// settlementsOf takes all that may go of hosts, and returns a settlement for each. That of late.example is too late.
func settlementsOf(t *testing.T, s *Store, hosts []string) (leases []lockmgr.Lease, all []queue.Settlement) {
	t.Helper()
	leases, err := s.Leases(time.Minute).Acquire(t.Context(), hosts)
	if err != nil || len(leases) != len(hosts) {
		t.Fatal(leases, err)
	}
	turns, err := s.Take(t.Context(), leases, 10)
	if err != nil || len(turns) != len(hosts) {
		t.Fatal(turns, err)
	}
	for _, turn := range turns {
		st := queue.Settlement{Host: &turn.Host, Release: turn.Lease.Host != "last.example"}
		for _, d := range turn.Deliveries {
			r := queue.Result{ID: d.ID, Spent: true}
			switch turn.Lease.Host {
			case "retry.example":
				r.Verdict, r.After = queue.Retry, time.Hour
			case "dead.example":
				r.Verdict, r.Reason = queue.Dead, queue.ReasonGone
			case "key.example":
				r.Verdict, r.WaitKey = queue.Defer, true
			case "late.example":
				later := turn.Lease
				later.Token += 100
				if _, err := s.Take(t.Context(), []lockmgr.Lease{later}, 1); err != nil {
					t.Fatal(err)
				}
			}
			st.Results = append(st.Results, r)
		}
		all = append(all, st)
	}
	return leases, all
}

// stumble tells of an error what is the same in all stores.
func stumble(err error) string {
	broken, ok := errors.AsType[*brokenKey](err)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, queue.ErrNotHeld):
		return queue.ErrNotHeld.Error()
	case ok:
		_, key, _ := strings.Cut(broken.key, "}:")
		return key
	}
	return err.Error()
}

// TestGatheredForgotten checks that what waits while Redis hangs goes once its callers have given up.
func TestGatheredForgotten(t *testing.T) {
	g := &gatherer{running: gatherScripts}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	var calls sync.WaitGroup
	for i := range 5 {
		calls.Go(func() {
			if _, err := g.call(ctx, &gathered{apart: strconv.Itoa(i)}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("call gave %v", err)
			}
		})
	}
	calls.Wait()
	if n := len(g.waiting); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// TestTakenTogether checks that turns which take from their lanes at the same time share a script, that each gets what is
// its own and no more than it asks for, and that a lane which is broken or lost is no concern of the others.
func TestTakenTogether(t *testing.T) {
	hosts := []string{"one.example", "deep.example", "late.example", "bad.example", "unknown.example", "empty.example"}
	for _, c := range []struct {
		bad     string
		scripts int
		want    []string
	}{
		{"nothing", 1, []string{"1 false", "2 true", "left out", "1 false", "left out", "0 false"}},
		{"h:bad.example", 7, []string{"1 false", "2 true", "left out", "left out", "left out", "0 false"}},
	} {
		t.Run(c.bad, func(t *testing.T) {
			server := testredis.Start(t)
			s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
			enqueue(t, s, submission("1", 100, "one.example", "deep.example", "late.example", "bad.example"))
			enqueue(t, s, submission("2", 100, "deep.example"))
			enqueue(t, s, submission("3", 100, "deep.example"))
			gone := submission("4", 100, "empty.example")
			enqueue(t, s, gone)
			if _, err := s.Cancel(t.Context(), gone.ID); err != nil {
				t.Fatal(err)
			}
			take := func(host string, token uint64) string {
				turns, err := s.Take(context.Background(), []lockmgr.Lease{{Host: host, Token: token, TTL: time.Minute}}, 2)
				switch {
				case err != nil:
					return err.Error()
				case len(turns) == 0:
					return "left out"
				case turns[0].Lease.Host != host:
					return "that of " + turns[0].Lease.Host
				}
				return fmt.Sprint(len(turns[0].Deliveries), turns[0].More)
			}
			take("late.example", 9)
			server.Must("SET", "p:{p0}:"+c.bad, "of another type")
			before := calls(t, server, "evalsha")
			got := together(t, s.parts[0].takes, len(hosts), func(i int) string { return take(hosts[i], 5) })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := calls(t, server, "evalsha") - before; n != c.scripts {
				t.Errorf("%d scripts ran, want %d", n, c.scripts)
			}
		})
	}
}
