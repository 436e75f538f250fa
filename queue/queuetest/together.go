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
	log  map[string][]string // guarded by mu: activities delivered, by host
	once map[string]int      // guarded by mu: how often each delivery was tried
}

// deliverTogether has four nodes deliver 60 activities to ten hosts, some at the second attempt, while they come in.
func deliverTogether(s *suite) {
	f := &fleet{suite: s, locks: lockmgr.NewLocal(time.Minute), log: map[string][]string{}, once: map[string]int{}}
	names := hosts("a", 10)
	const activities, keys = 60, 3
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
			st.Results = append(st.Results, f.attempt(turn.Lease.Host, d))
		}
		if err := f.Settle(context.WithoutCancel(ctx), turn.Lease, st); err != nil {
			return err
		}
		if err := f.locks.Release(ctx, []lockmgr.Lease{turn.Lease}); err != nil { // at once: the lane is offered again
			return err
		}
	}
	return f.locks.Release(ctx, leases) // of lanes that gave nothing
}

// attempt delivers, but for every third delivery only the second time.
func (f *fleet) attempt(host string, d queue.Delivery) queue.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.once[d.ID]++
	if f.once[d.ID] == 1 && len(f.once)%3 == 0 {
		return retry(d, second/100)
	}
	f.log[host] = append(f.log[host], d.Activity.URI)
	return delivered(d)
}

func (f *fleet) check(names []string, each int, ids [][]string) {
	f.t.Helper()
	for _, host := range names {
		next := make([]int, len(ids))
		for _, uri := range f.log[host] {
			var key, i int
			if _, err := fmt.Sscanf(uri, "%d-%d", &key, &i); err != nil {
				f.t.Fatal(err)
			}
			if next[key] != i {
				f.t.Fatalf("%s got %s when number %d was next", host, uri, next[key])
			}
			next[key]++
		}
		for key, n := range next {
			if n != each {
				f.t.Errorf("%s got %d activities of key %d, want %d", host, n, key, each)
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
	names := hosts("a", 200)
	s.enqueue(submission("1", names...))
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[string]int{}
	)
	for range 4 {
		wg.Go(func() {
			for range 15 {
				o, err := s.Due(s.t.Context(), queue.Want{Lanes: 5, Suspect: 5})
				if err != nil {
					s.t.Errorf("Due: %v", err)
					return
				}
				mu.Lock()
				for _, host := range o.Hosts {
					seen[host]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.same("lanes offered", len(names), len(seen))
	for host, n := range seen {
		if n != 1 {
			s.t.Errorf("%s was offered %d times", host, n)
		}
	}
}
