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
func together(t *testing.T, s *Store, meanwhile func(), steps ...step) {
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
	return noteWith(s, role, p, uuid.NewString())
}

// noteWith submits one with the body given.
func noteWith(s *Store, role queue.Role, p queue.Priority, body string) *enqueue {
	id := uuid.Must(uuid.NewV7())
	return newEnqueue(s, &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: id.URN(), OrderingKey: "note", Object: "note", Role: role, Priority: p, Body: []byte(body),
		},
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

// A delivery taken just before it is given up holds back those behind it until its attempt is over.
func TestTakenBeforeItIsGivenUp(t *testing.T) {
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
			s.index.laneCap = 1
			first, second := note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal)
			together(t, s, nothing, first, second)
			var d queue.Delivery
			together(t, s, func() {
				c := choice{s: s, turn: queue.Turn{Lease: lease(1)}}
				c.pick(10, s.clock.now())
				d.ID = deliveryID(c.picks[0].e.act, c.picks[0].e.id)
			}, &sweep{s: s})
			if n, st := hostOf(t, s).Pending, statsOf(t, s); n != 1 || st.Pending != 1 {
				t.Errorf("%d and %d pending, want 1", n, st.Pending)
			}
			if ds := takeAll(t, s, 1); len(ds) != 0 {
				t.Errorf("%v overtook what is being attempted", ds)
			}
			again := says(s, "again", queue.Other, "inbox")
			together(t, s, nothing, again)
			if again.receipt.Accepted != 1 {
				t.Errorf("%+v, want it accepted", again.receipt)
			}
			if _, err := s.Settle(bg, lease(1), settle(d), 0); err != nil {
				t.Fatal(err)
			}
			if ds := takeAll(t, s, 1); len(ds) != 1 || ds[0].Activity.ID != second.sub.ID {
				t.Errorf("took %v, want the second", ds)
			}
			checkCounts(t, s, first.sub.ID, queue.Counts{Total: 1, Dead: 1})
			if st := statsOf(t, s); st.Pending != 2 || st.Delivered != 0 {
				t.Errorf("stats %+v, want 2 pending and 0 delivered", st)
			}
		})
	}
}

// The same bytes are no duplicate of a delivery that was given up while it was taken, and that was alone in its chain.
func TestNoDuplicateOfWhatIsGivenUp(t *testing.T) {
	s := open(t, t.TempDir())
	s.index.laneCap = 1
	together(t, s, nothing, says(s, "first", queue.Other, "1"), note(s, queue.Other, queue.Normal))
	together(t, s, func() {
		c := choice{s: s, turn: queue.Turn{Lease: lease(1)}}
		c.pick(1, s.clock.now())
	}, &sweep{s: s})
	again := says(s, "first", queue.Other, "1")
	together(t, s, nothing, again)
	if again.receipt.Accepted != 1 {
		t.Errorf("%+v, want it accepted", again.receipt)
	}
	bodyRows(t, s)
}

// Other activities cannot refer to one that was given up while it was taken.
func TestRefersToNothingGivenUp(t *testing.T) {
	s := open(t, t.TempDir())
	s.index.laneCap = 1
	together(t, s, nothing, says(s, "first", queue.Other, "1"), note(s, queue.Other, queue.Normal))
	together(t, s, func() {
		c := choice{s: s, turn: queue.Turn{Lease: lease(1)}}
		c.pick(1, s.clock.now())
	}, &sweep{s: s})
	refers := says(s, "undo", queue.Other, "1")
	refers.sub.Refers, refers.sub.OrderingKey = "first", "first"
	together(t, s, nothing, refers)
	if key := refers.full.OrderingKey; key != "first" {
		t.Errorf("the ordering key is %q, want its own", key)
	}
}

// failing is the settlement of a probe that failed.
func failing(s *Store, token uint64, h queue.HostRecord) *settle {
	h.Breaker.State, h.Breaker.Failed = breaker.Open, true
	h.Scheme = "cavage"
	return &settle{s: s, lease: lease(token), st: queue.Settlement{Host: &h, Wait: time.Hour}}
}

// Whichever comes first in a transaction, a reset is not undone by what a turn settles that began before it.
func TestResetTogetherWithASettlement(t *testing.T) {
	for _, first := range []string{"reset", "settlement"} {
		t.Run(first, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			together(t, s, nothing, note(s, queue.Other, queue.Normal))
			takeAll(t, s, 1)
			steps := []step{&act{s: s, host: "a.example", action: queue.Reset}, failing(s, 1, queue.HostRecord{})}
			if first != "reset" {
				steps[0], steps[1] = steps[1], steps[0]
			}
			together(t, s, nothing, steps...)
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
	together(t, s, nothing, note(s, queue.Other, queue.Normal))
	takeAll(t, s, 1)
	together(t, s, nothing, failing(s, 1, queue.HostRecord{}))
	seen := func() step { return &act{s: s, host: "a.example", action: queue.Seen} }
	together(t, s, nothing, seen(), seen(), seen(), note(s, queue.Other, queue.High))
	if n := s.index.lanes["a.example"].quick; n != 1 {
		t.Errorf("counted %d times, want once", n)
	}
}

// One delivery is the next probe, however many come at the same time.
func TestOneProbeTogether(t *testing.T) {
	s := open(t, t.TempDir())
	together(t, s, nothing, note(s, queue.Other, queue.Normal))
	d := takeAll(t, s, 1)[0]
	st := queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Delivered}}, Host: &queue.HostRecord{Unavailable: true}}
	if _, err := s.Settle(bg, lease(1), st, 0); err != nil {
		t.Fatal(err)
	}
	one, other := note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal)
	together(t, s, nothing, one, other)
	if one.receipt.Accepted != 1 || other.receipt.Accepted != 0 {
		t.Errorf("%d and %d accepted, want only the first", one.receipt.Accepted, other.receipt.Accepted)
	}
}

// Sweep buries what a block left: because the process died in the midst of it, or because it came just then.
func TestSweepEndsABlock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	together(t, s, nothing, note(s, queue.Other, queue.Normal))
	together(t, s, nothing, &act{s: s, host: "a.example", action: queue.Block}, note(s, queue.Other, queue.Normal))
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
