package lockmgr_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/lockmgr"
)

// ttl is that of the leases in the Keeper's tests.
const ttl = 12 * time.Second

var errAway = errors.New("store is away")

// store is a Local that can be taken away, or slowed down.
type store struct {
	*lockmgr.Local

	mu       sync.Mutex
	err      error         // guarded by mu: what every call returns
	before   time.Duration // guarded by mu: how long a call takes to get there
	after    time.Duration // guarded by mu: how long its answer takes
	extended []int         // guarded by mu: the number of leases of each Extend call that got there
}

func (s *store) set(f func(s *store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// call does f as a store behind a network does: it may happen though the answer is not waited for.
func (s *store) call(ctx context.Context, f func() error) error {
	s.mu.Lock()
	err, before, after := s.err, s.before, s.after
	s.mu.Unlock()
	if e := pause(ctx, before); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	err = f()
	return errors.Join(err, pause(ctx, after))
}

func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (s *store) Acquire(ctx context.Context, hosts []string) (leases []lockmgr.Lease, err error) {
	err = s.call(ctx, func() (err error) { leases, err = s.Local.Acquire(ctx, hosts); return err })
	return leases, err
}

func (s *store) Extend(ctx context.Context, leases []lockmgr.Lease) (lost []lockmgr.Lease, err error) {
	err = s.call(ctx, func() (err error) {
		s.set(func(s *store) { s.extended = append(s.extended, len(leases)) })
		lost, err = s.Local.Extend(ctx, leases)
		return err
	})
	return lost, err
}

func (s *store) Release(ctx context.Context, leases []lockmgr.Lease) error {
	return s.call(ctx, func() error { return s.Local.Release(ctx, leases) })
}

// node is a Keeper on a store, with what it logged.
type node struct {
	*lockmgr.Keeper
	t     *testing.T
	store *store
	log   *bytes.Buffer
	stop  context.CancelFunc
}

// withNode runs f in a bubble with a node whose Keeper is running.
func withNode(t *testing.T, f func(t *testing.T, n *node)) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{t: t, store: &store{Local: lockmgr.NewLocal(ttl)}, log: &bytes.Buffer{}}
		n.Keeper = lockmgr.NewKeeper(n.store, ttl, slog.New(slog.NewTextHandler(n.log, nil)))
		ctx, stop := context.WithCancel(t.Context())
		n.stop = stop
		var wg sync.WaitGroup
		wg.Go(func() { n.Run(ctx) })
		defer wg.Wait()
		defer stop()
		f(t, n)
	})
}

// acquire leases hosts, all of which must be free.
func (n *node) acquire(hosts ...string) []*lockmgr.Held {
	n.t.Helper()
	held, err := n.Acquire(n.t.Context(), hosts)
	if err != nil || len(held) != len(hosts) {
		n.t.Fatalf("Acquire(%q) gave %d leases, %v", hosts, len(held), err)
	}
	return held
}

// sleep lets time pass, and everything happen that is due until then.
func (n *node) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// alive checks that a lease is believed, or ended for the cause given.
func (n *node) alive(h *lockmgr.Held, cause error) {
	n.t.Helper()
	if got := context.Cause(h.Context()); !errors.Is(got, cause) || (cause == nil) != (got == nil) {
		n.t.Errorf("the lease of %s ended for %v, want %v", h.Host, got, cause)
	}
}

// free checks whether somebody else could get the host at the store.
func (n *node) free(host string, want bool) {
	n.t.Helper()
	leases, err := n.store.Local.Acquire(n.t.Context(), []string{host})
	if err != nil || (len(leases) == 1) != want {
		n.t.Errorf("free(%s) = %t, %v, want %t", host, len(leases) == 1, err, want)
	}
}

// logged checks how often an event was logged.
func (n *node) logged(event string, want int) {
	n.t.Helper()
	if got := strings.Count(n.log.String(), event); got != want {
		n.t.Errorf("%s was logged %d times, want %d:\n%s", event, got, want, n.log)
	}
}

func (n *node) holding(want int) {
	n.t.Helper()
	if got := n.Holding(); got != want {
		n.t.Errorf("Holding() = %d, want %d", got, want)
	}
}

func TestKeeperExtendsAllWithOneCall(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := append(n.acquire("a.example", "b.example"), n.acquire("c.example")...)
		n.sleep(10 * ttl)
		for _, h := range held {
			n.alive(h, nil)
			n.free(h.Host, false)
		}
		n.holding(3)
		if len(n.store.extended) != 30 {
			t.Errorf("%d Extend calls in 10 TTLs, want 30", len(n.store.extended))
		}
		for _, leases := range n.store.extended {
			if leases != 3 {
				t.Errorf("Extend calls had %v leases, want 3 each", n.store.extended)
				break
			}
		}
	})
}

func TestKeeperMakesNoCallForNothing(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example")
		if err := n.Release(t.Context(), held...); err != nil {
			t.Error(err)
		}
		n.store.set(func(s *store) { s.err = errAway })
		if err := n.Release(t.Context()); err != nil {
			t.Errorf("Release of nothing gave %v", err)
		}
		n.store.set(func(s *store) { s.err = nil })
		n.sleep(3 * ttl)
		if len(n.store.extended) != 0 {
			t.Errorf("Extend was called with nothing held: %v", n.store.extended)
		}
	})
}

func TestKeeperLeavesOutHeld(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		n.free("a.example", true)
		held, err := n.Acquire(t.Context(), []string{"a.example", "b.example"})
		if err != nil || len(held) != 1 || held[0].Host != "b.example" {
			t.Errorf("Acquire gave %v, %v, want b.example only", held, err)
		}
		n.holding(1)
	})
}

func TestKeeperReportsLost(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example", "b.example")
		if err := n.store.Local.Release(t.Context(), []lockmgr.Lease{held[0].Lease}); err != nil {
			t.Fatal(err)
		}
		n.sleep(ttl / 3)
		n.alive(held[0], lockmgr.ErrLost)
		n.alive(held[1], nil)
		n.holding(1)
		n.logged("lease.lost", 1)
		if err := n.Release(t.Context(), held...); err != nil {
			t.Error(err)
		}
		n.alive(held[0], lockmgr.ErrLost)
		n.alive(held[1], context.Canceled)
	})
}

// TestKeeperEndsBeforeTheStore checks the margin: a lease that isn't extended has ended while the store keeps it.
func TestKeeperEndsBeforeTheStore(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		n.sleep(time.Second)
		held := n.acquire("a.example")
		n.store.set(func(s *store) { s.err = errAway })
		n.sleep(ttl*3/4 - time.Millisecond)
		n.alive(held[0], nil)
		n.sleep(time.Millisecond)
		n.alive(held[0], lockmgr.ErrLost)
		n.holding(0)
		n.free("a.example", false)
		n.sleep(ttl / 4)
		n.free("a.example", true)
	})
}

// TestKeeperCountsFromTheSending checks that time an answer takes is taken off the lease, not added to it.
func TestKeeperCountsFromTheSending(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		n.store.set(func(s *store) { s.after = 2 * time.Second })
		sent := time.Now()
		held := n.acquire("a.example")
		beat := sent.Add(ttl / 3)
		n.sleep(time.Until(beat.Add(2500 * time.Millisecond)))
		n.store.set(func(s *store) { s.err = errAway })
		n.sleep(time.Until(beat.Add(ttl*3/4 - time.Millisecond)))
		n.alive(held[0], nil)
		n.sleep(time.Millisecond)
		n.alive(held[0], lockmgr.ErrLost)
	})
}

// TestKeeperWithoutRun checks that nobody works on for lack of a heartbeat, and that time the answer to an Acquire takes
// is taken off the lease.
func TestKeeperWithoutRun(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		n.stop()
		n.store.set(func(s *store) { s.after = 2 * time.Second })
		sent := time.Now()
		held := n.acquire("a.example")
		held = append(held, n.acquire("b.example")...)
		n.sleep(time.Until(sent.Add(ttl*3/4 - time.Millisecond)))
		n.alive(held[0], nil)
		n.sleep(time.Millisecond)
		n.alive(held[0], lockmgr.ErrLost)
		n.alive(held[1], nil)
		n.sleep(2 * time.Second)
		n.alive(held[1], lockmgr.ErrLost)
	})
}

// TestKeeperOutage checks that one failing beat does no harm, and that an outage is logged once.
func TestKeeperOutage(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example")
		n.store.set(func(s *store) { s.err = errAway })
		n.sleep(ttl/3 + time.Second)
		n.logged("lease.extend_failing", 1)
		n.store.set(func(s *store) { s.err = nil })
		n.sleep(10 * ttl)
		n.alive(held[0], nil)
		n.logged("lease.extend_recovered", 1)

		n.store.set(func(s *store) { s.err = errAway })
		n.sleep(ttl)
		n.alive(held[0], lockmgr.ErrLost)
		n.logged("lease.extend_failing", 2)
		n.store.set(func(s *store) { s.err = nil })
		n.sleep(ttl)
		n.alive(n.acquire("a.example")[0], nil)
	})
}

// TestKeeperGivesUpSlowCalls checks that a store that hangs can't hold up a turn or the end of a lease.
func TestKeeperGivesUpSlowCalls(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example", "c.example")
		n.store.set(func(s *store) { s.before = time.Hour })
		start := time.Now()
		if _, err := n.Acquire(t.Context(), []string{"b.example"}); err == nil {
			t.Error("Acquire of a store that hangs gave no error")
		}
		if err := n.Release(t.Context(), held[1]); err == nil {
			t.Error("Release at a store that hangs gave no error")
		}
		if took := time.Since(start); took > ttl/2 {
			t.Errorf("the calls took %s", took)
		}
		n.sleep(time.Until(start.Add(ttl * 3 / 4)))
		n.alive(held[0], lockmgr.ErrLost)
	})
}

// TestKeeperReleaseSurvives checks that a turn that is stopped still lets its host go.
func TestKeeperReleaseSurvives(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		ctx, cancel := context.WithCancel(t.Context())
		held, err := n.Acquire(ctx, []string{"a.example"})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		n.alive(held[0], nil)
		if err := n.Release(ctx, held...); err != nil {
			t.Error(err)
		}
		n.alive(held[0], context.Canceled)
		n.holding(0)
		n.free("a.example", true)
	})
}

// TestKeeperReleaseForgets checks that a lease whose release failed is not kept alive.
func TestKeeperReleaseForgets(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example")
		n.store.set(func(s *store) { s.err = errAway })
		if err := n.Release(t.Context(), held...); !errors.Is(err, errAway) {
			t.Errorf("Release gave %v, want %v", err, errAway)
		}
		n.store.set(func(s *store) { s.err = nil })
		n.alive(held[0], context.Canceled)
		n.holding(0)
		n.sleep(ttl)
		n.free("a.example", true)
	})
}

// TestKeeperStaleAnswer checks that an Extend under way during a release, whichever of them the store sees first, brings
// nothing back and takes nothing away.
func TestKeeperStaleAnswer(t *testing.T) {
	const slow = 2 * time.Second
	for name, delay := range map[string]func(s *store){
		"extended, then released": func(s *store) { s.after = slow },
		"released, then extended": func(s *store) { s.before = slow },
	} {
		t.Run(name, func(t *testing.T) {
			withNode(t, func(t *testing.T, n *node) {
				held := n.acquire("a.example", "b.example")
				n.store.set(delay)
				n.sleep(ttl/3 + time.Second)
				n.store.set(func(s *store) { s.before, s.after = 0, 0 })
				if err := n.Release(t.Context(), held[0]); err != nil {
					t.Error(err)
				}
				again := n.acquire("a.example")
				n.sleep(3 * ttl)
				n.alive(held[0], context.Canceled)
				n.alive(held[1], nil)
				n.alive(again[0], nil)
				n.holding(2)
				n.logged("lease.lost", 0)
			})
		})
	}
}

// TestKeeperGivesUpSlowBeat checks that a beat that hangs leaves time for the next.
func TestKeeperGivesUpSlowBeat(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example")
		n.store.set(func(s *store) { s.before = time.Hour })
		n.sleep(ttl/3 + time.Second)
		n.store.set(func(s *store) { s.before = 0 })
		n.sleep(2 * ttl)
		n.alive(held[0], nil)
	})
}

func TestKeeperAcquireError(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		n.store.set(func(s *store) { s.err = errAway })
		if held, err := n.Acquire(t.Context(), []string{"a.example"}); !errors.Is(err, errAway) || held != nil {
			t.Errorf("Acquire gave %v, %v, want %v", held, err, errAway)
		}
		n.holding(0)
	})
}

func TestKeeperRunEnds(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		n.acquire("a.example")
		n.store.set(func(s *store) { s.before = time.Hour })
		n.sleep(ttl/3 + time.Second)
		n.stop()
		n.sleep(0)
		n.logged("lease.extend_failing", 0)
	})
}
