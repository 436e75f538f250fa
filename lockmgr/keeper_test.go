package lockmgr_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/postrider/postrider/lockmgr"
)

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

// An extension may be in flight while the store ends a lease for its holder.
func TestKeeperTakesNoEndingLeaseForLost(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example", "b.example")
		for _, h := range held {
			n.Ending(h, true)
		}
		n.sleep(2 * ttl)
		n.alive(held[0], nil)
		n.free("a.example", false)
		if err := n.store.Local.Release(t.Context(), []lockmgr.Lease{held[0].Lease, held[1].Lease}); err != nil {
			t.Fatal(err)
		}
		n.Forget(held[0])
		n.sleep(ttl / 3)
		n.alive(held[0], context.Canceled)
		n.alive(held[1], lockmgr.ErrLost)
		n.holding(0)
		n.logged("lease.lost", 0)
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

// TestKeeperCountsFromTheSending checks that the time of an answer is subtracted from the lease, not added to it.
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

// TestKeeperWithoutRun checks that leases end without extensions, and that the time of the answer to an Acquire is
// subtracted from the lease.
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

// TestKeeperOutage checks that one failing extension does no harm, and that an outage is logged once.
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

// TestKeeperPartlyAway checks that leases that can't be extended end in time, and no others with them.
func TestKeeperPartlyAway(t *testing.T) {
	withNode(t, func(t *testing.T, n *node) {
		held := n.acquire("a.example", "sick.example", "gone.example")
		n.store.set(func(s *store) { s.sick = "sick.example" })
		if err := n.store.Local.Release(t.Context(), []lockmgr.Lease{held[2].Lease}); err != nil {
			t.Fatal(err)
		}
		n.sleep(ttl / 3)
		n.alive(held[2], lockmgr.ErrLost)
		n.sleep(ttl*3/4 - ttl/3 - time.Millisecond)
		n.alive(held[1], nil)
		n.sleep(time.Millisecond)
		n.alive(held[1], lockmgr.ErrLost)
		n.sleep(3 * ttl)
		n.alive(held[0], nil)
		n.logged("lease.extend_failing", 1)
		n.logged("lease.extend_recovered", 1)
	})
}

// TestKeeperStopsSlowCalls checks that a store that hangs can't delay a turn or the end of a lease.
func TestKeeperStopsSlowCalls(t *testing.T) {
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

// TestKeeperReleaseSurvives checks that a stopped turn still releases its host.
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

// TestKeeperStaleAnswer checks that an Extend in flight during a release, in either order at the store, neither revives
// nor ends a lease.
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

// TestKeeperStopsSlowExtension checks that an extension that hangs leaves time for the next.
func TestKeeperStopsSlowExtension(t *testing.T) {
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
