package redisq

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// aboutNote is what an activity does to a note.
func aboutNote(uri string, role queue.Role, hosts ...string) *queue.Submission {
	sub := submission(uri, 100, hosts...)
	sub.Role, sub.Object = role, "the note"
	sub.OrderingKey = "the note"
	return sub
}

// TestSupersededCountedOnce checks that what a node took out of a lane as superseded, and died before its activity counted
// that, is counted once: by Sweep, or by a Cancel that comes first.
func TestSupersededCountedOnce(t *testing.T) {
	for name, count := range map[string]func(t *testing.T, s *Store, id string){
		"by Sweep": func(t *testing.T, s *Store, _ string) {
			s.sweepAt.Store(0)
			sweepAll(t, s)
		},
		"by Cancel": func(t *testing.T, s *Store, id string) {
			if _, err := s.Cancel(t.Context(), id); err != nil {
				t.Error(err)
			}
			s.sweepAt.Store(0)
			sweepAll(t, s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := testredis.Start(t)
			s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
			create := aboutNote("create", queue.Makes, "a.example")
			create.CreatedAt = time.Now().Add(-time.Hour)
			m := queue.MovedActivity{Activity: create.Activity, Deliveries: []queue.MovedDelivery{{Recipient: create.Recipients[0], TTL: time.Hour}}}
			if n, err := s.Import(t.Context(), []queue.Record{{Activity: &m}}); n != 1 || err != nil {
				t.Fatalf("Import gave %d, %v", n, err)
			}
			enqueue(t, s, aboutNote("delete", queue.Deletes, "b.example"))
			p := s.parts[0]
			taking := p.settlement(lockmgr.Lease{Host: "a.example", Token: 1, TTL: time.Minute}, queue.Settlement{}, 10, true)
			if _, err := p.settles.call(t.Context(), taking); err != nil {
				t.Fatal(err)
			}
			id := uuid.MustParse(create.ID)
			server.Must("ZADD", p.Key(rediskeys.Outdated), "XX", "0", letterName(id, 0)) // long ago
			a, err := s.Activity(t.Context(), create.ID)
			if want := (queue.Counts{Total: 1, Pending: 1}); err != nil || a.Counts != want {
				t.Errorf("before, counts are %+v, %v, want %+v", a.Counts, err, want)
			}
			count(t, s, create.ID)
			a, err = s.Activity(t.Context(), create.ID)
			if want := (queue.Counts{Total: 1, Cancelled: 1}); err != nil || a.Counts != want || pending(t, s) != 1 {
				t.Errorf("counts are %+v, %v, want %+v; %d are pending, want the deletion", a.Counts, err, want, pending(t, s))
			}
			if n := server.Must("ZCARD", p.Key(rediskeys.Outdated)); n != "0" {
				t.Errorf("%s are still to be counted", n)
			}
		})
	}
}

// TestOrderInOneScript checks that a tombstone holds against what one script stores before it, and not against what it
// stores after it.
func TestOrderInOneScript(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	var group []*batchedCall
	for _, sub := range []*queue.Submission{
		aboutNote("create 1", queue.Makes, "a.example"), aboutNote("create 2", queue.Makes, "a.example"),
		aboutNote("delete", queue.Deletes, "b.example"), aboutNote("create 3", queue.Makes, "a.example"),
		aboutNote("create 4", queue.Makes, "c.example"),
	} {
		in, err := s.newIntake(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		to := in.lanes()
		c := in.batchedCall(to, "")
		c.done = make(chan struct{})
		group = append(group, c)
	}
	s.parts[0].enqueues.together(group)
	for _, c := range group {
		if c.err != nil {
			t.Fatal(c.err)
		}
	}
	work(t, s, 1, []string{"a.example", "c.example"}, func(int) queue.Result {
		return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone}
	})
	got, err := s.RetryDead(t.Context(), queue.DeadLetterChoice{}, time.Hour)
	if want := (queue.DeadLetterCount{Matched: 4, Done: 2, Superseded: 2}); err != nil || got != want {
		t.Errorf("RetryDead gave %+v, %v, want %+v", got, err, want)
	}
}

// TestSupersededProbe checks that a probe is not what is superseded either where that was deferred and would be early.
func TestSupersededProbe(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	create := aboutNote("create", queue.Makes, "a.example")
	create.CreatedAt = time.Now().Add(-time.Hour)
	m := queue.MovedActivity{Activity: create.Activity, Deliveries: []queue.MovedDelivery{
		{Recipient: create.Recipients[0], TTL: time.Hour, After: time.Hour},
	}}
	record := queue.HostRecord{Breaker: breaker.Record{State: breaker.Open, Failed: true}}
	records := []queue.Record{{Host: &queue.MovedHost{Host: "a.example", Record: record}}, {Activity: &m}}
	if n, err := s.Import(t.Context(), records); n != 2 || err != nil {
		t.Fatalf("Import gave %d, %v", n, err)
	}
	enqueue(t, s, aboutNote("delete", queue.Deletes, "a.example"))
	if diff := cmp.Diff([]string{"delete"}, inOrder(t, s, "a.example")); diff != "" {
		t.Errorf("given (-want +got):\n%s", diff)
	}
	a, err := s.Activity(t.Context(), create.ID)
	if want := (queue.Counts{Total: 1, Cancelled: 1}); err != nil || a.Counts != want {
		t.Errorf("counts are %+v, %v, want %+v", a.Counts, err, want)
	}
}
