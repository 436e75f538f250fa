package delivery

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
)

// settled keeps the settlements with results that a store got.
type settled struct {
	queue.Queue
	mu  sync.Mutex
	all []queue.Settlement // guarded by mu
}

func (s *settled) Settle(ctx context.Context, l lockmgr.Lease, st queue.Settlement, n int) ([]queue.Delivery, error) {
	if len(st.Results) > 0 {
		s.mu.Lock()
		s.all = append(s.all, st)
		s.mu.Unlock()
	}
	return s.Queue.Settle(ctx, l, st, n)
}

// written reports which settlements had a host's record.
func (s *settled) written() (written []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.all {
		written = append(written, st.Host != nil)
	}
	return written
}

// ends reports which settlements ended a turn.
func (s *settled) ends() (ends []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.all {
		ends = append(ends, st.Release)
	}
	return ends
}

func TestATurnEndsWithItsLastResults(t *testing.T) {
	var store *settled
	lasts := map[string]time.Duration{"short": time.Second, "long": 5 * time.Second}
	pooled(t, func(req *http.Request) Answer {
		lasting(req, lasts[path.Base(bodyOf(req))])
		return Answer{Status: 202}
	}, func(o *Options) {
		store = &settled{Queue: o.Queue.(queue.Queue)}
		o.Queue = store
	}, func(r *rig) {
		for _, name := range []string{"quick", "long", "short"} {
			r.submit("https://app.example/"+name, name, queue.Normal, day, "h.example")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, want := store.ends(), []bool{true, false, true}; !slices.Equal(got, want) {
			t.Errorf("of the settlements these ended a turn: %v, want %v", got, want)
		}
		if n := r.pool.Leases.Holding(); n != 0 {
			t.Errorf("%d leases are held after the last turn", n)
		}
		if used, _ := r.pool.slots.inUse(); used != 0 {
			t.Errorf("%d slots are held after the last turn", used)
		}
	})
}

// A host's record is written when it changes. The time of the last answer may be a second behind.
func TestARecordIsWrittenWhenItSaysSomethingElse(t *testing.T) {
	var store *settled
	pooled(t, func(req *http.Request) Answer {
		if path.Base(bodyOf(req)) == "f" {
			return Answer{Status: 500}
		}
		return Answer{Status: 202}
	}, func(o *Options) {
		o.Breaker.Window = 2
		store = &settled{Queue: o.Queue.(queue.Queue)}
		o.Queue = store
	}, func(r *rig) {
		var want []bool
		for _, step := range []struct {
			name    string
			after   time.Duration
			written bool
		}{
			{"a", 0, true},
			{"b", 300 * time.Millisecond, false},
			{"c", 300 * time.Millisecond, false},
			{"d", 2 * time.Second, true},
			{"e", 300 * time.Millisecond, false},
			{"f", 300 * time.Millisecond, true},
			{"g", 300 * time.Millisecond, true},
		} {
			time.Sleep(step.after)
			r.submit("https://app.example/"+step.name, step.name, queue.Normal, day, "h.example")
			synctest.Wait()
			want = append(want, step.written)
		}
		time.Sleep(time.Second)
		if got := store.written(); !slices.Equal(got, want) {
			t.Errorf("records were written with %v, want %v", got, want)
		}
	})
}

// A host is free for others at once, though the end of its turn could not be written.
func TestATurnThatCannotEndLetsItsLeaseGo(t *testing.T) {
	var faults *queuetest.Faults
	var leases *lockmgr.Local
	pooled(t, status(202), func(o *Options) {
		leases = lockmgr.NewLocal(30 * time.Second)
		o.Leases = lockmgr.NewKeeper(leases, 30*time.Second, o.Log)
		faults = queuetest.Faulty(o.Queue.(queue.Queue))
		o.Queue = idleTakes{faults, faults}
	}, func(r *rig) {
		r.submit("https://app.example/1", "1", queue.Normal, day, "h.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if got, err := leases.Acquire(t.Context(), []string{"h.example"}); err != nil || len(got) != 1 {
			t.Errorf("Acquire gave %v, %v, want the lease", got, err)
		}
		faults.Clear()
	})
}

// idleTakes gives nothing, and then the store is away.
type idleTakes struct {
	queue.Queue
	faults *queuetest.Faults
}

func (q idleTakes) Take(ctx context.Context, leases []lockmgr.Lease, _ int) ([]queue.Turn, error) {
	turns, err := q.Queue.Take(ctx, leases, 0)
	q.faults.Fail("Settle", errors.New("the store is away"))
	return turns, err
}
