// Package lockmgr leases hosts to nodes, so that at most one node works on a host at any time.
//
// What callers may rely on: two leases of one host never overlap on the store's clock, and each lease of a host has a
// greater token than all before it, also across expiry, release and restart. So a store that refuses tokens smaller
// than one it has seen (a fence) can't be changed by a holder that lost its lease without knowing.
//
// What callers may not rely on: that receivers are fenced. A POST to an inbox carries no token; a node that was stopped in
// the middle of one may finish it after another node took the host over. The lease limits concurrency and keeps the
// order, the token guards our own state.
//
// Every error of Acquire means "not held". All methods are safe for concurrent use.
package lockmgr

import (
	"context"
	"errors"
	"time"
)

// ErrLost is the cause of a held lease's context once the lease was lost or could not be extended in time.
var ErrLost = errors.New("lease lost")

// Lease is the right to work on a host until TTL after it was acquired or last extended.
type Lease struct {
	Host  string
	Token uint64 // of one host, it only ever rises
	TTL   time.Duration
}

// Manager is the contract of the back-ends.
type Manager interface {
	// Acquire leases those of the hosts that are free, each for TTL; hosts that are held are left out.
	Acquire(ctx context.Context, hosts []string) ([]Lease, error)
	// Extend makes the leases last TTL from now, in one call for all that a node holds, and returns those that were no
	// longer held. An *ExtendError names the leases whose state is unknown; after another error that of all is.
	Extend(ctx context.Context, leases []Lease) (lost []Lease, err error)
	// Release ends the leases. One that is no longer held is left alone.
	Release(ctx context.Context, leases []Lease) error
}

// ExtendError is the error of an Extend that failed for some leases only. The others were extended, or are reported as lost.
type ExtendError struct {
	Leases []Lease // those that it failed for
	Err    error   // why
}

// Error returns the text of Err.
func (e *ExtendError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ExtendError) Unwrap() error { return e.Err }
