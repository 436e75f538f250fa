package lockmgr

import (
	"context"
	"maps"
	"sync"
	"time"
)

// Local is the Manager of a fleet of one: its leases live in the memory of this process.
//
// All hosts share one rising counter, so a released host uses no memory. The counter starts at the microseconds since 1970,
// which makes tokens rise across restarts too, as long as the machine's clock isn't set back and fewer than a million
// leases a second are granted. Its methods never block and never fail.
type Local struct {
	ttl time.Duration

	mu    sync.Mutex
	token uint64           // guarded by mu: the last one granted
	held  map[string]grant // guarded by mu: by host; lapsed ones stay until the next sweep
	swept time.Time        // guarded by mu
}

// grant is what a Local remembers of a lease.
type grant struct {
	token uint64
	until time.Time
}

var _ Manager = (*Local)(nil)

// NewLocal returns a Local whose leases last ttl.
func NewLocal(ttl time.Duration) *Local {
	now := time.Now()
	return &Local{ttl: ttl, token: uint64(now.UnixMicro()), held: map[string]grant{}, swept: now}
}

// Acquire implements Manager.
func (l *Local) Acquire(_ context.Context, hosts []string) ([]Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.sweep(now)
	var leases []Lease
	for _, host := range hosts {
		if now.Before(l.held[host].until) {
			continue
		}
		l.token++
		l.held[host] = grant{l.token, now.Add(l.ttl)}
		leases = append(leases, Lease{Host: host, Token: l.token, TTL: l.ttl})
	}
	return leases, nil
}

// Extend implements Manager.
func (l *Local) Extend(_ context.Context, leases []Lease) (lost []Lease, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, lease := range leases {
		g := l.held[lease.Host]
		if g.token != lease.Token || !now.Before(g.until) {
			lost = append(lost, lease)
			continue
		}
		l.held[lease.Host] = grant{g.token, now.Add(l.ttl)}
	}
	return lost, nil
}

// Release implements Manager.
func (l *Local) Release(_ context.Context, leases []Lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lease := range leases {
		if l.held[lease.Host].token == lease.Token {
			delete(l.held, lease.Host)
		}
	}
	return nil
}

// sweep forgets the leases that lapsed without being released. It does so once a TTL at most, to be cheap.
func (l *Local) sweep(now time.Time) {
	if now.Sub(l.swept) < l.ttl {
		return
	}
	l.swept = now
	maps.DeleteFunc(l.held, func(_ string, g grant) bool { return !now.Before(g.until) })
}
