//go:build !race

package simulation

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
)

// mutantsOfChains break the promises about chains, repeats, tombstones and bodies.
func mutantsOfChains() map[string]mutant {
	return map[string]mutant{
		"chains a whole host": {mutation{lanes: func(_ *world, q queue.Lanes) queue.Lanes {
			return &hostChain{Lanes: onlyTakes{q}, heads: map[string]string{}}
		}}, "died as expired"},
		"probes by one inbox only": {mutation{lanes: func(_ *world, q queue.Lanes) queue.Lanes {
			return &stubbornProbe{Lanes: onlyTakes{q}, inbox: map[string]string{}}
		}}, "died as expired"},
		"takes equal ids for duplicates": {swallowing(func(p *post, s *queue.Submission) bool {
			return p.uri == s.URI
		}), "duplicates, must be"},
		"swallows what is repeated after its undo": {swallowing(func(p *post, s *queue.Submission) bool {
			return p.body == string(s.Body)
		}), "duplicates, must be"},
		"knows no duplicates": {mistaking(func(w *world, s *queue.Submission) {
			s.OrderingKey += w.since().String()
		}), "duplicates, must be"},
		"sends the first bytes of an id": {mistaking(firstBytes), "taken as"},
		"ignores what an undo refers to": {mistaking(func(_ *world, s *queue.Submission) { s.Refers = "" }), "must be ordered by"},
		"leaves no tombstones": {mistaking(func(_ *world, s *queue.Submission) {
			if s.Role == queue.Deletes {
				s.Role = queue.Other
			}
		}), "taken although its object was deleted"},
		"retries what was deleted": {mistaking(func(_ *world, s *queue.Submission) {
			if s.Role != queue.Deletes {
				s.Object = ""
			}
		}), "gone although its object was deleted"},
		"lets no Delete be undone": {mistaking(func(_ *world, s *queue.Submission) {
			if s.Role == queue.Restores {
				s.Role = queue.Other
			}
		}), "is lost"},
		"undoes no Delete that is only named": {mistaking(func(_ *world, s *queue.Submission) {
			if s.Role == queue.Restores && s.Object == "" {
				s.Role = queue.Other
			}
		}), "its dead letter stays"},
		"cancels at once what is deleted": {mutation{store: func(w *world, q queue.Queue) queue.Queue {
			return hasty{q, w}
		}}, "is lost"},
		"keeps a body": {mutation{store: func(w *world, q queue.Queue) queue.Queue {
			return hoarder{q, w, new(sync.Once)}
		}}, "bodies are kept"},
	}
}

// mistaking is a store that takes each submission for another.
func mistaking(change func(w *world, s *queue.Submission)) mutation {
	return mutation{store: func(w *world, q queue.Queue) queue.Queue { return mistaken{q, w, change} }}
}

type mistaken struct {
	queue.Queue
	w      *world
	change func(*world, *queue.Submission)
}

func (m mistaken) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	other := *s
	m.change(m.w, &other)
	return m.Queue.Enqueue(ctx, &other)
}

// firstBytes sends of each id the bytes that were accepted first.
func firstBytes(w *world, s *queue.Submission) {
	w.check.mu.Lock()
	defer w.check.mu.Unlock()
	for _, p := range w.check.posts {
		if p.uri == s.URI {
			s.Body = []byte(p.body)
			return
		}
	}
}

// swallower is a store that takes more for duplicates: what pends for the inbox and is alike, wherever it stands.
type swallower struct {
	queue.Queue
	w     *world
	alike func(p *post, s *queue.Submission) bool
}

func swallowing(alike func(p *post, s *queue.Submission) bool) mutation {
	return mutation{store: func(w *world, q queue.Queue) queue.Queue { return swallower{q, w, alike} }}
}

func (m swallower) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	other := *s
	other.Recipients = nil
	for _, r := range s.Recipients {
		if !m.pends(r.Inbox, s) {
			other.Recipients = append(other.Recipients, r)
		}
	}
	r, err := m.Queue.Enqueue(ctx, &other)
	if !r.Replayed {
		r.Duplicates += len(s.Recipients) - len(other.Recipients)
	}
	return r, err
}

func (m swallower) pends(inbox string, s *queue.Submission) bool {
	c := m.w.check
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.posts {
		if q := c.pairs[p.name+" "+inbox]; q != nil && q.ended == "" && m.alike(p, s) && c.pending(q) {
			return true
		}
	}
	return false
}

// hostChain gives of an ordering key one delivery of a host at a time.
type hostChain struct {
	queue.Lanes
	mu    sync.Mutex
	heads map[string]string // guarded by mu: the delivery that holds back the others, by host and ordering key
}

func (m *hostChain) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := m.Lanes.Take(ctx, leases, n)
	for i := range turns {
		if err := holdBack(ctx, m.Lanes, &turns[i], 0, m.waits); err != nil {
			return nil, err
		}
	}
	return turns, err
}

func (m *hostChain) waits(t *queue.Turn, d *queue.Delivery) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.Host.Probed() {
		return false
	}
	key := t.Lease.Host + d.Activity.OrderingKey
	if m.heads[key] == "" {
		m.heads[key] = d.ID
	}
	return m.heads[key] != d.ID
}

func (m *hostChain) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	m.mu.Lock()
	for key, id := range m.heads {
		for _, r := range s.Results {
			if r.ID == id && (r.Verdict == queue.Delivered || r.Verdict == queue.Dead) {
				delete(m.heads, key)
			}
		}
	}
	m.mu.Unlock()
	return m.Lanes.Settle(ctx, l, s, n)
}

// holdBack puts off some of what was taken, and its whole lane for a while.
func holdBack(
	ctx context.Context, q queue.Lanes, t *queue.Turn, lane time.Duration, waits func(*queue.Turn, *queue.Delivery) bool,
) error {
	var rest []queue.Delivery
	for _, d := range t.Deliveries {
		if !waits(t, &d) {
			rest = append(rest, d)
			continue
		}
		put := queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Defer, After: time.Hour}}, Wait: lane}
		if _, err := q.Settle(ctx, t.Lease, put, 0); err != nil {
			return err
		}
	}
	t.Deliveries = rest
	return nil
}

// stubbornProbe probes a host by the inbox that it probed first.
type stubbornProbe struct {
	queue.Lanes
	mu    sync.Mutex
	inbox map[string]string // guarded by mu: by host
}

func (m *stubbornProbe) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := m.Lanes.Take(ctx, leases, n)
	for i := range turns {
		if err := holdBack(ctx, m.Lanes, &turns[i], time.Hour, m.waits); err != nil {
			return nil, err
		}
	}
	return turns, err
}

func (m *stubbornProbe) waits(t *queue.Turn, d *queue.Delivery) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.Host.Probed() {
		return false
	}
	if m.inbox[t.Lease.Host] == "" {
		m.inbox[t.Lease.Host] = d.Inbox
	}
	return m.inbox[t.Lease.Host] != d.Inbox
}

// hasty cancels, when an object is deleted, what made it.
type hasty struct {
	queue.Queue
	w *world
}

func (m hasty) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	if s.Role == queue.Deletes {
		for _, id := range m.made(s.Object) {
			if _, err := m.Cancel(ctx, id); err != nil {
				return queue.Receipt{}, err
			}
		}
	}
	return m.Queue.Enqueue(ctx, s)
}

func (m hasty) made(object string) (ids []string) {
	c := m.w.check
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.posts {
		if p.role == queue.Makes && p.object == object && p.id != "" {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// hoarder leaves a body behind.
type hoarder struct {
	queue.Queue
	w    *world
	once *sync.Once
}

func (m hoarder) Sweep(ctx context.Context) (next time.Duration, err error) {
	m.once.Do(func() {
		conn, open := embedded.Connect(filepath.Join(m.w.dir, "store", "postrider.db"))
		if err = open; err != nil {
			return
		}
		err = sqlitex.Execute(conn, "INSERT OR IGNORE INTO bodies (activity, body) VALUES (-1, x'00')", nil)
		_ = conn.Close()
	})
	if err != nil {
		panic(fmt.Sprint("keep a body: ", err))
	}
	return m.Queue.Sweep(ctx)
}
