package queuetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var togetherCases = []testCase{
	{name: "several nodes deliver everything once and in order", run: deliverTogether},
	{name: "lanes are offered to one node at a time", run: offeredToOne},
}

// fleet is several nodes that work on one store while activities come in.
type fleet struct {
	*suite
	locks lockmgr.Manager

	mu   sync.Mutex
	log  map[string][]string // guarded by mu: activities delivered, by inbox
	once map[string]int      // guarded by mu: how often each delivery was tried
}

// deliverTogether has four nodes deliver 30 activities to ten hosts of two inboxes, some at the second attempt, while
// they come in.
func deliverTogether(s *suite) {
	f := &fleet{suite: s, locks: lockmgr.NewLocal(time.Minute), log: map[string][]string{}, once: map[string]int{}}
	var names []string
	for _, host := range hosts("a", 10) {
		names = append(names, "https://"+host+"/first", "https://"+host+"/second")
	}
	const activities, keys = 30, 3
	ids := make([][]string, keys)
	ctx, stop := context.WithCancel(s.t.Context())
	var nodes, intake sync.WaitGroup
	for range 4 {
		nodes.Go(func() { f.node(ctx) })
	}
	for key := range keys {
		intake.Go(func() {
			for i := range activities / keys {
				sub := submission(fmt.Sprintf("%d-%02d", key, i), names...)
				sub.OrderingKey = fmt.Sprint(key)
				if _, err := s.Enqueue(ctx, sub); err != nil {
					s.t.Errorf("Enqueue: %v", err)
				}
				ids[key] = append(ids[key], sub.ID)
			}
		})
	}
	intake.Wait()
	f.settled(activities * len(names))
	stop()
	nodes.Wait()
	f.check(names, activities/keys, ids)
}

// settled waits until so many deliveries are.
func (f *fleet) settled(n int) {
	f.t.Helper()
	for range 1200 {
		if f.stats().Delivered == int64(n) {
			return
		}
		time.Sleep(second / 20)
	}
	f.t.Errorf("after a minute only %d of %d deliveries are done", f.stats().Delivered, n)
}

// node works until ctx ends.
func (f *fleet) node(ctx context.Context) {
	for ctx.Err() == nil {
		o, err := f.Due(ctx, queue.Want{Lanes: 3, Suspect: 3})
		if err == nil {
			err = f.work(ctx, o.Hosts)
		}
		if err != nil && ctx.Err() == nil {
			f.t.Errorf("node: %v", err)
			return
		}
		if len(o.Hosts) == 0 {
			time.Sleep(min(o.Next, second/50) + time.Millisecond)
		}
	}
}

// work does a turn on each host.
func (f *fleet) work(ctx context.Context, hosts []string) error {
	leases, err := f.locks.Acquire(ctx, hosts)
	if err != nil {
		return err
	}
	turns, err := f.Take(ctx, leases, 2)
	if err != nil {
		return err
	}
	for _, turn := range turns {
		st := queue.Settlement{Release: true}
		for _, d := range turn.Deliveries {
			st.Results = append(st.Results, f.attempt(d))
		}
		if _, err := f.Settle(context.WithoutCancel(ctx), turn.Lease, st, 0); err != nil {
			return err
		}
		if err := f.locks.Release(ctx, []lockmgr.Lease{turn.Lease}); err != nil { // at once: the lane is offered again
			return err
		}
	}
	return f.locks.Release(ctx, leases) // of lanes that gave nothing
}

// attempt delivers, but for every third delivery only the second time.
func (f *fleet) attempt(d queue.Delivery) queue.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.once[d.ID]++
	if f.once[d.ID] == 1 && len(f.once)%3 == 0 {
		return retry(d, second/100)
	}
	f.log[d.Inbox] = append(f.log[d.Inbox], d.Activity.URI)
	return delivered(d)
}

func (f *fleet) check(names []string, each int, ids [][]string) {
	f.t.Helper()
	for _, inbox := range names {
		next := make([]int, len(ids))
		for _, uri := range f.log[inbox] {
			var key, i int
			if _, err := fmt.Sscanf(uri, "%d-%d", &key, &i); err != nil {
				f.t.Fatal(err)
			}
			if next[key] != i {
				f.t.Fatalf("%s got %s when number %d was next", inbox, uri, next[key])
			}
			next[key]++
		}
		for key, n := range next {
			if n != each {
				f.t.Errorf("%s got %d activities of key %d, want %d", inbox, n, key, each)
			}
		}
	}
	for _, key := range ids {
		for _, id := range key {
			f.counts(id, queue.Counts{Delivered: len(names)})
		}
	}
}

func offeredToOne(s *suite) {
	s.enqueue(submission("1", hosts("a", 200)...))
	s.offeredOnce(200, 4, 5)
}

// offeredOnce has some nodes ask for a few lanes at a time until all were offered. None may be offered again before its
// offer lapses.
func (s *suite) offeredOnce(lanes, nodes, each int) {
	s.t.Helper()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		last = map[string]time.Time{} // guarded by mu: when the call began that was offered a lane
	)
	ask := func() (more bool) {
		began := time.Now()
		o, err := s.Due(s.t.Context(), queue.Want{Lanes: each, Suspect: each})
		if err != nil {
			s.t.Errorf("Due: %v", err)
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		for _, host := range o.Hosts {
			if before, again := last[host]; again && time.Since(before) < queue.OfferTTL {
				s.t.Errorf("%s was offered again within %s", host, time.Since(before))
			}
			last[host] = began
		}
		return len(last) < lanes
	}
	for range nodes {
		wg.Go(func() {
			for n := 0; n < 1000 && ask(); n++ {
				time.Sleep(second / 1000) // while another asks, there may be nothing
			}
		})
	}
	wg.Wait()
	s.same("lanes offered", lanes, len(last))
}
