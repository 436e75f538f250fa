package redisq

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// oneInbox is a call as apps make them that hand each inbox over by itself: of one activity or, if that is wanted, of another
// each time.
func oneInbox(n int, different bool) *queue.Submission {
	uri := "same"
	if different {
		uri = fmt.Sprint("different ", n)
	}
	host := fmt.Sprintf("social%03d.example", n%500)
	sub := submission(uri, 2600, host)
	sub.Recipients[0].Inbox += fmt.Sprint("/", n)
	sub.Idempotency = queue.Idempotency{}
	return sub
}

// TestBodyOnce checks that activities of the same bytes share their body as long as one of them needs it, in each partition.
func TestBodyOnce(t *testing.T) {
	for _, partitions := range []int{1, 3} {
		server := testredis.Start(t)
		s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: partitions})
		var ids []string
		for i := range 300 {
			sub := oneInbox(i, false)
			enqueue(t, s, sub)
			ids = append(ids, sub.ID)
		}
		wide := submission("same", 2600, manyHosts(2*laneChunk)...)
		enqueue(t, s, wide)
		for i, id := range append(ids, wide.ID) {
			for _, p := range s.parts {
				if n := server.Must("HLEN", p.Key(rediskeys.Bodies)); n != "1" {
					t.Fatalf("with %d partitions and %d activities ended partition %d has %s bodies", partitions, i, p.N, n)
				}
			}
			if _, err := s.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range keysOf(t, server) {
			if strings.HasSuffix(key, ":bodies") || strings.HasSuffix(key, ":bodyinfo") || strings.HasSuffix(key, ":named") {
				t.Errorf("with %d partitions %s is left", partitions, key)
			}
		}
	}
}

// TestDuplicateLeavesNothing checks that an activity all of whose deliveries are duplicates is pending nowhere, and leaves the
// body to the one that it repeats.
func TestDuplicateLeavesNothing(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	enqueue(t, s, submission("same", 100, "a.example"))
	if r, err := s.Enqueue(t.Context(), submission("same", 100, "a.example")); err != nil || r.Duplicates != 1 {
		t.Fatalf("Enqueue = %+v, %v, want a duplicate", r, err)
	}
	for _, command := range [][]string{{"ZCARD", "p:{p0}:pending"}, {"ZCARD", "p:{p0}:expires"}, {"HLEN", "p:{p0}:bodies"}, {"HLEN", "p:{p0}:bodyinfo"}} {
		if n := server.Must(command...); n != "1" {
			t.Errorf("%s = %s, want 1", strings.Join(command, " "), n)
		}
	}
}

// TestBodiesBeginAlike checks that a body whose name another has gets another name.
func TestBodiesBeginAlike(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	sub := submission("1", 100, "a.example")
	digest := contentHash(&sub.Activity)
	other := digest[:5] + strings.Repeat("x", 11)
	server.Must("HSET", "p:{p0}:bodies", digest[:5], "another body")
	server.Must("HSET", "p:{p0}:bodyinfo", digest[:5], other+"\x00\x00\x00\x01\x00")
	enqueue(t, s, sub)
	if r, err := s.Enqueue(t.Context(), submission("1", 100, "a.example")); err != nil || r.Duplicates != 1 {
		t.Errorf("the same once more gave %+v, %v", r, err)
	}
	var bodies []string
	for range 2 {
		turns, err := s.Take(t.Context(), leasesOf("a.example"), 5)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range turns[0].Deliveries {
			bodies = append(bodies, string(d.Activity.Body))
		}
	}
	if diff := cmp.Diff([]string{string(sub.Body)}, bodies); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
	if _, err := s.Cancel(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Must("HGETALL", "p:{p0}:bodies"); !strings.Contains(left, "another body") || strings.Contains(left, string(sub.Body)) {
		t.Errorf("left is %q", left)
	}
}

// TestRunTwice checks that a submission without an idempotency key whose script runs twice, as the connection broke before the
// first answer, is stored once and gets the same answer.
func TestRunTwice(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	enqueue(t, s, submission("1", 100, "a.example"))
	if _, err := s.Act(t.Context(), "blocked.example", queue.Block, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	sub := submission("1", 100, "a.example", "b.example", "c.example", "blocked.example")
	sub.Idempotency, sub.Role = queue.Idempotency{}, queue.Deletes
	sub.Object = "the note"
	first := submission("1", 100, "a.example")
	first.Role, first.Object = sub.Role, sub.Object // the same bytes
	enqueueAll(t, s, first)
	in, err := s.newIntake(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	to := in.lanes()
	var answers []queue.Receipt
	for range 2 {
		a, err := s.parts[0].enqueues.call(t.Context(), in.batchedCall(to, ""))
		if err != nil {
			t.Fatal(err)
		}
		r, err := receipt(a)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, r)
	}
	want := queue.Receipt{ID: sub.ID, URI: sub.URI, Accepted: 2, Duplicates: 1, Refused: []queue.Refusal{
		{Inbox: "https://blocked.example/inbox", Reason: queue.ReasonHostBlocked},
	}}
	if diff := cmp.Diff([]queue.Receipt{want, want}, answers); diff != "" {
		t.Errorf("receipts (-want +got):\n%s", diff)
	}
	if n := pending(t, s); n != 4 {
		t.Errorf("%d deliveries are pending, want 4", n)
	}
}

// enqueueAll stores a submission, whatever becomes of its recipients.
func enqueueAll(t *testing.T, s *Store, sub *queue.Submission) {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
}

// TestTailsInBacklog checks which delivery of a chain decides about duplicates after the newest was cancelled or one that
// was retried came between, deep in a lane.
func TestTailsInBacklog(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	put := func(uri, chain string, duplicates int) string {
		t.Helper()
		sub := submission(uri, 10, "a.example")
		sub.OrderingKey = chain
		if r, err := s.Enqueue(t.Context(), sub); err != nil || r.Duplicates != duplicates {
			t.Errorf("%s: %+v, %v, want %d duplicates", uri, r, err, duplicates)
		}
		return sub.ID
	}
	cancel := func(id string) {
		t.Helper()
		if _, err := s.Cancel(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	for i := range 40 { // the window, and some of the backlog
		put(strconv.Itoa(i), strconv.Itoa(i), 0)
	}
	put("follow", "relation", 0)
	undo := put("undo", "relation", 0)
	for i := range 250 {
		put(strconv.Itoa(1000+i), strconv.Itoa(i%200), 0)
	}
	put("undo", "relation", 1)
	follow := put("follow", "relation", 0)
	put("follow", "relation", 1)
	cancel(follow)
	put("undo", "relation", 1)
	cancel(undo)
	put("follow", "relation", 1)
	put("undo", "relation", 0)
}

// BenchmarkOneInbox stores activities for an inbox each on hosts that are paused: the same, and different ones.
func BenchmarkOneInbox(b *testing.B) {
	for _, different := range []bool{true, false} {
		b.Run(map[bool]string{true: "different", false: "same"}[different], func(b *testing.B) {
			r := startBench(b)
			for n := range 500 {
				if _, err := r.store.Act(b.Context(), oneInbox(n, false).Recipients[0].Host, queue.Pause, queue.Order{}); err != nil {
					b.Fatal(err)
				}
			}
			var calls atomic.Int64
			b.SetParallelism(16)
			r.begin()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					enqueue(b, r.store, oneInbox(int(calls.Add(1)), different))
				}
			})
			r.report(b.N)
		})
	}
}

// TestTombstonesOfTheDead checks that a node that dies between the commit and the release of a deletion leaves its tombstone
// to the one that releases it, in every partition, and that doing so again does not bring back what was undone.
func TestTombstonesOfTheDead(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 3})
	about := func(uri string, role queue.Role, hosts ...string) *queue.Submission {
		sub := submission(uri, 100, hosts...)
		sub.Role, sub.Object = role, "the note"
		sub.OrderingKey = "the note"
		return sub
	}
	hosts := manyHosts(20)
	enqueue(t, s, about("create", queue.Makes, hosts...))
	work(t, s, 1, hosts, func(int) queue.Result { return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone} })
	deletion := about("delete", queue.Deletes, "b.example")
	acceptOnly(t, s, deletion)
	retry := func(want queue.DeadLetterCount) {
		t.Helper()
		got, err := s.RetryDead(t.Context(), queue.DeadLetterChoice{}, time.Hour)
		if err != nil || got != want {
			t.Errorf("RetryDead gave %+v, %v, want %+v", got, err, want)
		}
	}
	for _, p := range s.parts {
		if _, err := s.decide(t.Context(), p, []string{binaryID(deletion)}); err != nil {
			t.Fatal(err)
		}
	}
	retry(queue.DeadLetterCount{Matched: 20, Superseded: 20})
	enqueue(t, s, about("undo", queue.Restores, "c.example"))
	if err := s.noteObject(t.Context(), deletion.Activity, ""); err != nil {
		t.Fatal(err)
	}
	retry(queue.DeadLetterCount{Matched: 20, Done: 20})
}

func binaryID(sub *queue.Submission) string {
	id := uuid.MustParse(sub.ID)
	return string(id[:])
}

func leasesOf(host string) []lockmgr.Lease {
	return []lockmgr.Lease{{Host: host, Token: 1, TTL: time.Minute}}
}
