package simulation

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/lockmgr"
)

// leases is the fleet's one lease store. While away is set every call fails, but every second one takes effect.
type leases struct {
	*lockmgr.Local
	mu   sync.Mutex
	away bool             // guarded by mu
	odd  bool             // guarded by mu
	held map[string]grant // guarded by mu
}

type grant struct {
	token uint64
	until time.Time
}

func newLeases(ttl time.Duration) *leases {
	return &leases{Local: lockmgr.NewLocal(ttl), held: map[string]grant{}}
}

// holder returns the token under which a host is held, or 0.
func (l *leases) holder(host string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.held[host]; time.Now().Before(g.until) {
		return g.token
	}
	return 0
}

func (l *leases) fail(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = yes
}

// do makes a call: what it changes is known at once.
func (l *leases) do(call func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.odd = !l.odd; !l.away || l.odd {
		call()
	}
	if l.away {
		return errAway
	}
	return nil
}

// leaseView is the lease store as a node reaches it.
type leaseView struct{ n *node }

func (v leaseView) Acquire(ctx context.Context, hosts []string) (got []lockmgr.Lease, err error) {
	if ctx, err = v.n.call(ctx, "Acquire", hosts[0]); err != nil {
		return nil, err
	}
	l := v.n.w.leases
	err = l.do(func() {
		got, _ = l.Local.Acquire(ctx, hosts)
		for _, x := range got {
			l.held[x.Host] = grant{x.Token, time.Now().Add(x.TTL)}
		}
	})
	if err = v.n.back(err, "Acquire", hosts[0]); err != nil {
		return nil, err
	}
	return got, nil
}

func (v leaseView) Extend(ctx context.Context, ls []lockmgr.Lease) (lost []lockmgr.Lease, err error) {
	if ctx, err = v.n.call(ctx, "Extend", ""); err != nil {
		return nil, err
	}
	l := v.n.w.leases
	err = l.do(func() {
		lost, _ = l.Local.Extend(ctx, ls)
		gone := map[lockmgr.Lease]bool{}
		for _, x := range lost {
			gone[x] = true
		}
		for _, x := range ls {
			if !gone[x] {
				l.held[x.Host] = grant{x.Token, time.Now().Add(x.TTL)}
			}
		}
	})
	return lost, v.n.back(err, "Extend", "")
}

func (v leaseView) Release(ctx context.Context, ls []lockmgr.Lease) (err error) {
	if _, err = v.n.call(ctx, "Release", ls[0].Host); err != nil {
		return err
	}
	l := v.n.w.leases
	return v.n.back(l.do(func() { l.end(ls) }), "Release", ls[0].Host)
}

// Release ends leases for the store, which is never far from them.
func (l *leases) Release(_ context.Context, ls []lockmgr.Lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(ls)
	return nil
}

// end ends leases. l.mu is held.
func (l *leases) end(ls []lockmgr.Lease) {
	_ = l.Local.Release(context.Background(), ls)
	for _, x := range ls {
		if l.held[x.Host].token == x.Token {
			delete(l.held, x.Host)
		}
	}
}
