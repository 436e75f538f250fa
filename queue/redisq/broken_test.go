package redisq

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// openLogging opens a store whose log can be read.
func openLogging(t *testing.T, o Options) (*Store, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.stop() // nothing writes to the log at the same time
	s.work.Wait()
	return s, &log
}

// TestBrokenLane checks that a lane whose key something else has overwritten keeps no other lane from being worked on.
func TestBrokenLane(t *testing.T) {
	server := testredis.Start(t)
	s, log := openLogging(t, Options{URL: server.URL(), Prefix: "p"})
	hosts := []string{"a.example", "bad.example", "c.example", "worse.example", "z.example"}
	enqueue(t, s, submission("1", 100, hosts...))
	for _, host := range []string{"bad.example", "worse.example"} {
		server.Must("SET", "p:{p0}:h:"+host, "not a hash")
	}
	var leases []lockmgr.Lease
	for i, host := range hosts {
		leases = append(leases, lockmgr.Lease{Host: host, Token: uint64(i + 1), TTL: queue.MaxIdle})
	}
	turns, err := s.Take(t.Context(), leases, 10)
	if err != nil || len(turns) != 3 {
		t.Fatalf("Take gave %d turns, %v, want those of the other three lanes", len(turns), err)
	}
	for _, turn := range turns {
		if len(turn.Deliveries) != 1 {
			t.Errorf("%s gave %d deliveries, want 1", turn.Lease.Host, len(turn.Deliveries))
		}
	}
	if turns, err := s.Take(t.Context(), leases[1:2], 10); err != nil || len(turns) != 0 {
		t.Errorf("of a broken lane Take gave %+v, %v; that should count for nothing", turns, err)
	}
	want := `the key \"p:{p0}:h:bad.example\" holds a string, which should be a hash`
	if strings.Count(log.String(), "store.failing") != 2 || !strings.Contains(log.String(), want) {
		t.Errorf("the log says %s, want one line for each broken lane, such as %s", log, want)
	}
}

// TestBrokenPartition checks that a partition that can't be worked with holds up no other, shows in readiness, and is
// back once it can.
func TestBrokenPartition(t *testing.T) {
	server := testredis.Start(t)
	s, log := openLogging(t, Options{URL: server.URL(), Prefix: "p", Partitions: 4})
	hosts := manyHosts(40)
	enqueue(t, s, submission("1", 100, hosts...))
	healthy := 0
	for _, host := range hosts {
		if s.partitionOf(host).N != 2 {
			healthy++
		}
	}
	server.Must("SET", "p:{p2}:due2", "not a set")
	o, err := s.Due(t.Context(), queue.Want{Lanes: 60, Suspect: 60})
	if err != nil || len(o.Hosts) != healthy || o.Next > awayPause {
		t.Errorf("Due gave %d hosts and %s, %v, want the %d in other partitions and to be asked soon", len(o.Hosts), o.Next, err, healthy)
	}
	want := `partition 2: the key "p:{p2}:due2" holds a string, which should be a zset`
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Ready gave %v, want %s", err, want)
	}
	server.Must("DEL", "p:{p2}:due2")
	if o, err := s.Due(t.Context(), queue.Want{Lanes: 60, Suspect: 60}); err != nil || len(o.Hosts) != len(hosts)-healthy {
		t.Errorf("then Due gave %d hosts, %v, want the other %d", len(o.Hosts), err, len(hosts)-healthy)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for _, line := range []string{"store.partitions_away", "store.partitions_back"} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("the log says %s %d times:\n%s", line, n, log)
		}
	}
	for n := range 4 {
		server.Must("SET", s.parts[n].Key("due1"), "not a set")
	}
	if o, err := s.Due(t.Context(), queue.Want{Lanes: 60, Suspect: 60}); err == nil {
		t.Errorf("with all partitions broken Due gave %+v", o)
	}
}

// TestEmptied checks that a store whose Redis lost everything is made again, with the partitions it had, and that the log
// tells of it.
func TestEmptied(t *testing.T) {
	server := testredis.Start(t)
	o := Options{URL: server.URL(), Prefix: "p", Partitions: 4}
	s, log := openLogging(t, o)
	hosts := manyHosts(10)
	enqueue(t, s, submission("1", 100, hosts...))
	l := lockmgr.Lease{Host: hosts[0], Token: 1, TTL: queue.MaxIdle}
	if _, err := s.Take(t.Context(), []lockmgr.Lease{l}, 1); err != nil {
		t.Fatal(err)
	}
	server.Lose()
	s.sweepAt.Store(0) // as when it can listen again
	for end := time.Now().Add(time.Minute); ; {
		_, err := s.Sweep(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(end) { // a connection that broke may fail a call
			t.Fatal(err)
		}
	}
	sweepAll(t, s)
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "store.emptied"); n != 1 {
		t.Errorf("the log tells of it %d times:\n%s", n, log)
	}
	if n := server.Must("HGET", "p:{p0}:meta", "partitions"); n != "4" {
		t.Errorf("the store is made again with %s partitions", n)
	}
	if _, err := s.Settle(t.Context(), l, queue.Settlement{Release: true}, 0); err == nil {
		t.Error("a lease of before still holds")
	}
	enqueue(t, s, submission("2", 100, hosts...))
	done := 0
	work(t, s, 2, hosts, func(int) queue.Result {
		done++
		return queue.Result{Spent: true}
	})
	if done != 10 {
		t.Errorf("%d deliveries were given, want those accepted since", done)
	}
}

// TestMadeAnewByOthers checks that a node which does not agree with the others on the partitions touches nothing.
func TestMadeAnewByOthers(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 4})
	server.Must("FLUSHALL")
	other := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 8})
	const want = "made again with 8 partitions"
	if _, err := s.Sweep(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Sweep gave %v, want %s", err, want)
	}
	if _, err := s.Enqueue(t.Context(), submission("1", 10, "a.example")); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Enqueue gave %v, want %s", err, want)
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Ready gave %v, want %s", err, want)
	}
	if n := pending(t, other); n != 0 {
		t.Errorf("it has stored %d deliveries", n)
	}
}

// TestLaneDeleted checks that deliveries whose lane somebody has deleted come to an end all the same: they expire, or are
// cancelled.
func TestLaneDeleted(t *testing.T) {
	t.Parallel()
	server := testredis.StartAhead(t, 0)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	sub := submission("1", 100, "a.example", "b.example")
	sub.TTL = time.Minute
	enqueue(t, s, sub)
	second := submission("2", 100, "a.example", "b.example")
	enqueue(t, s, second)
	server.Must("DEL", "p:{p0}:h:a.example")
	a, err := s.Cancel(t.Context(), second.ID)
	if want := (queue.Counts{Total: 2, Cancelled: 2}); err != nil || a.Counts != want {
		t.Errorf("of what was cancelled counts are %+v, %v, want %+v", a.Counts, err, want)
	}
	server.Jump(sub.TTL + time.Second)
	sweepAll(t, s)
	a, err = s.Activity(t.Context(), sub.ID)
	if want := (queue.Counts{Total: 2, Dead: 2}); err != nil || a.Counts != want || pending(t, s) != 0 {
		t.Errorf("of what expired counts are %+v, %v, want %+v; %d are pending", a.Counts, err, want, pending(t, s))
	}
	list, err := s.DeadLetters(t.Context(), queue.DeadLetterFilter{Host: "a.example"}, queue.Page{Limit: 5})
	if err != nil || len(list.Items) != 1 || list.Items[0].Inbox != "https://a.example/inbox" || list.Items[0].Reason != queue.ReasonExpired {
		t.Errorf("dead letters are %+v, %v", list.Items, err)
	}
}
