package redisq

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// die makes dead letters of an activity to the hosts, one after the other.
func die(t *testing.T, s *Store, uri string, hosts ...string) {
	t.Helper()
	enqueue(t, s, submission(uri, 10, hosts...))
	for _, host := range hosts {
		work(t, s, 1, []string{host}, func(int) queue.Result { return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone} })
		time.Sleep(2 * time.Millisecond) // so that each has a time of its own
	}
}

// letterHosts returns the hosts of all dead letters, newest first.
func letterHosts(t *testing.T, s *Store) []string {
	t.Helper()
	list, err := s.DeadLetters(t.Context(), queue.DeadLetterFilter{}, queue.Page{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, l := range list.Items {
		hosts = append(hosts, l.Host)
	}
	return hosts
}

// TestKeepsTheNewestLetters checks that of letters in several partitions the oldest go, and no more than must, though
// two nodes drop them at the same time.
func TestKeepsTheNewestLetters(t *testing.T) {
	o := Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 3, Limits: queue.Limits{DeadLetters: 6}}
	s := openStore(t, o)
	hosts := manyHosts(10)
	die(t, s, "1", hosts...)
	want := slices.Clone(hosts[4:])
	slices.Reverse(want)
	other := openStore(t, o)
	found, there, err := other.oldest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sweepAll(t, s)
	left, err := s.letterPage(t.Context(), queue.DeadLetterFilter{}, nil, 500)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left { // the other goes on with how many it found, and letters that are the oldest now
		if names := found[other.parts[l.N]]; len(names) > 0 {
			if _, err := l.partition.discard(t.Context(), []string{l.name}, there[l.N]-len(names), true); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweepAll(t, other)
	if diff := cmp.Diff(want, letterHosts(t, s)); diff != "" {
		t.Fatalf("other letters are left (-want +got):\n%s", diff)
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Dropped != 4 || st.Dead != 6 {
		t.Errorf("stats are %+v, %v, want 4 dropped of 10", st, err)
	}
}

// TestBlockCutShort checks that Sweep does what a node that died while it blocked a host left.
func TestBlockCutShort(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 2})
	for i := range 300 {
		enqueue(t, s, submission(strconv.Itoa(i), 10, "a.example"))
	}
	p := s.partitionOf("a.example")
	if err := p.run(t.Context(), script.Act, p.lane(nil, "a.example"), []string{"a.example", string(queue.Block), "1", "0", "0", "", "", ""}); err != nil {
		t.Fatal(err)
	}
	if n := pending(t, s); n != 300 {
		t.Fatalf("%d deliveries are pending before the sweep", n)
	}
	sweepAll(t, s)
	if st, err := s.Stats(t.Context()); err != nil || st.Pending != 0 || st.Died[queue.ReasonHostBlocked] != 300 {
		t.Errorf("stats are %+v, %v, want 300 that died", st, err)
	}
}

// TestCapsDeepLane checks that of a deep lane the oldest go, from the window and the backlog, of Low first.
func TestCapsDeepLane(t *testing.T) {
	o := Options{URL: testredis.Start(t).URL(), Prefix: "p", Limits: queue.Limits{Lane: 60}}
	s := openStore(t, o)
	for i := range 120 {
		sub := submission(strconv.Itoa(i), 10, "a.example")
		sub.Priority = queue.Priority(i % queue.Priorities)
		enqueue(t, s, sub)
	}
	sweepAll(t, s)
	list, err := s.DeadLetters(t.Context(), queue.DeadLetterFilter{Reason: queue.ReasonLaneFull}, queue.Page{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, l := range list.Items {
		got[l.URI] = true
	}
	want := map[string]bool{}
	for i := range 120 {
		if i%queue.Priorities == int(queue.Low) || i%queue.Priorities == int(queue.Normal) && i < 60 {
			want["https://app.example/users/alice/statuses/"+strconv.Itoa(i)] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("other deliveries died (-want +got):\n%s", diff)
	}
}

// TestRevivesIntoBacklog checks that what comes back to a deep lane takes its place by when it was accepted.
func TestRevivesIntoBacklog(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	var ids []string
	for i := range 200 {
		sub := submission(fmt.Sprintf("%03d", i), 10, "a.example")
		enqueue(t, s, sub)
		ids = append(ids, sub.ID)
	}
	if _, err := s.Act(t.Context(), "a.example", queue.Block, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Act(t.Context(), "a.example", queue.Unblock, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	for _, first := range []int{3, 0, 4, 1, 2} { // each fifth, so that the later ones belong between the earlier ones
		var some []string
		for i := first; i < len(ids); i += 5 {
			some = append(some, ids[i]+".0")
		}
		if n, err := s.RetryDead(t.Context(), queue.DeadLetterChoice{IDs: some}, time.Hour); err != nil || n.Done != len(some) {
			t.Fatalf("RetryDead gave %+v, %v", n, err)
		}
	}
	l := lockmgr.Lease{Host: "a.example", Token: 1, TTL: time.Minute}
	turns, err := s.Take(t.Context(), []lockmgr.Lease{l}, 500)
	if err != nil || len(turns[0].Deliveries) != len(ids) {
		t.Fatalf("Take gave %d turns, %v", len(turns), err)
	}
	for i, d := range turns[0].Deliveries[32:] { // what is in the window goes first
		if before := turns[0].Deliveries[31+i]; i > 0 && d.Activity.ID < before.Activity.ID {
			t.Fatalf("%s is given after %s", d.Activity.URI, before.Activity.URI)
		}
	}
}

// TestEventsReachOtherNodes checks that who watches on one node hears of what happens on another, and that nothing is
// said while nobody watches.
func TestEventsReachOtherNodes(t *testing.T) {
	server := testredis.Start(t)
	o := Options{URL: server.URL(), Prefix: "p", Partitions: 2}
	a, b := openStore(t, o), openStore(t, o)
	awaitListener(t, server, "p", "2")
	if a.Publish(queue.Event{Kind: queue.EventDelivered}); len(a.queued) > 0 || a.watched() {
		t.Error("a node tells though nobody watches")
	}
	if a.fed(1); a.telling.Load() {
		t.Error("a node is about to tell of the feed though nobody watches")
	}
	events, err := b.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); !a.watched(); {
		if time.Since(start) > 5*time.Second {
			t.Fatal("the other node does not hear that somebody watches")
		}
	}
	a.Publish(queue.Event{Kind: queue.EventDelivered, Host: "b.example", Inbox: "https://b.example/inbox"})
	if _, err := a.Act(t.Context(), "a.example", queue.Pause, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	want := []queue.Event{{Kind: queue.EventDelivered, Host: "b.example", Inbox: "https://b.example/inbox"}, {Kind: queue.EventFed}}
	for i, w := range want {
		select {
		case e := <-events:
			e.At = time.Time{}
			if diff := cmp.Diff(w, e); diff != "" {
				t.Errorf("event %d is another (-want +got):\n%s", i, diff)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("event %d did not come", i)
		}
	}
	server.Must("CLIENT", "KILL", "TYPE", "pubsub")
	awaitListener(t, server, "p", "2")
	hears := func() bool { // as soon as it listens again
		a.Publish(queue.Event{Kind: queue.EventDead, Host: "c.example"})
		select {
		case e := <-events:
			return e.Host == "c.example"
		case <-time.After(50 * time.Millisecond):
			return false
		}
	}
	for start := time.Now(); !hears(); {
		if time.Since(start) > 10*time.Second {
			t.Fatal("no events come after the connection broke")
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for range events { // ends, for it is closed
		continue
	}
	if _, err := b.Events(t.Context()); err == nil {
		t.Error("a closed store has events")
	}
}

// TestListsHosts checks pages of hosts over several partitions, in any state, against all there are.
func TestListsHosts(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 3})
	var hosts []string // the first hundreds of one partition, then those of others
	for i, host := range manyHosts(900) {
		if first := s.partitionOf(host).N == 0; first == (i < 450) {
			hosts = append(hosts, host)
		}
	}
	enqueue(t, s, submission("1", 10, hosts...))
	var lastHosts []string
	for _, host := range hosts {
		if strings.HasPrefix(host, "social0085") {
			lastHosts = append(lastHosts, host)
		}
	}
	var paused []string
	for i := 0; i < len(hosts); i += 7 {
		if _, err := s.Act(t.Context(), hosts[i], queue.Pause, queue.Order{}); err != nil {
			t.Fatal(err)
		}
		paused = append(paused, hosts[i])
	}
	for _, limit := range []int{1, 17, 50, 500} {
		for _, c := range []struct {
			filter queue.HostFilter
			want   []string
		}{
			{queue.HostFilter{}, hosts}, {queue.HostFilter{State: queue.HostPaused}, paused},
			{queue.HostFilter{Query: "L0085"}, lastHosts}, {queue.HostFilter{State: queue.HostBlocked}, nil},
		} {
			var got []string
			for page := (queue.Page{Limit: limit}); ; {
				list, err := s.Hosts(t.Context(), c.filter, page)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range list.Items {
					got = append(got, h.Host)
				}
				if page.Cursor = list.Next; page.Cursor == "" {
					break
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("pages of %d with %+v have other hosts (-want +got):\n%s", limit, c.filter, diff)
			}
		}
	}
}

// TestUnknownHost checks that a host which is not known hides none that comes after it.
func TestUnknownHost(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	enqueue(t, s, submission("1", 100, "a.example", "c.example"))
	found, err := s.hostStatuses(t.Context(), []string{"a.example", "b.example", "c.example"})
	if err != nil || len(found) != 2 || found[1].Host != "c.example" {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestOrderCutShort checks that an order that covers hosts holds from the moment it is stored, and that another node's Sweep does
// what a node that died then left.
func TestOrderCutShort(t *testing.T) {
	o := Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 3}
	s := openStore(t, o)
	var hosts []string
	for i := range 300 {
		hosts = append(hosts, fmt.Sprintf("h%d.a.example", i))
	}
	enqueue(t, s, submission("1", 10, hosts...))
	if _, err := s.change(t.Context(), change{"a.example", queue.Block, queue.Order{Subdomains: true, Reason: "spam"}}); err != nil {
		t.Fatal(err)
	}
	if n := pending(t, s); n != len(hosts) {
		t.Fatalf("%d deliveries are pending before the sweep", n)
	}
	if r, err := s.Enqueue(t.Context(), submission("2", 10, "h1.a.example", "new.a.example")); err != nil || len(r.Refused) != 2 {
		t.Errorf("%+v, %v: a covered host is not refused", r, err)
	}
	other := openStore(t, o)
	sweepAll(t, other)
	st, err := other.Stats(t.Context())
	want := map[queue.HostState]int{queue.HostBlocked: len(hosts) + 1}
	if diff := cmp.Diff(want, st.Hosts); err != nil || diff != "" || st.Pending != 0 || st.Died[queue.ReasonHostBlocked] != int64(len(hosts)) {
		t.Errorf("stats are %+v, %v: %s", st, err, diff)
	}
	list, err := other.Feed(t.Context(), queue.FeedFilter{Kinds: []queue.EventKind{queue.EventHostState}}, queue.Page{Limit: 500})
	if err != nil || len(list.Items) != len(hosts)+1 {
		t.Errorf("%d entries, %v, want one for each host", len(list.Items), err)
	}
}

// TestOrderInSomePartitions checks that an order that did not come to all partitions can be given again, and be ended.
func TestOrderInSomePartitions(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 4})
	c := change{"a.example", queue.Pause, queue.Order{Subdomains: true}}
	held := func() (n int) {
		for _, p := range s.parts {
			covers, err := s.client.Do(t.Context(), s.client.B().Hlen().Key(p.Key(rediskeys.Covers)).Build()).AsInt64()
			if err != nil {
				t.Fatal(err)
			}
			n += int(covers)
		}
		return n
	}
	home := s.partitionOf(c.host)
	for _, action := range []queue.HostAction{queue.Pause, queue.Resume} {
		if _, _, err := s.changeHome(t.Context(), home, c, false); err != nil {
			t.Fatal(err)
		}
		if got := held(); got != 1 {
			t.Fatalf("%d partitions have the order, want that of its host", got)
		}
		want := map[queue.HostAction]int{queue.Pause: len(s.parts), queue.Resume: 0}[action]
		if _, err := s.Act(t.Context(), c.host, action, c.order); err != nil || held() != want {
			t.Errorf("after %s %d partitions have the order, %v, want %d", action, held(), err, want)
		}
		if _, err := s.Act(t.Context(), c.host, queue.Resume, queue.Order{}); err != nil || held() != 0 {
			t.Errorf("%d partitions have an order that was ended, %v", held(), err)
		}
	}
}
