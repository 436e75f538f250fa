package delivery

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
)

// The deliveries of a turn begin soon after a slot gets free, though the turn's own attempts go on for long.
func TestATurnThatFoundNoSlotLooksAgain(t *testing.T) {
	t.Parallel()
	lasts := map[string]time.Duration{"short": 5 * time.Second, "long": 20 * time.Second}
	pooled(t, func(req *http.Request) Answer {
		lasting(req, lasts[path.Base(bodyOf(req))])
		return Answer{Status: 202}
	}, func(o *Options) { o.Concurrency = 2 }, func(r *rig) {
		const busy, other = "busy.example", "other.example"
		r.backlog(10, busy) // opens the windows
		r.backlog(10, other)
		time.Sleep(time.Second)
		r.submit("https://app.example/short", "short", queue.Normal, day, other)
		r.submit("https://app.example/long", "long", queue.Normal, day, busy)
		time.Sleep(time.Second)
		waits := r.submit("https://app.example/waits", "waits", queue.Normal, day, busy)
		time.Sleep(2 * time.Second)
		if c := r.counts(waits); c.Pending != 1 {
			t.Errorf("while there is no slot: %+v, want pending", c)
		}
		time.Sleep(5 * time.Second)
		if c := r.counts(waits); c.Delivered != 1 {
			t.Errorf("once there is a slot: %+v, want delivered", c)
		}
	})
}

// quiet counts how often it is asked for work, and wakes only when the test says so.
type quiet struct {
	queue.Queue
	wake chan struct{}
	dues atomic.Int64
}

func (q *quiet) Wake() <-chan struct{} { return q.wake }

func (q *quiet) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	q.dues.Add(1)
	return q.Queue.Due(ctx, want)
}

// The pool looks for work when a slot comes free only if there may be some that had no slot.
func TestALookWhenASlotComesFree(t *testing.T) {
	t.Parallel()
	for _, c := range []looked{
		{name: "slots for all", hosts: 10, concurrency: 64, within: 11 * time.Second, looks: 4},
		{name: "more lanes than are offered at once", hosts: 100, concurrency: 512, known: true, quick: true, within: 100 * time.Millisecond, looks: 6},
		{name: "few slots", hosts: 10, concurrency: 2, known: true, within: 40 * time.Second, looks: 100},
		{name: "few slots for suspects", hosts: 10, concurrency: 8, within: 30 * time.Second, looks: 100},
	} {
		t.Run(c.name, c.run)
	}
}

// looked is a case of how often it is looked for work.
type looked struct {
	name        string
	hosts       int // with one delivery each
	concurrency int
	known       bool          // they answered before
	quick       bool          // they answer at once
	within      time.Duration // all is delivered
	looks       int64         // at most
}

func (c looked) run(t *testing.T) {
	var store *quiet
	var lasts atomic.Int64
	pooled(t, func(req *http.Request) Answer {
		lasting(req, time.Duration(req.URL.Host[0]-'0'+1)*time.Duration(lasts.Load()))
		return Answer{Status: 202}
	}, func(o *Options) {
		o.Concurrency = c.concurrency
		store = &quiet{Queue: o.Queue.(queue.Queue), wake: make(chan struct{}, 1)}
		o.Queue = store
	}, func(r *rig) {
		hosts := make([]string, c.hosts)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("%d-%d.example", i%10, i)
		}
		if c.known {
			r.submit("https://app.example/first", "first", queue.Normal, day, hosts...)
			store.wake <- struct{}{}
		}
		time.Sleep(time.Hour)
		if !c.quick {
			lasts.Store(int64(time.Second))
		}
		store.dues.Store(0)
		id := r.submit("https://app.example/1", "1", queue.Normal, day, hosts...)
		store.wake <- struct{}{}
		time.Sleep(c.within)
		if got := r.counts(id); got.Delivered != c.hosts {
			t.Errorf("after %s counts are %+v, want all delivered", c.within, got)
		}
		if n := store.dues.Load(); n > c.looks {
			t.Errorf("it looked %d times, want at most %d", n, c.looks)
		}
	})
}
