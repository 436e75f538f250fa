// Package queuetest is the contract of package queue as tests, to be run against every back-end, and a wrapper that
// makes a back-end fail on demand.
//
// Every promise in the doc comments of queue has a case, but for those of queue.Moving, which RunMove checks for two
// back-ends. Cases let time pass with time.Sleep, so a back-end without
// sockets should have each of them wrapped in a synctest bubble. On the real clock a case takes a few seconds at
// most, but for that of dead letters' retention, which takes as long as the back-end is late with it. Cases run in
// parallel, each with stores of its own, so the functions of a Backend must be safe for concurrent use.
package queuetest

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Backend is a back-end under test.
type Backend struct {
	// Open makes a new, empty store. It sees to it by t.Cleanup that the store is closed, whether the case closed it
	// already or not.
	Open func(t *testing.T, o Options) queue.Queue
	// Reopen closes a store and opens it again with all it holds, as a restart does.
	Reopen func(t *testing.T, q queue.Queue) queue.Queue
	// Leases gives leases that the store knows to end, for longer than a case lasts.
	Leases func(q queue.Queue) lockmgr.Manager
	// Wrap runs a case, for example synctest.Test; nil just calls it.
	Wrap func(t *testing.T, f func(t *testing.T))
	// Shared says that a store may have several nodes: what one took stays taken until its lease ends, also if it
	// restarts.
	Shared bool
	// Ahead is how far the store's clock is ahead of ours.
	Ahead time.Duration
	// Pass lets time pass in which nothing happens to any host, or makes the store believe so.
	Pass func(t *testing.T, q queue.Queue, d time.Duration)
	// Jump makes the wall clock jump that a store, which may be closed, goes by. Only RunClock needs it.
	Jump func(q queue.Queue, by time.Duration)
	// Days says that time costs nothing under Wrap, so that cases that sleep for days run too.
	Days bool
	// Only names the groups of cases that run, for a back-end that differs little from another; none means all.
	Only []string
	// Small leaves out cases of very many deliveries, likewise.
	Small bool
}

// Options are what a case needs of a store. Zero fields leave it to the back-end.
type Options struct{ queue.Limits }

// testCase is one promise.
type testCase struct {
	name  string
	run   func(s *suite)
	opts  Options
	days  bool // sleeps for days
	alone bool // holds where only one node uses a store
	large bool // of so many deliveries or hosts that it takes seconds where each step is a call of a server
}

func limits(l queue.Limits) Options { return Options{Limits: l} }

// Run checks every promise of package queue on the back-end.
func Run(t *testing.T, b Backend) {
	if b.Wrap == nil {
		b.Wrap = func(t *testing.T, f func(t *testing.T)) { f(t) }
	}
	groups := []struct {
		name  string
		cases []testCase
	}{
		{"Enqueue", intakeCases},
		{"Due", dueCases},
		{"Take", takeCases},
		{"Order", orderCases},
		{"Settle", settleCases},
		{"Next", nextCases},
		{"Host", hostCases},
		{"Health", healthCases},
		{"Act", actCases},
		{"Orders", ordersCases},
		{"Seen", seenCases},
		{"Sweep", sweepCases},
		{"Forget", forgetCases},
		{"Unavailable", unavailableCases},
		{"LaneCap", capCases},
		{"Repeats", repeatCases},
		{"Bodies", bodyCases},
		{"Refers", referCases},
		{"Tombstones", tombstoneCases},
		{"Retry", retryCases},
		{"RetryOrder", retryOrderCases},
		{"Delete", deleteCases},
		{"Events", eventCases},
		{"Feed", feedCases},
		{"Actions", actionCases},
		{"History", historyCases},
		{"Search", searchCases},
		{"CancelMany", cancelManyCases},
		{"Minutes", minuteCases},
		{"Watching", watchingCases},
		{"Lists", listCases},
		{"HostDeliveries", hostDeliveryCases},
		{"Keys", keyCases},
		{"KeyUse", keyUseCases},
		{"Nodes", nodeCases},
		{"Restart", restartCases},
		{"Together", togetherCases},
	}
	for _, g := range groups {
		if len(b.Only) > 0 && !slices.Contains(b.Only, g.name) {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range g.cases {
				if c.days && !b.Days || c.alone && b.Shared || c.large && b.Small {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel() // most of it is waiting, where time is real
					runCase(t, b, c)
				})
			}
		})
	}
}

func runCase(t *testing.T, b Backend, c testCase) {
	b.Wrap(t, func(t *testing.T) {
		c.run(&suite{t: t, b: b, began: time.Now(), Queue: b.Open(t, c.opts)})
	})
}
