package embedded

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// step is an operation on its way in.
type step interface {
	run(t *tx) error
	apply()
}

// together runs operations in one transaction, as the writer does with those that wait at the same time. Before they are
// applied, meanwhile happens, with the store's mutex held.
func (s *Store) together(t *testing.T, meanwhile func(), steps ...step) {
	t.Helper()
	err := s.writer.do(bg, func(tx *tx) (err error) {
		for _, o := range steps {
			err = errors.Join(err, o.run(tx))
		}
		return err
	}, func() {
		meanwhile()
		for _, o := range steps {
			o.apply()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nothing() {}

// note submits what an activity does to a note that all of them share.
func note(s *Store, role queue.Role, p queue.Priority) *enqueue {
	id := uuid.Must(uuid.NewV7())
	return s.newEnqueue(&queue.Submission{
		Activity:    queue.Activity{ID: id.String(), URI: id.URN(), OrderingKey: "note", Role: role, Priority: p, Body: []byte("{}")},
		Recipients:  []queue.Recipient{{Inbox: "https://a.example/inbox", Host: "a.example"}},
		TTL:         time.Hour,
		Idempotency: queue.Idempotency{Key: [32]byte(append(id[:], id[:]...))},
	}, id)
}

func lease(token uint64) lockmgr.Lease {
	return lockmgr.Lease{Host: "a.example", Token: token, TTL: time.Minute}
}

// takeAll takes what there is under a lease.
func takeAll(t *testing.T, s *Store, token uint64) []queue.Delivery {
	t.Helper()
	turns, err := s.Take(bg, []lockmgr.Lease{lease(token)}, 10)
	if err != nil || len(turns) != 1 {
		t.Fatal(turns, err)
	}
	return turns[0].Deliveries
}

func hostOf(t *testing.T, s *Store) queue.HostStatus {
	t.Helper()
	h, err := s.Host(bg, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func statsOf(t *testing.T, s *Store) queue.Stats {
	t.Helper()
	st, err := s.Stats(bg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// waits makes the lane wait.
func waits(s *Store, until int64) { s.index.lanes["a.example"].wait = until }

// What was taken just before it is cancelled, as its lane's wait ended, goes on to hold back what follows it, until its
// attempt is over.
func TestTakenBeforeItIsSuperseded(t *testing.T) {
	for name, settle := range map[string]func(d queue.Delivery) queue.Settlement{
		"delivered": func(d queue.Delivery) queue.Settlement {
			return queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Delivered, Spent: true}}}
		},
		"failed": func(d queue.Delivery) queue.Settlement {
			return queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Retry, After: time.Minute, Spent: true}}}
		},
		"handed back": func(queue.Delivery) queue.Settlement { return queue.Settlement{Release: true} },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			create, deletion := note(s, queue.Makes, queue.Normal), note(s, queue.Deletes, queue.Normal)
			s.together(t, nothing, create)
			s.together(t, func() { waits(s, never) })
			var d queue.Delivery
			s.together(t, func() {
				waits(s, 0)
				_, picks, _ := s.pick(lease(1), 10, millis(time.Now()))
				d.ID = deliveryID(picks[0].e.act, picks[0].e.id)
			}, deletion)
			if n, st := hostOf(t, s).Pending, statsOf(t, s); n != 1 || st.Pending != 1 {
				t.Errorf("%d and %d pending, want 1", n, st.Pending)
			}
			if ds := takeAll(t, s, 1); len(ds) != 0 {
				t.Errorf("%v overtook what is being attempted", ds)
			}
			if err := s.Settle(bg, lease(1), settle(d)); err != nil {
				t.Fatal(err)
			}
			if ds := takeAll(t, s, 1); len(ds) != 1 || ds[0].Activity.Role != queue.Deletes {
				t.Errorf("took %v, want the deletion", ds)
			}
			a, err := s.Activity(bg, create.sub.ID)
			if want := (queue.Counts{Total: 1, Cancelled: 1}); err != nil || a.Counts != want {
				t.Errorf("counts %+v, %v, want %+v", a.Counts, err, want)
			}
			if st := statsOf(t, s); st.Pending != 1 || st.Delivered != 0 {
				t.Errorf("stats %+v, want 1 pending and 0 delivered", st)
			}
		})
	}
}

// Ordering keys are told apart although they may share a hash.
func TestSupersedesOneKeyOnly(t *testing.T) {
	const one, other = "8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ"
	if hashOf(one) != hashOf(other) {
		t.Fatal("the two keys don't share a hash any more")
	}
	s := open(t, t.TempDir())
	create, deletion := note(s, queue.Makes, queue.Normal), note(s, queue.Deletes, queue.Normal)
	create.sub.OrderingKey, deletion.sub.OrderingKey = one, other
	s.together(t, nothing, create)
	s.together(t, func() { waits(s, never) })
	s.together(t, nothing, deletion)
	if n := hostOf(t, s).Pending; n != 2 {
		t.Errorf("%d pending, want both", n)
	}
}

// failing is the settlement of a probe that failed.
func failing(s *Store, token uint64, h queue.HostRecord) *settle {
	h.Breaker.State, h.Breaker.Failed, h.Scheme = breaker.Open, true, "cavage"
	return &settle{s: s, lease: lease(token), st: queue.Settlement{Host: &h, Wait: time.Hour}}
}

// Whichever comes first in a transaction, a reset is not undone by what a turn settles that began before it.
func TestResetTogetherWithASettlement(t *testing.T) {
	for _, first := range []string{"reset", "settlement"} {
		t.Run(first, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			s.together(t, nothing, note(s, queue.Other, queue.Normal))
			takeAll(t, s, 1)
			steps := []step{&act{s: s, host: "a.example", action: queue.Reset}, failing(s, 1, queue.HostRecord{})}
			if first != "reset" {
				steps[0], steps[1] = steps[1], steps[0]
			}
			s.together(t, nothing, steps...)
			h := hostOf(t, s)
			if h.State != queue.HostHealthy || !h.RetryAt.IsZero() || h.Record.Epoch != 1 {
				t.Errorf("the host is %+v, want it as it was reset", h)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			if diff := cmp.Diff(h.Record, hostOf(t, s).Record); diff != "" || !hostOf(t, s).RetryAt.IsZero() {
				t.Errorf("after a restart the host waits until %v, its record differs (-before +after):\n%s", hostOf(t, s).RetryAt, diff)
			}
		})
	}
}

// That a host was seen counts once in a wait, however many tell it at the same time.
func TestSeenTogether(t *testing.T) {
	s := open(t, t.TempDir())
	s.together(t, nothing, note(s, queue.Other, queue.Normal))
	takeAll(t, s, 1)
	s.together(t, nothing, failing(s, 1, queue.HostRecord{}))
	seen := func() step { return &act{s: s, host: "a.example", action: queue.Seen} }
	s.together(t, nothing, seen(), seen(), seen(), note(s, queue.Other, queue.High))
	if n := s.index.lanes["a.example"].quick; n != 1 {
		t.Errorf("counted %d times, want once", n)
	}
}

// One delivery is the next probe, however many come at the same time.
func TestOneProbeTogether(t *testing.T) {
	s := open(t, t.TempDir())
	s.together(t, nothing, note(s, queue.Other, queue.Normal))
	d := takeAll(t, s, 1)[0]
	st := queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Delivered}}, Host: &queue.HostRecord{Unavailable: true}}
	if err := s.Settle(bg, lease(1), st); err != nil {
		t.Fatal(err)
	}
	one, other := note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal)
	s.together(t, nothing, one, other)
	if one.receipt.Accepted != 1 || other.receipt.Accepted != 0 {
		t.Errorf("%d and %d accepted, want only the first", one.receipt.Accepted, other.receipt.Accepted)
	}
}

// Sweep buries what a block left: because the process died in the midst of it, or because it came just then.
func TestSweepEndsABlock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.together(t, nothing, note(s, queue.Other, queue.Normal))
	s.together(t, nothing, &act{s: s, host: "a.example", action: queue.Block}, note(s, queue.Other, queue.Normal))
	if n := hostOf(t, s).Pending; n != 2 {
		t.Fatalf("%d pending, want both", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if next, err := s.Sweep(bg); err != nil || next == 0 {
		t.Errorf("the next sweep is in %v, %v", next, err)
	}
	if st := statsOf(t, s); st.Pending != 0 || st.Died[queue.ReasonHostBlocked] != 2 {
		t.Errorf("stats %+v, want both dead", st)
	}
}
