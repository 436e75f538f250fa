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

// store is a Local that can fail or be slow.
type store struct {
	*lockmgr.Local

	mu       sync.Mutex
	err      error         // guarded by mu: what every call returns
	before   time.Duration // guarded by mu: how long a call takes to get there
	after    time.Duration // guarded by mu: how long its answer takes
	sick     string        // guarded by mu: the host whose lease can't be extended
	extended []int         // guarded by mu: the number of leases of each Extend call that got there
}

func (s *store) set(f func(s *store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// call calls f as over a network: f may run though the caller does not wait for the answer.
func (s *store) call(ctx context.Context, f func() error) error {
	s.mu.Lock()
	err := s.err
	before := s.before
	after := s.after
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
		var sick string
		s.set(func(s *store) { s.extended, sick = append(s.extended, len(leases)), s.sick })
		var well, failed []lockmgr.Lease
		for _, l := range leases {
			if l.Host == sick {
				failed = append(failed, l)
			} else {
				well = append(well, l)
			}
		}
		lost, err = s.Local.Extend(ctx, well)
		if err == nil && len(failed) > 0 {
			err = &lockmgr.ExtendError{Leases: failed, Err: errAway}
		}
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

// acquire leases hosts, which must all be free.
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

// alive checks that a lease is trusted, or ended with a cause.
func (n *node) alive(h *lockmgr.Held, cause error) {
	n.t.Helper()
	if got := context.Cause(h.Context()); !errors.Is(got, cause) || (cause == nil) != (got == nil) {
		n.t.Errorf("the lease of %s ended for %v, want %v", h.Host, got, cause)
	}
}

// free checks whether another node could lease the host at the store.
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
