package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// errSlow is the cause of a call to the Manager that timed out.
var errSlow = errors.New("lease store took too long")

// Keeper holds a node's leases on top of a Manager: it extends all of them with one call every third of the TTL, and
// ends a lease's context before the lease can lapse at the store.
//
// The Keeper trusts a lease for three quarters of its TTL, counted on this process's monotonic clock from just before the
// Acquire or Extend call that the Manager granted. The last quarter is the holder's time to notice and stop, and one
// extension may fail without harm. That holds even if Run is not running: without extensions the leases just end.
//
// Callers may not rely on it while the whole machine is suspended, as the monotonic clock stops then; the fence of tokens
// covers that.
//
// All methods are safe for concurrent use.
type Keeper struct {
	m   Manager
	ttl time.Duration
	log *slog.Logger

	mu    sync.Mutex
	held  map[*Held]struct{} // guarded by mu
	away  bool               // the last extension failed; guarded by mu
	lost  int                // leases that ended since; guarded by mu
	timer *time.Timer        // guarded by mu: runs expire; nil until first needed
	due   time.Time          // guarded by mu: when timer fires, zero if it isn't set
}

// Held is a lease that a Keeper holds.
type Held struct {
	Lease
	ctx    context.Context
	cancel context.CancelCauseFunc
	until  time.Time // guarded by Keeper.mu: trusted until then
	ending bool      // guarded by Keeper.mu: see Ending
}

// Context is done once the lease has ended: with the cause ErrLost when it was lost or could not be extended in time,
// with context.Canceled when it was released. It carries the values of the context that the lease was acquired with,
// but does not end with it.
func (h *Held) Context() context.Context { return h.ctx }

// NewKeeper returns a Keeper of leases of m, which last ttl. Nothing is extended until Run is called.
func NewKeeper(m Manager, ttl time.Duration, log *slog.Logger) *Keeper {
	return &Keeper{m: m, ttl: ttl, log: log, held: make(map[*Held]struct{})}
}

// Run extends the held leases until ctx ends. It logs the beginning and the end of an outage of the Manager, and tries again
// at the next tick. Call it once.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.Tick(k.ttl / 3)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		held := k.snapshot()
		if len(held) == 0 {
			continue
		}
		err := k.extend(ctx, held)
		if ctx.Err() != nil {
			return
		}
		k.logOutage(err, len(held))
	}
}

// logOutage logs the beginning and the end of an outage.
func (k *Keeper) logOutage(err error, held int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err != nil && !k.away:
		k.log.Warn("lease.extend_failing", "leases", held, "error", err)
	case err == nil && k.away:
		k.log.Info("lease.extend_recovered", "leases", held, "lost", k.lost)
		k.lost = 0
	}
	k.away = err != nil
}

// Acquire leases those of the hosts that are free. It times out after a quarter of the TTL. After any error nothing is
// held, though the store may keep the hosts leased until the TTL has passed.
func (k *Keeper) Acquire(ctx context.Context, hosts []string) ([]*Held, error) {
	call, cancel := k.limit(ctx)
	defer cancel()
	sent := time.Now()
	leases, err := k.m.Acquire(call, hosts)
	if err != nil {
		return nil, fmt.Errorf("acquire leases: %w", err)
	}
	held := make([]*Held, len(leases))
	for i, lease := range leases {
		held[i] = &Held{Lease: lease, until: trustedUntil(sent, lease)}
		held[i].ctx, held[i].cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	}
	k.add(held)
	return held, nil
}

// Release ends the contexts of the leases at once, and then the leases at the store, even if ctx is done. If the store does
// not answer within a quarter of the TTL it returns an error, and the leases lapse by themselves.
func (k *Keeper) Release(ctx context.Context, held ...*Held) error {
	if len(held) == 0 {
		return nil
	}
	k.mu.Lock()
	k.forget(held, context.Canceled)
	k.mu.Unlock()
	ctx, cancel := k.limit(context.WithoutCancel(ctx))
	defer cancel()
	if err := k.m.Release(ctx, leasesOf(held)); err != nil {
		return fmt.Errorf("release leases: %w", err)
	}
	return nil
}

// Ending says that the holder is about to have the store end a lease, together with something else, or that the store did
// not. Until Forget the lease goes on being extended; while it is ending, its loss is not logged.
func (k *Keeper) Ending(held *Held, ending bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	held.ending = ending
}

// Forget ends the context of a lease that its holder has ended at the store.
func (k *Keeper) Forget(held *Held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget([]*Held{held}, context.Canceled)
}

// Holding returns how many leases are held and trusted now.
func (k *Keeper) Holding() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

// limit bounds a call to the Manager, so that an extension ends before the next is due.
func (k *Keeper) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, k.ttl/4, errSlow)
}

// trustedUntil returns until when a lease is trusted that was granted to a call sent at a time.
func trustedUntil(sent time.Time, l Lease) time.Time { return sent.Add(l.TTL - l.TTL/4) }

func leasesOf(held []*Held) []Lease {
	leases := make([]Lease, len(held))
	for i, h := range held {
		leases[i] = h.Lease
	}
	return leases
}

func (k *Keeper) snapshot() []*Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.held))
}

func (k *Keeper) add(held []*Held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range held {
		k.held[h] = struct{}{}
		k.arm(h.until)
	}
}

// extend makes one Extend call for held. If it fails for some leases only, the others are extended.
func (k *Keeper) extend(ctx context.Context, held []*Held) error {
	ctx, cancel := k.limit(ctx)
	defer cancel()
	sent := time.Now()
	lost, err := k.m.Extend(ctx, leasesOf(held))
	partly, ok := errors.AsType[*ExtendError](err)
	switch {
	case err == nil:
		k.extended(held, sent, lost, nil)
		return nil
	case ok:
		k.extended(held, sent, lost, partly.Leases)
	}
	return fmt.Errorf("extend leases: %w", err)
}

// extended records the answer to an Extend call for held that was sent at a time: some leases were lost, the state of some
// is unknown. It ignores leases that were released or lost meanwhile.
func (k *Keeper) extended(held []*Held, sent time.Time, lost, unknown []Lease) {
	isLost := setOf(lost)
	isUnknown := setOf(unknown)
	k.mu.Lock()
	defer k.mu.Unlock()
	var end []*Held
	for _, h := range held {
		_, ok := k.held[h]
		switch {
		case !ok || isUnknown[h.Lease]:
		case isLost[h.Lease]:
			end = append(end, h)
		default:
			h.until = trustedUntil(sent, h.Lease)
		}
	}
	k.lose(end)
}

func setOf(leases []Lease) map[Lease]bool {
	set := make(map[Lease]bool, len(leases))
	for _, l := range leases {
		set[l] = true
	}
	return set
}

// expire ends the leases that are not trusted any more, and sets the timer for those that are.
func (k *Keeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.due = time.Time{}
	now := time.Now()
	var end []*Held
	for h := range k.held {
		if now.Before(h.until) {
			k.arm(h.until)
		} else {
			end = append(end, h)
		}
	}
	k.lose(end)
}

// arm makes expire run at that time or before. One timer serves all leases: it is not moved when they are extended; expire
// sets it again. k.mu is held.
func (k *Keeper) arm(at time.Time) {
	if !k.due.IsZero() && !at.Before(k.due) {
		return
	}
	k.due = at
	if k.timer == nil {
		k.timer = time.AfterFunc(time.Until(at), k.expire)
		return
	}
	k.timer.Reset(time.Until(at))
}

// lose ends leases that were lost. k.mu is held.
func (k *Keeper) lose(held []*Held) {
	k.forget(held, ErrLost)
	held = slices.DeleteFunc(held, func(h *Held) bool { return h.ending })
	if len(held) == 0 {
		return
	}
	if k.away { // the outage was logged, and logOutage logs their number
		k.lost += len(held)
		return
	}
	k.log.Warn("lease.lost", "leases", len(held), "host", held[0].Host)
}

// forget ends leases with a cause; a lease that has ended keeps its first cause. k.mu is held.
func (k *Keeper) forget(held []*Held, cause error) {
	for _, h := range held {
		delete(k.held, h)
		h.cancel(cause)
	}
}
