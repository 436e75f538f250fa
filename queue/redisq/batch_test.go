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

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestStoredTogether checks that submissions that one script stores become what they become one after the other, that
// what one fails at is no concern of the others, and that each gets its own answer.
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
	add("fails", queue.Normal, "c.example", "bad.example")
	add("high", queue.High, "a.example", "d.example").OrderingKey = first.OrderingKey
	add("first", queue.Normal, "a.example", "d.example") // the same activity
	add("last", queue.Low, "d.example")
	add("head", queue.Normal, "e.example")
	add("waits", queue.Normal, "e.example").OrderingKey = "head" // and fails where it would have to
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
	return together(t, s.parts[0].enqueues, len(subs), func(i int) outcome { return outcomeOf(s.Enqueue(context.Background(), subs[i])) })
}

// together has calls wait, in their order, until all can go.
func together[T any](t *testing.T, g *batcher, n int, call func(i int) T) []T {
	t.Helper()
	hold(g)
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
		g.running -= batchScripts
		if len(g.waiting) > 0 { // what came in between
			g.running++
			calls.Go(g.run)
		}
	})
	calls.Wait()
	return answers
}

// hold has what comes wait, as if scripts were under way, once those that are have ended.
func hold(g *batcher) {
	for {
		g.mu.Lock()
		idle := g.running == 0
		if idle {
			g.running = batchScripts + 1
		}
		g.mu.Unlock()
		if idle {
			return
		}
		time.Sleep(time.Millisecond)
	}
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
	found, err := s.Activities(t.Context(), queue.ActivityFilter{}, queue.Page{Limit: chunk})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{
		"pending": stats.Pending, "hosts": fmt.Sprint(stats.Hosts), "of e.example": h.Pending, "activities": len(found.Items),
	}
	for _, set := range []string{"due0", "due1", "due2", "due3", "due4", "due5", "expires", "pending", "bodies"} {
		key := s.parts[0].Key(rediskeys.Kind(set))
		command := "ZCARD"
		if set == "bodies" {
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
	var group []*batchedCall
	for _, sub := range []*queue.Submission{submission("1", 100, "a.example", "b.example"), submission("2", 100, "c.example")} {
		in, err := s.newIntake(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		to := in.lanes()
		group = append(group, in.batchedCall(to, ""))
	}
	for _, c := range group {
		c.done = make(chan struct{})
	}
	s.parts[0].enqueues.together(group)
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

// TestBatcher checks that what waits goes in bounded groups, and that two submissions with the same claim don't go
// together.
func TestBatcher(t *testing.T) {
	g := &batcher{running: 1}
	for i := range batchCalls + 2 {
		g.waiting = append(g.waiting, &batchedCall{apart: fmt.Sprint(i / 2), args: []string{"x"}})
	}
	g.waiting = append(g.waiting,
		&batchedCall{apart: "large", args: []string{strings.Repeat("x", batchBytes)}}, &batchedCall{apart: "last"},
		&batchedCall{apart: "wide", keys: make([]string, batchKeys+1)}, &batchedCall{apart: "very last"})
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
	half := batchCalls/2 + 1
	if diff := cmp.Diff([]int{half + 1, half + 2, 1}, sizes); diff != "" || g.running != 0 {
		t.Errorf("%d run; sizes of groups (-want +got):\n%s", g.running, diff)
	}
}

// TestBatchedCallForgotten checks that what waits while Redis hangs goes once its callers have given up.
func TestBatchedCallForgotten(t *testing.T) {
	g := &batcher{running: batchScripts}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	var calls sync.WaitGroup
	for i := range 5 {
		calls.Go(func() {
			if _, err := g.call(ctx, &batchedCall{apart: strconv.Itoa(i)}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("call gave %v", err)
			}
		})
	}
	calls.Wait()
	if n := len(g.waiting); n != 0 {
		t.Errorf("%d still wait", n)
	}
}
