// Package delivery takes deliveries from the queue and makes them: the pool of turns, the attempts, their results, and
// the HTTP client that dials strangers.
//
// The pool finds lanes with work, leases their hosts, and works through each in a turn: a pass bounded in deliveries
// and time, in which the host's breaker and window decide how many attempts are in flight. Their results are settled
// before their slots are given back, together with the host's record.
//
// What callers may rely on:
//
//   - A slot is held until the result is durable, so a crash repeats at most what was in flight.
//   - Faults of our own (store away, key missing, lease lost, shutdown) are never counted against a host and spend no
//     attempt.
//   - An outage of the store ends no loop: the pool tries again without end, with a growing pause, and logs it once.
//   - While the node's name servers are away, it takes only hosts that are addresses, and leaves the others to other nodes.
//   - Hosts that fail, are slow or were never reached hold at most half of the slots, and those of one registered domain
//     or at one address an eighth (or what one host may, if that is more).
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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/internal/telemetry"
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
	Names   nameServers      // that the client looks names up by, and the pool runs; nil means that they are never away

	Concurrency     int // attempts in flight
	Schedule        Schedule
	AttemptTimeout  time.Duration
	ShutdownTimeout time.Duration // how long attempts in flight may go on when Run's context ends
	AllowHTTP       bool
	UserAgent       string
	Log             *slog.Logger
	Metrics         *Metrics
	Tracer          trace.Tracer // makes a span for each attempt; nil makes none, at no cost
}

// Pool makes deliveries.
type Pool struct {
	Options
	slots      *slots
	turns      sync.WaitGroup
	work       context.Context // ends when attempts in flight have to end
	running    atomic.Bool
	outage     outage
	logSampler telemetry.Sampler // for lines that a fault of ours repeats
	// panicked are deliveries with an attempt that panicked.
	panicked *hostSet
	// addresses are the groups of the addresses that hosts were last reached or dialled at.
	addresses *hostSet
}

// NewPool returns a pool. It does nothing until Run.
func NewPool(o Options) *Pool {
	if o.Names == nil {
		o.Names = (*resolver.Resolver)(nil)
	}
	return &Pool{
		Options: o, slots: newSlots(o.Concurrency, o.Breaker.Window), outage: outage{log: o.Log},
		panicked: newHostSet(maxPanicked, 2*panicPause), addresses: newHostSet(maxAddressed, addressedLast),
	}
}

var (
	// ErrNotRunning is returned by Ready before and after Run.
	ErrNotRunning = errors.New("the delivery pool is not running")
	errShutdown   = errors.New("shutting down")
)

const (
	maxLanes   = 64                    // leased at once
	firstPause = 50 * time.Millisecond // after an error of the store
	maxPause   = 5 * time.Second       // the pauses grow up to this
	sweepPause = time.Second           // the longest between two sweeps

	maxPanicked = 4096 // deliveries remembered that panicked
	// cutOffPause is how long turns may take to end once their attempts were cut off, before they are left behind.
	cutOffPause = 5 * time.Second
)

// Run delivers until ctx ends, then lets attempts in flight finish within ShutdownTimeout, cuts off the rest, hands
// back the other deliveries unspent, and returns. It waits for attempts that it cut off within a bound.
func (p *Pool) Run(ctx context.Context) {
	// Leases and results have to outlive ctx: they end after the last turn.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	work, cut := context.WithCancelCause(life)
	p.work = work
	var helpers sync.WaitGroup
	helpers.Go(func() { p.Leases.Run(life) })
	helpers.Go(func() { p.sweep(ctx) })
	helpers.Go(func() { p.Names.Run(ctx) })
	p.running.Store(true)
	p.schedule(ctx)
	p.running.Store(false)
	p.finish(cut)
	end()
	helpers.Wait()
}

// finish waits for the turns, cuts their attempts off after ShutdownTimeout, and then waits for at most
// cutOffPause more.
func (p *Pool) finish(cut context.CancelCauseFunc) {
	ended := make(chan struct{})
	go func() {
		p.turns.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-time.After(p.ShutdownTimeout):
	}
	cut(errShutdown)
	select {
	case <-ended:
	case <-time.After(cutOffPause):
		slots, _ := p.slots.inUse()
		p.Log.Error("pool.left_behind", "slots", slots)
	}
}

// Ready returns why nothing is delivered just now, or nil.
func (p *Pool) Ready(context.Context) error {
	if !p.running.Load() {
		return ErrNotRunning
	}
	return errors.Join(p.outage.current(), p.Names.Away())
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
			p.outage.note(err, !caught)
			caught = true
			sleep(ctx, pause, nil, nil)
			pause = min(2*pause, maxPause)
			continue
		}
		if caught {
			p.outage.leave(0)
			caught = false
		}
		if p.outage.succeeded(begun > 0); p.outage.current() == nil {
			pause = firstPause
		}
		if left.nameless {
			sleep(ctx, namelessPause, nil, nil)
			continue
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
	select {
	case <-ctx.Done():
	case <-time.After(d):
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
	next     time.Duration // how long nothing more is due for which there was a slot
	more     bool          // as many hosts were due as there were slots for
	short    bool          // suspects may be due for which there was none
	nameless bool          // hosts are due that can't be looked up now
}

// start begins turns on up to n lanes, at most suspects of them suspect, on slots already reserved. It returns how
// many, and what is left to do.
func (p *Pool) start(ctx context.Context, n, suspects int) (begun int, left rest, err error) {
	defer p.slots.unreserve()
	offer, err := p.Queue.Due(ctx, queue.Want{Lanes: n, Suspect: suspects, Choosy: p.Names.Away() != nil})
	if err != nil {
		return 0, rest{}, fmt.Errorf("find work: %w", err)
	}
	hosts := p.workable(offer.Hosts)
	left = rest{
		next: offer.Next, more: len(offer.Hosts) == n, short: suspects <= len(offer.Suspects),
		nameless: len(hosts) < len(offer.Hosts),
	}
	if left.more && len(hosts) > 0 {
		left.next = 0 // there may be more
	}
	admitted, claims := p.admit(hosts, offer.Suspects)
	defer func() {
		for _, unused := range claims {
			p.slots.drop(unused, unused.n)
		}
	}()
	if len(admitted) < len(hosts) {
		left.next = 0 // those passed over are not offered again for a while: others may be behind them
	}
	if len(admitted) == 0 {
		return 0, left, nil
	}
	// From here on every answer is waited for, also if the node stops: if the answer to Acquire or Take is lost, the
	// lane is kept from all other nodes until the lease lapses. The turns check ctx.
	detached := context.WithoutCancel(ctx)
	held, err := p.Leases.Acquire(detached, admitted)
	if err != nil {
		return 0, rest{}, err
	}
	byToken := make(map[lockmgr.Lease]*lockmgr.Held, len(held))
	leases := make([]lockmgr.Lease, len(held))
	for i, h := range held {
		leases[i], byToken[h.Lease] = h.Lease, h
	}
	turns, err := p.Queue.Take(detached, leases, 1)
	if err != nil {
		return 0, rest{}, errors.Join(fmt.Errorf("take work: %w", err), p.Leases.Release(ctx, held...))
	}
	for _, qt := range turns {
		h := byToken[qt.Lease]
		t := p.newTurn(h, qt, claims[h.Host])
		delete(byToken, qt.Lease)
		delete(claims, h.Host)
		begun++
		p.turns.Go(func() { t.run(ctx, qt.Deliveries) })
	}
	for _, h := range held {
		if byToken[h.Lease] == nil {
			continue
		}
		if err := p.Leases.Release(ctx, h); err != nil {
			return begun, rest{}, err
		}
	}
	return begun, left, nil
}

// admit claims a slot for each host, once, but the suspects for which their groups have no room. It returns the hosts that may
// have a turn, and what each of them holds. A slow store may offer a host again in the same answer.
func (p *Pool) admit(hosts, suspects []string) (admitted []string, claims map[string]*share) {
	claims = make(map[string]*share, len(hosts))
	for _, host := range hosts {
		if claims[host] != nil {
			continue
		}
		if sh := p.slots.claim(host, slices.Contains(suspects, host), p.groupsOf(host)); sh != nil {
			claims[host] = sh
			admitted = append(admitted, host)
		}
	}
	return admitted, claims
}

// probe checks whether the store is back when no loop is caught any more that would notice.
func (p *Pool) probe(ctx context.Context) {
	if p.outage.current() == nil {
		return
	}
	if _, err := p.Queue.Due(ctx, queue.Want{}); err != nil {
		p.outage.note(err, false)
		return
	}
	p.outage.succeeded(false)
}

// sweep cleans up now and then, and probes the store in an outage that no other loop notices the end of.
func (p *Pool) sweep(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		next, err := p.Queue.Sweep(ctx)
		if err != nil {
			next, pause = pause, min(2*pause, maxPause) // schedule logs outages
		} else {
			pause = firstPause
		}
		p.probe(ctx)
		sleep(ctx, min(max(next, time.Millisecond), sweepPause), nil, nil)
	}
}
