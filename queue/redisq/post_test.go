package redisq

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// plain returns a submission that may be posted.
func plain(uri, host string) *queue.Submission {
	sub := submission(uri, 100, host)
	sub.Idempotency = queue.Idempotency{}
	return sub
}

// posts posts submissions in one script, and returns what it says of each.
func posts(t *testing.T, s *Store, subs ...*queue.Submission) (posted []bool) {
	t.Helper()
	var group []*batchedCall
	for _, sub := range subs {
		in, err := s.newIntake(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		if !in.isPlain() {
			t.Fatalf("%s is not plain", sub.URI)
		}
		c := in.plainCall(&in.lanes()[0])
		c.done = make(chan struct{})
		group = append(group, c)
	}
	s.parts[0].posts.together(group)
	for _, c := range group {
		var did bool
		if c.err != nil {
			t.Fatal(c.err)
		}
		if err := scan(c.answer, &did); err != nil {
			t.Fatal(err)
		}
		posted = append(posted, did)
	}
	return posted
}

// TestPostLeaves checks which submissions are stored by enqueue.lua, as those before them matter.
func TestPostLeaves(t *testing.T) {
	act := func(host string, action queue.HostAction, o queue.Order) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			if _, err := s.Act(t.Context(), host, action, o); err != nil {
				t.Fatal(err)
			}
		}
	}
	settled := func(record queue.HostRecord) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			leases, err := s.Leases(time.Minute).Acquire(t.Context(), []string{"a.example"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Take(t.Context(), leases, 1); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Settle(t.Context(), leases[0], queue.Settlement{Host: &record, Wait: time.Hour, Release: true}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	deep := func(t *testing.T, s *Store) {
		for i := range 2 * 16 {
			enqueue(t, s, submission(fmt.Sprintf("deep %d", i), 10, "a.example"))
		}
	}
	known := plain("known", "a.example")
	for _, c := range []struct {
		name   string
		before func(*testing.T, *Store)
		subs   []*queue.Submission
		want   []bool
	}{
		{"a host that is known", nil, []*queue.Submission{plain("1", "a.example"), plain("2", "a.example")}, []bool{true, true}},
		{"a deep lane", deep, []*queue.Submission{plain("1", "a.example"), plain("1 again", "a.example")}, []bool{true, true}},
		{"a host that waits", settled(queue.HostRecord{Throttles: 0}), []*queue.Submission{plain("1", "a.example")}, []bool{true}},
		{"an order for others", act("b.example", queue.Block, queue.Order{Subdomains: true}), []*queue.Submission{plain("1", "a.example")}, []bool{true}},
		{"a host never heard of", nil, []*queue.Submission{plain("1", "new.example")}, []bool{false}},
		{"a blocked host", act("a.example", queue.Block, queue.Order{}), []*queue.Submission{plain("1", "a.example")}, []bool{false}},
		{"a paused host", act("a.example", queue.Pause, queue.Order{}), []*queue.Submission{plain("1", "a.example")}, []bool{false}},
		{"an order that covers, lanes not looked at", func(t *testing.T, s *Store) { orderOnly(t, s, queue.Block) },
			[]*queue.Submission{plain("1", "sub.example.org"), plain("2", "a.example")}, []bool{false, true}},
		{"an order that covered, lanes not looked at", func(t *testing.T, s *Store) {
			act("example.org", queue.Block, queue.Order{Subdomains: true})(t, s)
			orderOnly(t, s, queue.Unblock)
		}, []*queue.Submission{plain("1", "sub.example.org")}, []bool{false}},
		{"an order that covers", act("example.org", queue.Block, queue.Order{Subdomains: true}), []*queue.Submission{plain("1", "sub.example.org")}, []bool{false}},
		{"a throttled host", settled(queue.HostRecord{Throttles: 1}), []*queue.Submission{plain("1", "a.example")}, []bool{false}},
		{"an unavailable host", settled(queue.HostRecord{Unavailable: true}), []*queue.Submission{plain("1", "a.example")}, []bool{false}},
		{"the same bytes", func(t *testing.T, s *Store) { enqueue(t, s, submission("1", 100, "sub.example.org")) },
			[]*queue.Submission{plain("1", "a.example")}, []bool{false}},
		{"the same bytes in one script", nil, []*queue.Submission{plain("1", "a.example"), plain("1", "sub.example.org")}, []bool{true, false}},
		{"a chain with a head", func(t *testing.T, s *Store) { enqueue(t, s, submission("1", 10, "a.example")) },
			[]*queue.Submission{plain("1", "a.example")}, []bool{false}},
		{"a staged activity of the chain", func(t *testing.T, s *Store) { acceptOnly(t, s, submission("1", 10, manyHosts(200)...)) },
			[]*queue.Submission{plain("1", "a.example"), plain("2", "a.example")}, []bool{false, true}},
		{"a full lane", deep, []*queue.Submission{plain("1", "a.example")}, []bool{false}},
		{"an activity that is known", func(t *testing.T, s *Store) {
			enqueue(t, s, known)
			if _, err := s.Cancel(t.Context(), known.ID); err != nil {
				t.Fatal(err)
			}
		}, []*queue.Submission{known}, []bool{false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{URL: testredis.Start(t).URL(), Prefix: "p"}
			if c.name == "a full lane" {
				o.Lane = 33
			}
			s := openStore(t, o)
			enqueue(t, s, submission("first", 10, "a.example", "sub.example.org"))
			if c.before != nil {
				c.before(t, s)
			}
			if got := posts(t, s, c.subs...); !slices.Equal(got, c.want) {
				t.Errorf("posted are %v, want %v", got, c.want)
			}
		})
	}
}

// orderOnly changes an order for the hosts below example.org, and leaves it to a later Sweep to look at their lanes.
func orderOnly(t *testing.T, s *Store, action queue.HostAction) {
	t.Helper()
	if _, err := s.change(t.Context(), change{"example.org", action, queue.Order{Subdomains: true}}); err != nil {
		t.Fatal(err)
	}
}

// TestPostsSome checks that not all callers wait for one script while nobody reads their next calls.
func TestPostsSome(t *testing.T) {
	g := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"}).parts[0].posts
	hold(g)
	for range 64 {
		g.begin(&batchedCall{})
	}
	for _, want := range []int{24, 24, 16, 0} {
		if group := g.next(); len(group) != want {
			t.Errorf("%d go together, want %d", len(group), want)
		}
	}
}

// TestPostTwice checks that a plain submission whose script runs twice, as the connection broke before the first answer, is stored once
// and gets the receipt of the first.
func TestPostTwice(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	enqueue(t, s, submission("first", 10, "a.example"))
	sub := plain("1", "a.example")
	for i, want := range []bool{true, false} {
		if got := posts(t, s, sub); got[0] != want {
			t.Errorf("run %d posted: %v", i, got)
		}
	}
	want := queue.Receipt{ID: sub.ID, URI: sub.URI, Accepted: 1}
	if r, err := s.Enqueue(t.Context(), sub); err != nil || !cmp.Equal(r, want) {
		t.Errorf("the receipt is %+v, %v, want %+v", r, err, want)
	}
	if n := pending(t, s); n != 2 {
		t.Errorf("%d are pending, want 2", n)
	}
}

// TestPostStoresAsEnqueue checks that post.lua leaves the same behind as enqueue.lua, but for times.
func TestPostStoresAsEnqueue(t *testing.T) {
	long := plain("long", "a.example")
	long.Recipients[0].Inbox += "/" + strings.Repeat("x", 300)
	byName := plain("names", "a.example")
	byName.Recipients[0].Inbox = "https://a.example/users/bob/inbox"
	byName.Recipients[0].IDs = []string{"https://a.example/users/bob"}
	odd := plain("odd", "a.example")
	odd.Recipients[0].Inbox = "https://A.example/inbox"
	makes := plain("makes", "a.example")
	makes.Actor, makes.Priority = "https://app.example/users/alice", queue.Low
	makes.Role, makes.Object = queue.Makes, "a note"
	two := plain("two marks", "a.example")
	two.Actor = "https://app.example/users/bob"
	high := plain("high", "a.example")
	high.Priority = queue.High
	plainest := plain("plainest", "a.example")
	again := plain("deep 20", "a.example")
	again.Body = []byte("another body")
	for _, depth := range []int{0, 1, 15, 16, 17, 30} {
		t.Run(strconv.Itoa(depth), func(t *testing.T) {
			server := testredis.Start(t)
			sides := map[string]string{}
			for _, prefix := range []string{"enqueue", "post"} {
				s := openStore(t, Options{URL: server.URL(), Prefix: prefix})
				r := submission("first", 10, "a.example")
				r.ID = "00000000-0000-7000-8000-ffffffffffff"
				enqueue(t, s, r)
				if _, err := s.Cancel(t.Context(), r.ID); err != nil {
					t.Fatal(err)
				}
				if depth == 1 { // the clock was set back
					server.Must("XADD", s.parts[0].Key(rediskeys.Every), "9999999999999-0", "i", "a later activity")
				}
				for i := range depth {
					deep := submission(fmt.Sprintf("deep %d", i), 10, "a.example")
					deep.ID = fmt.Sprintf("00000000-0000-7000-8000-%012d", i)
					enqueue(t, s, deep)
				}
				for _, sub := range []*queue.Submission{plainest, high, makes, two, byName, long, odd, again} {
					if prefix == "post" {
						if got := posts(t, s, sub); !got[0] {
							t.Errorf("%s is not posted", sub.URI)
						}
						continue
					}
					in, err := s.newIntake(t.Context(), sub)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := s.parts[0].enqueues.call(t.Context(), in.batchedCall(in.lanes(), "")); err != nil {
						t.Fatal(err)
					}
				}
				sides[prefix] = strings.Join(stored(t, server, s.parts[0]), "\n")
			}
			if diff := cmp.Diff(sides["enqueue"], sides["post"]); diff != "" {
				t.Errorf("what is stored differs (-enqueue +post):\n%s", diff)
			}
		})
	}
}

// stored tells what a partition holds of activities and lanes, but for times and the numbers made of them.
func stored(t *testing.T, server *testredis.Server, p *partition) (all []string) {
	t.Helper()
	for _, key := range strings.Fields(server.Must("KEYS", p.Key("*"))) {
		commands := map[string][]string{
			"hash": {"HGETALL", key}, "list": {"LRANGE", key, "0", "-1"}, "zset": {"ZRANGE", key, "0", "-1", "WITHSCORES"},
			"stream": {"XRANGE", key, "-", "+"}, "string": {"GET", key},
		}
		_, name, _ := strings.Cut(key, "}:")
		kind, _, _ := strings.Cut(name, ":")
		if slices.Contains([]string{"stats", "claim", "feed", "meta"}, kind) {
			continue
		}
		values, err := p.client.Do(t.Context(), p.client.B().Arbitrary(commands[server.Must("TYPE", key)]...).Build()).ToAny()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name+" "+timeless(kind, values))
	}
	n := 0
	for _, name := range []string{"minute_accepted", "before_accepted"} {
		text, err := p.client.Do(t.Context(), p.client.B().Hget().Key(p.Key(rediskeys.Stats)).Field(name).Build()).AsInt64()
		if err == nil {
			n += int(text)
		}
	}
	st := server.Must("HMGET", p.Key(rediskeys.Stats), "activities", "pending")
	all = append(all, fmt.Sprintf("accepted %d, activities and pending %s", n, st))
	slices.Sort(all)
	return all
}

// timeless shows what a key of a kind holds without times.
func timeless(kind string, value any) string {
	switch v := value.(type) {
	case map[string]any:
		var fields []string
		for name, value := range v {
			text := timeless(kind, value)
			if name == "s" && kind == "h" {
				text = ""
				for u := (&unpacker{text: value.(string)}); u.text != ""; {
					text += " " + timeless(kind, strconv.FormatInt(u.number(), 10))
				}
			}
			fields = append(fields, timeless(kind, name)+"="+text)
		}
		slices.Sort(fields)
		return strings.Join(fields, "\n  ")
	case []any:
		var parts []string
		for _, value := range v {
			parts = append(parts, timeless(kind, value))
		}
		if slices.Contains([]string{"expires", "pending"}, kind) { // by time, and then by name
			slices.Sort(parts)
		}
		return strings.Join(parts, " ")
	case float64:
		return timeless(kind, strconv.FormatFloat(v, 'f', -1, 64))
	}
	text := fmt.Sprint(value)
	before := map[string]int{"u": markBytes + timeBytes, "m": timeBytes, "q0": 8, "q1": 8, "q2": 8}[kind]
	return fmt.Sprintf("%q", regexp.MustCompile(`^-?\d{13,}(-\d+)?$`).ReplaceAllString(text[min(before, len(text)):], "TIME"))
}
