// Package delivery takes deliveries from the queue and makes them: the pool of turns, the attempts, what comes of them,
// and the HTTP client that dials strangers.
//
// The pool finds lanes with work, leases their hosts, and works through each in a turn: a pass bounded in deliveries and
// time, in which the host's breaker and window decide how many attempts are in flight. What came of them is settled
// before their slots are given back, together with what was learnt of the host.
//
// What callers may rely on:
//
//   - A slot is held until the result is durable, so a crash repeats at most what was in flight.
//   - Faults of our own (store away, key missing, lease lost, shutdown) are never counted against a host and spend no
//     attempt.
//   - An outage of the store ends no loop: the pool tries again for ever, with a growing pause, and says so once.
//   - Hosts that fail or were never reached hold at most half of the slots.
//
// What callers may not rely on: that a delivery is made once only. A result that could not be settled is lost, and the
// delivery is made again.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/seldom"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// messageSigner is the part of a signer.Signer that attempts need.
type messageSigner interface {
	Sign(ctx context.Context, req *http.Request, p signer.Params) (signer.Scheme, error)
}

// poster is the part of a Client that attempts need.
type poster interface {
	Post(req *http.Request) Answer
}

// Options configure a Pool.
type Options struct {
	Queue   queue.Lanes
	Leases  *lockmgr.Keeper // the pool runs it
	Signer  messageSigner
	Client  poster
	Breaker breaker.Settings
	Policy  *netguard.Policy // for the targets of redirects

	Concurrency     int // attempts in flight
	Schedule        Schedule
	AttemptTimeout  time.Duration
	ShutdownTimeout time.Duration // how long attempts in flight may go on when Run's context ends
	AllowHTTP       bool
	UserAgent       string
	Log             *slog.Logger
	Metrics         *Metrics
}

// Pool makes deliveries.
type Pool struct {
	Options
	slots   *slots
	turns   sync.WaitGroup
	work    context.Context // ends when attempts in flight have to end
	running atomic.Bool
	outage  outage
	seldom  seldom.Gate // for lines that a fault of ours repeats
}

// NewPool returns a pool. It does nothing until Run.
func NewPool(o Options) *Pool {
	return &Pool{Options: o, slots: newSlots(o.Concurrency), outage: outage{log: o.Log}}
}

var (
	errNotRunning = errors.New("the delivery pool is not running")
	errShutdown   = errors.New("shutting down")
)

const (
	maxLanes   = 64                    // leased at once
	firstPause = 50 * time.Millisecond // after an error of the store
	maxPause   = 5 * time.Second       // the pauses grow up to this
	sweepPause = time.Second           // the longest between two sweeps
)

// Run delivers until ctx ends, then lets attempts in flight finish within ShutdownTimeout, cuts off the rest, hands back
// unspent what was not done, and returns.
func (p *Pool) Run(ctx context.Context) {
	// Leases and results have to outlive ctx: they end after the last turn.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	work, cut := context.WithCancelCause(life)
	p.work = work
	var helpers sync.WaitGroup
	helpers.Go(func() { p.Leases.Run(life) })
	helpers.Go(func() { p.sweep(ctx) })
	p.running.Store(true)
	p.schedule(ctx)
	p.running.Store(false)
	timer := time.AfterFunc(p.ShutdownTimeout, func() { cut(errShutdown) })
	p.turns.Wait()
	timer.Stop()
	end()
	helpers.Wait()
}

// Ready says why nothing is delivered just now, or nil.
func (p *Pool) Ready(context.Context) error {
	if !p.running.Load() {
		return errNotRunning
	}
	return p.outage.current()
}

// schedule starts turns while there are lanes with work and slots to work on them.
func (p *Pool) schedule(ctx context.Context) {
	pause, caught := firstPause, false
	for ctx.Err() == nil {
		n, suspects := p.slots.reserve(maxLanes)
		if n == 0 {
			sleep(ctx, queue.MaxIdle, nil, p.slots.freed)
			continue
		}
		begun, left, err := p.start(ctx, n, suspects)
		if err != nil && ctx.Err() == nil {
			if !caught {
				p.outage.enter(err)
			} else {
				p.outage.note(err)
			}
			caught = true
			sleep(ctx, pause, nil, nil)
			pause = min(2*pause, maxPause)
			continue
		}
		if caught {
			p.outage.leave(0)
		}
		caught = false
		if p.outage.well(begun > 0); p.outage.current() == nil {
			pause = firstPause
		}
		freed := p.slots.freed
		if !left.short {
			freed = nil // what became due wakes us
		}
		sleep(ctx, left.next, p.Queue.Wake(), freed)
	}
	if caught {
		p.outage.leave(0)
	}
}

// sleep waits for d, or until one of the channels fires.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}, freed <-chan struct{}) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-wake:
	case <-freed:
	}
	for _, c := range []<-chan struct{}{wake, freed} { // one look serves all
		select {
		case <-c:
		default:
		}
	}
}

// rest is what is left to do once turns have begun.
type rest struct {
	next  time.Duration // how long nothing more is due for which there was a slot
	short bool          // suspects may be due for which there was none
}

// start begins turns on up to n lanes, so many of them suspect, on slots already reserved. It returns how many, and what
// there is left.
func (p *Pool) start(ctx context.Context, n, suspects int) (begun int, left rest, err error) {
	defer func() { p.slots.unreserve(n, suspects) }() // what is left of them
	offer, err := p.Queue.Due(ctx, queue.Want{Lanes: n, Suspect: suspects})
	if err != nil {
		return 0, rest{}, fmt.Errorf("find work: %w", err)
	}
	left = rest{offer.Next, suspects == 0}
	if len(offer.Hosts) == 0 {
		return 0, left, nil
	}
	if len(offer.Hosts) == n {
		left.next = 0 // there may be more
	}
	// From here on every answer is waited for, though the node be told to stop: where a lease or what was taken under it
	// is not heard of, the lane is kept from all others until the lease lapses. The turns look at ctx.
	sure := context.WithoutCancel(ctx)
	held, err := p.Leases.Acquire(sure, offer.Hosts)
	if err != nil {
		return 0, rest{}, err
	}
	byToken := make(map[lockmgr.Lease]*lockmgr.Held, len(held))
	leases := make([]lockmgr.Lease, len(held))
	for i, h := range held {
		leases[i], byToken[h.Lease] = h.Lease, h
	}
	stops := p.Queue.Stops()
	turns, err := p.Queue.Take(sure, leases, takeAtOnce)
	if err != nil {
		return 0, rest{}, fmt.Errorf("take work: %w", joinRelease(err, p.Leases.Release(ctx, held...)))
	}
	for _, qt := range turns {
		t := p.newTurn(byToken[qt.Lease], qt, stops)
		delete(byToken, qt.Lease)
		n--
		begun++
		if t.suspect {
			suspects--
		}
		p.turns.Go(func() { t.run(ctx) })
	}
	for _, h := range held {
		if byToken[h.Lease] == nil {
			continue
		}
		if err := p.Leases.Release(ctx, h); err != nil {
			return begun, rest{}, err
		}
	}
	left.short = suspects <= 0
	return begun, left, nil
}

func joinRelease(err, release error) error {
	if release != nil {
		return fmt.Errorf("%w (and %w)", err, release)
	}
	return err
}

// probe looks whether the store is back when no loop is caught any more that would find out.
func (p *Pool) probe(ctx context.Context) {
	if p.outage.current() == nil {
		return
	}
	if _, err := p.Queue.Due(ctx, queue.Want{}); err != nil {
		p.outage.note(err)
		return
	}
	p.outage.well(false)
}

// sweep cleans up now and then, and looks after an outage that nobody else does.
func (p *Pool) sweep(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		next, err := p.Queue.Sweep(ctx)
		if err != nil {
			next, pause = pause, min(2*pause, maxPause) // schedule tells of outages
		} else {
			pause = firstPause
		}
		p.probe(ctx)
		sleep(ctx, min(max(next, time.Millisecond), sweepPause), nil, nil)
	}
}
