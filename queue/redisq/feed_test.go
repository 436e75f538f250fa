package redisq

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// feedOf reads the feed from a cursor on, in small pages.
func feedOf(t *testing.T, s *Store, cursor string) []queue.Event {
	t.Helper()
	return feedInPages(t, s, 7, cursor)
}

// feedInPages reads the feed from a cursor on, in pages of at most limit entries.
func feedInPages(t *testing.T, s *Store, limit int, cursor string) (all []queue.Event) {
	t.Helper()
	for {
		list, err := s.Feed(t.Context(), queue.FeedFilter{}, queue.Page{Limit: limit, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == 0 && list.Next == cursor {
			return all
		}
		all = append(all, list.Items...)
		cursor = list.Next
	}
}

// doneOf returns the counts that the feed has of activities that are done, as delivered/dead/cancelled.
func doneOf(t *testing.T, s *Store) (counts []string) {
	t.Helper()
	for _, e := range feedOf(t, s, "") {
		if e.Kind == queue.EventActivityDone {
			counts = append(counts, fmt.Sprintf("%d/%d/%d", e.Counts.Delivered, e.Counts.Dead, e.Counts.Cancelled))
		}
	}
	return counts
}

func checkDone(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, doneOf(t, s)); diff != "" {
		t.Errorf("activities that are done (-want +got):\n%s", diff)
	}
}

// oneDies takes all that hosts have and settles it, the first delivery as dead.
func oneDies(t *testing.T, s *Store, token uint64, hosts []string) {
	t.Helper()
	work(t, s, token, hosts, func(n int) queue.Result {
		if n == 0 {
			return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Spent: true}
		}
		return queue.Result{Spent: true}
	})
}

// TestFeedListsCausesFirst checks that what an activity's deliveries came to is listed before that it is done, however wrong
// the clocks of their partitions are, and that the entries of a partition stay in order after its clock was set back.
func TestFeedListsCausesFirst(t *testing.T) {
	t.Parallel()
	hosts := manyHosts(30)
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 4})
	sub := submission("1", 100, hosts...)
	home := s.partitionOf(sub.ID)
	enqueue(t, s, sub)
	for _, p := range s.parts {
		if p != home { // its last entry is of a time yet to come
			server.Must("XADD", p.Key(rediskeys.Feed), fmt.Sprint(time.Now().Add(time.Minute).UnixMilli())+"-5", "e", "\x93\x03\xa1h\xa4open")
		}
	}
	work(t, s, 1, hosts, func(int) queue.Result { return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone} })
	s.reporting.Wait()
	if _, err := s.Act(t.Context(), "later.example", queue.Pause, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	dead := 0
	cursors := []string{""}
	for i, e := range feedOf(t, s, "") {
		cursors = append(cursors, e.Cursor)
		switch e.Kind {
		case queue.EventDead:
			dead++
		case queue.EventActivityDone:
			if dead != len(hosts) {
				t.Errorf("entry %d says that the activity is done, after %d of %d dead letters", i, dead, len(hosts))
			}
		}
	}
	all := feedOf(t, s, "")
	if dead != len(hosts) || len(all) != len(hosts)+5 {
		t.Errorf("the feed has %d entries, %d of dead letters", len(all), dead)
	}
	for i, cursor := range cursors {
		if rest := feedOf(t, s, cursor); len(rest) != len(all)-i {
			t.Errorf("behind %d entries are %d, want %d", i, len(rest), len(all)-i)
		}
	}
}

// TestPassed checks when an entry that another one waits for was listed, or will never be.
func TestPassed(t *testing.T) {
	to := position{100, 2}
	for name, c := range map[string]struct {
		part feedPart
		want bool
	}{
		"it was listed":             {feedPart{at: to}, true},
		"a later one was":           {feedPart{at: position{100, 3}}, true},
		"it comes next":             {feedPart{entries: []feedEntry{{at: to}}}, false},
		"one before it comes next":  {feedPart{entries: []feedEntry{{at: position{100, 1}}}}, false},
		"it was dropped":            {feedPart{entries: []feedEntry{{at: position{101, 0}}}}, true},
		"it was dropped, as all":    {feedPart{whole: true, newest: to, now: 50}, true},
		"it was not there yet":      {feedPart{whole: true, newest: position{99, 0}, now: 100}, false},
		"a fault has lost it":       {feedPart{whole: true, newest: position{99, 0}, now: 101}, true},
		"there may be more to read": {feedPart{newest: position{200, 0}, now: 300}, false},
		"it could not be read":      {feedPart{}, false},
	} {
		if got := c.part.passed(to); got != c.want {
			t.Errorf("%s: passed = %t", name, got)
		}
	}
}

// TestFeedOfManyPartitions checks that a page costs a script for each partition and hardly more, and that a cursor is short
// enough for a URL.
func TestFeedOfManyPartitions(t *testing.T) {
	const partitions = 512
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: partitions})
	for _, host := range manyHosts(3 * partitions) {
		if err := s.act(t.Context(), host, queue.Pause, queue.Order{}); err != nil {
			t.Fatal(err)
		}
	}
	before := commands(t, server)
	const limit = 500
	list, err := s.Feed(t.Context(), queue.FeedFilter{}, queue.Page{Limit: limit})
	if err != nil || len(list.Items) < 250 {
		t.Fatalf("a page has %d entries, %v", len(list.Items), err)
	}
	const perScript = 5 // EVALSHA, TIME, HMGET, XINFO, XRANGE
	if n := commands(t, server) - before; n > perScript*(partitions+feedRefills)+1 {
		t.Errorf("a page took %d commands", n)
	}
	if n := len(list.Next); n > 4096 {
		t.Errorf("a cursor has %d characters", n)
	}
	if n := len(feedInPages(t, s, limit, "")); n != 3*partitions {
		t.Errorf("the feed has %d entries", n)
	}
}

// TestFeedKeepsTheNewest checks that of the feed of several partitions the oldest entries are dropped, wherever they are.
func TestFeedKeepsTheNewest(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 3, Limits: queue.Limits{Feed: queue.FeedLimits{Cap: 50}}})
	hosts := manyHosts(60) // each has the entry of the action and that of its state
	for _, host := range hosts {
		if err := s.act(t.Context(), host, queue.Pause, queue.Order{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // so that no two are of one time
	}
	s.sweepAt.Store(0)
	sweepAll(t, s)
	var got []string
	for _, e := range feedOf(t, s, "") {
		got = append(got, e.Host)
	}
	if diff := cmp.Diff(hosts[35:], got); diff != "" {
		t.Errorf("hosts in the feed (-want +got):\n%s", diff)
	}
}

// TestBrokenFeed checks that a feed that something else has overwritten loses its entries, and holds up nothing else.
func TestBrokenFeed(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Limits: queue.Limits{Feed: queue.FeedLimits{Cap: 10, Retention: time.Hour}}})
	server.Must("SET", "p:{p0}:feed", "not a stream")
	hosts := manyHosts(5)
	enqueue(t, s, submission("1", 100, hosts...))
	oneDies(t, s, 1, hosts)
	sweepAll(t, s)
	if st, err := s.Stats(t.Context()); err != nil || st.Pending != 0 || st.Dead != 1 {
		t.Errorf("stats are %+v, %v", st, err)
	}
	if _, err := s.Feed(t.Context(), queue.FeedFilter{}, queue.Page{Limit: 5}); err == nil || !strings.Contains(err.Error(), `"p:{p0}:feed" holds a string`) {
		t.Errorf("Feed gave %v", err)
	}
	server.Must("DEL", "p:{p0}:feed")
	if _, err := s.Act(t.Context(), hosts[0], queue.Pause, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	if all := feedOf(t, s, ""); len(all) != 1 {
		t.Errorf("then the feed is %+v", all)
	}
}

// TestFeedOfAnEmptiedStore checks that a cursor of a store is not taken for one of what stands in its place.
func TestFeedOfAnEmptiedStore(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 2})
	list, err := s.Feed(t.Context(), queue.FeedFilter{}, queue.Page{Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	server.Must("FLUSHALL")
	s.sweepAt.Store(0)
	sweepAll(t, s)
	if _, err := s.Feed(t.Context(), queue.FeedFilter{}, queue.Page{Limit: 5, Cursor: list.Next}); !errors.Is(err, queue.ErrBadCursor) {
		t.Errorf("Feed gave %v, want %v", err, queue.ErrBadCursor)
	}
}
