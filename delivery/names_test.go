package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/queue"
)

// namesAway are name servers that are away or not as a test says.
type namesAway struct {
	away      atomic.Bool
	suggested atomic.Pointer[[]string]
}

var errNames = fmt.Errorf("%w: they are silent", resolver.ErrAway)

// Run implements nameServers.
func (n *namesAway) Run(ctx context.Context) { <-ctx.Done() }

// Away implements nameServers.
func (n *namesAway) Away() error {
	if n.away.Load() {
		return errNames
	}
	return nil
}

// Suggest implements nameServers.
func (n *namesAway) Suggest(hosts []string) { n.suggested.Store(&hosts) }

// unharmed holds that a host has nothing against it, and that a number of deliveries wait for it.
func (r *rig) unharmed(host string, pending int) {
	r.t.Helper()
	h := r.host(host)
	if h.State != queue.HostHealthy || h.Record.Breaker.Failures != 0 || h.Record.LastError != nil || h.Pending != pending {
		r.t.Errorf("%s: %s with %d pending, %+v; want it healthy with %d", host, h.State, h.Pending, h.Record, pending)
	}
}

// wanting notes whether the pool was choosy when it last asked for lanes.
type wanting struct {
	queue.Lanes
	choosy atomic.Bool
}

// Due implements queue.Lanes.
func (a *wanting) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	a.choosy.Store(want.Choosy)
	return a.Lanes.Due(ctx, want)
}

// While the node's name servers are away it takes no host that has to be looked up, says so, and goes on by itself.
func TestNoWorkWhileNameServersAreAway(t *testing.T) {
	t.Parallel()
	names := &namesAway{}
	lanes := &wanting{}
	pooled(t, func(*http.Request) Answer { return Answer{Status: 202} }, func(o *Options) {
		o.Names = names
		lanes.Lanes = o.Queue
		o.Queue = lanes
	}, func(r *rig) {
		names.away.Store(true)
		const named, address, six = "one.example:8443", "192.0.2.1", "[2001:db8::1]:8443"
		waits := r.submit("https://app.example/1", "1", queue.Normal, day, named)
		goes := r.submit("https://app.example/2", "2", queue.Normal, day, address, six)
		time.Sleep(time.Hour)
		if c := r.counts(goes); c.Delivered != 2 {
			t.Errorf("to addresses: %+v", c)
		}
		if len(r.to(named)) > 0 || r.delivery(waits).Attempts != 0 {
			t.Errorf("to a name: %+v", r.delivery(waits))
		}
		r.unharmed(named, 1)
		if err := r.pool.Ready(t.Context()); !errors.Is(err, resolver.ErrAway) {
			t.Errorf("ready: %v", err)
		}
		if !lanes.choosy.Load() {
			t.Error("other nodes are not to look for what it passes over")
		}
		if next := names.suggested.Load(); next == nil || !slices.Equal(*next, []string{"one.example"}) {
			t.Errorf("suggested %v", next)
		}
		names.away.Store(false)
		time.Sleep(2 * namelessPause)
		if c := r.counts(waits); c.Delivered != 1 || r.pool.Ready(t.Context()) != nil {
			t.Errorf("when they are back: %+v, ready: %v", c, r.pool.Ready(t.Context()))
		}
		if lanes.choosy.Load() {
			t.Error("it takes everything again, and says that it does not")
		}
	})
}

// Attempts that fail for want of a name server cost nothing, however many they are, and end the turn.
func TestNameServersGoAwayDuringATurn(t *testing.T) {
	t.Parallel()
	names := &namesAway{}
	const host, many = "one.example", 40
	pooled(t, func(*http.Request) Answer {
		if names.away.Load() {
			return Answer{Err: fmt.Errorf("dial: %w", errNames)}
		}
		return Answer{Status: 202}
	}, func(o *Options) { o.Names = names }, func(r *rig) {
		r.submit("https://app.example/first", "first", queue.Normal, day, host)
		time.Sleep(time.Minute)
		before := len(r.to(host))
		names.away.Store(true)
		time.AfterFunc(3*time.Hour, func() { names.away.Store(false) })
		r.backlog(many, host)
		time.Sleep(2 * time.Hour)
		if n := len(r.to(host)) - before; n != 0 {
			t.Errorf("%d requests while no name can be looked up", n)
		}
		r.unharmed(host, many)
		time.Sleep(2 * time.Hour)
		r.unharmed(host, 0)
		if n := len(r.to(host)) - before; n != many {
			t.Errorf("%d requests, want %d", n, many)
		}
	})
}

// The name servers go away with attempts in flight.
func TestAttemptsInFlightWhenNameServersGoAway(t *testing.T) {
	t.Parallel()
	names := &namesAway{}
	const host, many = "one.example", 40
	pooled(t, func(req *http.Request) Answer {
		lasting(req, 10*time.Second)
		if names.away.Load() {
			return Answer{Err: fmt.Errorf("dial: %w", errNames), TimedOut: true}
		}
		return Answer{Status: 202}
	}, func(o *Options) { o.Names, o.Schedule.MaxAttempts = names, 1 }, func(r *rig) {
		time.AfterFunc(25*time.Second, func() { names.away.Store(true) })
		time.AfterFunc(time.Hour, func() { names.away.Store(false) })
		r.backlog(many, host)
		time.Sleep(30 * time.Minute)
		tried := len(r.to(host))
		if tried == 0 || tried >= many {
			t.Fatalf("%d requests before they went away", tried)
		}
		h := r.host(host)
		if h.State != queue.HostHealthy || h.Record.Breaker.Failures != 0 || h.Record.LastError != nil {
			t.Errorf("meanwhile: %s, %+v", h.State, h.Record)
		}
		time.Sleep(time.Hour)
		r.unharmed(host, 0)
		if letters, err := r.store.DeadLetters(r.t.Context(), queue.DeadLetterFilter{}, queue.Page{Limit: 10}); err != nil || len(letters.Items) > 0 {
			t.Errorf("attempts were spent: %+v, %v", letters.Items, err)
		}
	})
}
