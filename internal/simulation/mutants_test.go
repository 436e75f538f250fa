//go:build !race

package simulation

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// mutant is an engine that breaks a promise. The checker's error must contain a text.
type mutant struct {
	mutation
	noticed string
}

func mutants() map[string]mutant {
	return map[string]mutant{
		"drops a settlement": {settling(every(40, func(s *queue.Settlement) bool { return false })), "was not settled"},
		"ignores tokens":     {mutation{store: tokenless}, "was accepted after"},
		"ignores Retry-After": {mutation{client: func(_ *world, p poster) poster {
			return answering(func(r *http.Request) delivery.Answer {
				a := p.Post(r)
				a.RetryAfter = ""
				return a
			})
		}}, "settled by verdict"},
		"heals by being seen": {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return healer{q} }}, "its record is"},
		"spends attempts on probes": {settling(func(s *queue.Settlement) bool {
			for i := range s.Results {
				if r := &s.Results[i]; r.Verdict == queue.Defer && r.Attempt != nil && r.After == 0 && r.Attempt.Status != 429 {
					r.Verdict = queue.Retry
					r.Spent = true
					r.After = time.Hour
					r.HostFailed = true
				}
			}
			return true
		}), "must have spent"},
		"forgets the order": {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return disordered{q} }}, "overtakes"},
		"starves low":       {mutation{lanes: func(_ *world, q queue.Lanes) queue.Lanes { return starver{onlyTakes{q}} }}, "died as expired"},
		"blames hosts for its own faults": {mutation{lanes: func(_ *world, q queue.Lanes) queue.Lanes {
			return &blamer{Lanes: q, known: map[string]queue.HostRecord{}}
		}}, "its record is"},
		"keeps counting failures after a success": {mutation{lanes: func(_ *world, q queue.Lanes) queue.Lanes {
			return &grudge{Lanes: q, failures: map[string]int{}}
		}}, "its record is"},
		"loses what a dead node had": {mutation{died: loser}, "are lost"},
		"does not wait":              {settling(func(s *queue.Settlement) bool { s.Wait = min(s.Wait, 0); return true }), "although it waits"},
		"never opens a breaker": {settling(func(s *queue.Settlement) bool {
			if s.Host != nil {
				s.Host.Breaker.State = breaker.Closed
			}
			return true
		}), "its record is"},
		"makes no host unavailable": {settling(func(s *queue.Settlement) bool {
			if s.Host != nil {
				s.Host.Unavailable = false
			}
			return true
		}), "its record is"},
		"holds no leases":            {mutation{leases: func(_ *world, m lockmgr.Manager) lockmgr.Manager { return loose{m} }}, "without its lease"},
		"lets suspects take all":     {mutation{lanes: func(_ *world, q queue.Lanes) queue.Lanes { return greedy{q} }}, "to suspect hosts"},
		"forgets idempotency keys":   {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return &forgetful{Queue: q} }}, "not known again"},
		"loses a recipient":          {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return careless{q} }}, "accepted"},
		"pauses nothing":             {ignoring(queue.Pause), "although it is paused"},
		"never ends a pause":         {ignoring(queue.Resume), "asked to resume"},
		"ignores a probe":            {ignoring(queue.Probe), "asked to probe"},
		"blocks what comes only":     {ignoring(queue.Block), "though it was blocked"},
		"lets turns undo a reset":    {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return stubborn{q} }}, "its record is"},
		"cancels nothing":            {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return cancelIgnorer{q} }}, "though it was cancelled"},
		"loses what is retried":      {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return retryLoser{q} }}, "though it was retried"},
		"delivers what is done":      {settling(every(30, repeat)), "settled by verdict"},
		"buries what could be tried": {settling(every(30, bury)), "settled by verdict"},
	}
}

// rare are mutants that few worlds notice, with a seed of one that does. It is tried first.
var rare = map[string]uint64{
	"ignores a probe": 4, "lets turns undo a reset": 7, "probes by one inbox only": 6, "retries what was deleted": 4,
	"undoes no Delete that is only named": 6,
}

// TestMutants checks the checker: it must notice each mutant, by the right check.
func TestMutants(t *testing.T) {
	if *seedFlag != 0 {
		return
	}
	all := mutants()
	maps.Copy(all, mutantsOfChains())
	maps.Copy(all, mutantsOfFeed())
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := all[name]
			var said []string
			const seeds = 60
			for i := range uint64(seeds) {
				seed := (max(rare[name], 1)+i-1)%seeds + 1
				c := small(seed)
				c.mutation, c.until = &m.mutation, m.noticed
				said = simulate(t, c).violations
				if i := slices.IndexFunc(said, func(v string) bool { return strings.Contains(v, m.noticed) }); i >= 0 {
					t.Logf("noticed with seed %d: %s", seed, said[i])
					return
				}
			}
			t.Errorf("not noticed: no violation says %q, only %q", m.noticed, said)
		})
	}
}

// settling is a pool that changes its settlements, or drops those for which change returns false.
func settling(change func(*queue.Settlement) bool) mutation {
	return mutation{lanes: func(_ *world, q queue.Lanes) queue.Lanes { return settler{q, change} }}
}

type settler struct {
	queue.Lanes
	change func(*queue.Settlement) bool
}

func (m settler) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	s.Results = slices.Clone(s.Results)
	if s.Host != nil {
		h := *s.Host
		s.Host = &h
	}
	if !m.change(&s) {
		return nil, nil
	}
	return m.Lanes.Settle(ctx, l, s, n)
}

// every lets a change befall every nth settlement with results.
func every(n int, change func(*queue.Settlement) bool) func(*queue.Settlement) bool {
	var mu sync.Mutex
	count := 0
	return func(s *queue.Settlement) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(s.Results) == 0 {
			return true
		}
		count++
		return count%n != 0 || change(s)
	}
}

func repeat(s *queue.Settlement) bool {
	for i := range s.Results {
		if s.Results[i].Verdict == queue.Delivered {
			s.Results[i] = queue.Result{ID: s.Results[i].ID, Verdict: queue.Retry, After: time.Minute}
		}
	}
	return true
}

func bury(s *queue.Settlement) bool {
	for i := range s.Results {
		if s.Results[i].Verdict == queue.Retry {
			s.Results[i] = queue.Result{ID: s.Results[i].ID, Verdict: queue.Dead, Reason: queue.ReasonRejected, Spent: true}
		}
	}
	return true
}

// tokenless is a store that takes every settlement for the current holder's.
func tokenless(_ *world, q queue.Queue) queue.Queue {
	return &unfenced{Queue: q, token: map[string]uint64{}}
}

type unfenced struct {
	queue.Queue
	mu    sync.Mutex
	token map[string]uint64 // guarded by mu: the latest by host
}

func (m *unfenced) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	m.mu.Lock()
	for _, l := range leases {
		m.token[l.Host] = max(m.token[l.Host], l.Token)
	}
	m.mu.Unlock()
	return m.Queue.Take(ctx, leases, n)
}

func (m *unfenced) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	m.mu.Lock()
	l.Token = m.token[l.Host]
	m.mu.Unlock()
	return m.Queue.Settle(ctx, l, s, n)
}

type answering func(*http.Request) delivery.Answer

func (f answering) Post(r *http.Request) delivery.Answer { return f(r) }

type healer struct{ queue.Queue }

func (m healer) Act(ctx context.Context, host string, a queue.HostAction, order queue.Order) (queue.HostStatus, error) {
	if a == queue.Seen {
		a = queue.Reset
	}
	return m.Queue.Act(ctx, host, a, order)
}

type disordered struct{ queue.Queue }

func (m disordered) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	other := *s
	other.OrderingKey = s.URI
	return m.Queue.Enqueue(ctx, &other)
}

// onlyTakes is a store that gives deliveries by Take only.
type onlyTakes struct{ queue.Lanes }

func (m onlyTakes) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, _ int) ([]queue.Delivery, error) {
	return m.Lanes.Settle(ctx, l, s, 0)
}

// starver puts off what is of low priority.
type starver struct{ queue.Lanes }

func (m starver) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := m.Lanes.Take(ctx, leases, n)
	for i := range turns {
		t := &turns[i]
		var rest []queue.Delivery
		for _, d := range t.Deliveries {
			if d.Activity.Priority != queue.Low || t.Host.Probed() {
				rest = append(rest, d)
				continue
			}
			put := queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Defer, After: 6 * time.Hour}}}
			if _, err := m.Lanes.Settle(ctx, t.Lease, put, 0); err != nil {
				return nil, err
			}
		}
		t.Deliveries = rest
	}
	return turns, err
}

// grudge remembers failures longer than it should.
type grudge struct {
	queue.Lanes
	mu       sync.Mutex
	failures map[string]int // guarded by mu
}

func (m *grudge) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	if s.Host != nil && len(s.Results) > 0 {
		h := *s.Host
		m.mu.Lock()
		if h.Breaker.Failures == 0 {
			h.Breaker.Failures = m.failures[l.Host]
		}
		m.failures[l.Host] = h.Breaker.Failures
		m.mu.Unlock()
		s.Host = &h
	}
	return m.Lanes.Settle(ctx, l, s, n)
}

// blamer counts faults as failures of the host.
type blamer struct {
	queue.Lanes
	mu    sync.Mutex
	known map[string]queue.HostRecord // guarded by mu
}

func (m *blamer) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := m.Lanes.Take(ctx, leases, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range turns {
		m.known[turns[i].Lease.Host] = turns[i].Host
	}
	return turns, err
}

func (m *blamer) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	m.mu.Lock()
	h := m.known[l.Host]
	if s.Host != nil {
		h = *s.Host
	}
	for _, r := range s.Results {
		if r.Attempt != nil && r.Attempt.Outcome == string(delivery.OutcomeFault) {
			h.Breaker.Failures++
			h.Breaker.Failed = true
			s.Host = &h
		}
	}
	m.known[l.Host] = h
	m.mu.Unlock()
	return m.Lanes.Settle(ctx, l, s, n)
}

// loser counts attempts in flight as delivered when a node dies.
func loser(w *world, n *node) {
	c := w.check
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.byID)) {
		p := c.byID[id]
		if p.open == nil || p.open.node != n {
			continue
		}
		lease := lockmgr.Lease{Host: p.host.name, Token: p.open.token, TTL: w.lease}
		_, _ = w.store().Queue.(*observer).Queue.Settle(w.life, lease, queue.Settlement{Results: []queue.Result{{ID: id, Verdict: queue.Delivered}}}, 0)
	}
}

// loose grants leases that it doesn't keep.
type loose struct{ lockmgr.Manager }

func (m loose) Acquire(ctx context.Context, hosts []string) ([]lockmgr.Lease, error) {
	ls, err := m.Manager.Acquire(ctx, hosts)
	if err != nil || len(ls) == 0 {
		return ls, err
	}
	return ls, m.Manager.Release(ctx, ls)
}

func (m loose) Extend(context.Context, []lockmgr.Lease) ([]lockmgr.Lease, error) { return nil, nil }
func (m loose) Release(context.Context, []lockmgr.Lease) error                   { return nil }

// greedy hides from the pool which hosts are suspect.
type greedy struct{ queue.Lanes }

func (m greedy) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	want.Suspect = want.Lanes
	offer, err := m.Lanes.Due(ctx, want)
	offer.Suspects = nil
	return offer, err
}

func (m greedy) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := m.Lanes.Take(ctx, leases, n)
	for i := range turns {
		record := &turns[i].Host.Breaker
		record.Failed = false
		record.Slow = 0
		if record.LastSuccess.IsZero() {
			record.LastSuccess = time.Now()
		}
	}
	return turns, err
}

// forgetful forgets idempotency keys.
type forgetful struct {
	queue.Queue
	calls int
}

func (m *forgetful) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	m.calls++
	other := *s
	other.ID = s.ID[:24] + fmt.Sprintf("%012x", m.calls)
	other.Idempotency.Key = sha256.Sum256([]byte(fmt.Sprint(m.calls)))
	return m.Queue.Enqueue(ctx, &other)
}

// careless leaves out the last of many recipients.
type careless struct{ queue.Queue }

func (m careless) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	other := *s
	cut := len(s.Recipients) > 8
	if cut {
		other.Recipients = s.Recipients[:len(s.Recipients)-1]
	}
	r, err := m.Queue.Enqueue(ctx, &other)
	if cut && err == nil && !r.Replayed {
		r.Accepted++
	}
	return r, err
}
