package redisq

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
)

// TestSameAsEmbedded checks that after any sequence of calls a lane, shallow or deep, gives the very deliveries in the
// very order that the embedded back-end gives. Deliveries with one ordering key have one priority here: behind others in a
// backlog a delivery goes by their priority, so there the order may differ.
func TestSameAsEmbedded(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel() // half of it is waiting
			limits := queue.Limits{Lane: 150 * int(seed%2)}
			e, err := embedded.Open(t.TempDir(), embedded.Options{Limits: limits})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			r := openStore(t, Options{URL: server.URL(), Prefix: fmt.Sprint("model", seed), Partitions: 1 + int(seed%3), Limits: limits})
			m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 1)), stores: []queue.Queue{e, r}, taken: map[string][]string{}}
			for range 250 {
				m.step()
			}
			m.drain()
		})
	}
}

// model makes the same calls to two stores and compares what they give.
type model struct {
	t         *testing.T
	rand      *rand.Rand
	stores    []queue.Queue
	token     uint64
	submitted []*queue.Submission
	ids       []string
	taken     map[string][]string // by name of the delivery, its ID in each store
	names     []string            // of taken, in order
}

const modelHost = "a.example"

func (m *model) lease() lockmgr.Lease {
	return lockmgr.Lease{Host: modelHost, Token: m.token, TTL: time.Minute}
}

func (m *model) both(f func(i int, q queue.Queue) error) {
	m.t.Helper()
	for i, q := range m.stores {
		if err := f(i, q); err != nil {
			m.t.Fatalf("%T: %v", q, err)
		}
	}
}

func (m *model) step() {
	switch n := m.rand.IntN(26); {
	case n < 9:
		m.enqueue()
	case n < 10 && len(m.ids) > 0:
		m.cancel()
	case n < 15:
		m.take(1 + m.rand.IntN(8))
	case n < 19:
		m.settle(m.rand.IntN(3) == 0)
	case n < 22:
		m.act()
	case n < 23:
		m.sweep()
	case n < 25:
		m.retry()
	default:
		m.token++
		m.forget()
	}
}

func (m *model) enqueue() {
	m.t.Helper()
	key, roles := m.rand.IntN(90), []queue.Role{queue.Other, queue.Makes, queue.Makes, queue.Deletes}
	for range 1 + m.rand.IntN(4) {
		m.submit(key, roles[m.rand.IntN(len(roles))])
		if m.rand.IntN(2) == 0 {
			key = m.rand.IntN(90)
		}
	}
}

// submit stores what an activity does to what a key names.
func (m *model) submit(key int, role queue.Role) {
	m.t.Helper()
	sub := submission(strconv.Itoa(len(m.submitted)), 10)
	sub.OrderingKey, sub.Role = strconv.Itoa(key), role
	sub.Object = fmt.Sprint("object ", key)
	sub.Priority = queue.Priority(key % queue.Priorities)
	if m.rand.IntN(4) == 0 && len(m.submitted) > 0 { // what was sent before comes again
		id, key := sub.ID, sub.Idempotency
		sub.Activity = m.submitted[max(0, len(m.submitted)-1-m.rand.IntN(20))].Activity
		sub.ID, sub.Idempotency = id, key
	}
	m.submitted = append(m.submitted, sub)
	if m.rand.IntN(2) == 0 {
		sub.Idempotency = queue.Idempotency{}
	}
	for i := range 1 + m.rand.IntN(3) {
		sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: fmt.Sprintf("https://%s/%d", modelHost, i), Host: modelHost})
	}
	m.same("receipt", func(q queue.Queue) (any, error) {
		r, err := q.Enqueue(m.t.Context(), sub)
		if r.ID != "" && q == m.stores[0] {
			m.ids = append(m.ids, r.ID)
		}
		return []int{r.Accepted, r.Duplicates, len(r.Refused)}, err
	})
}

// same checks that both stores answer a call alike.
func (m *model) same(what string, call func(q queue.Queue) (any, error)) {
	m.t.Helper()
	var got [2]any
	m.both(func(i int, q queue.Queue) (err error) {
		got[i], err = call(q)
		return err
	})
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		m.t.Fatalf("%s is another (-embedded +redis):\n%s", what, diff)
	}
}

// act does something to the host. Actions that stop it are soon undone, so that there is something to compare.
func (m *model) act() {
	m.t.Helper()
	actions := []queue.HostAction{queue.Reset, queue.Probe, queue.Seen, queue.Pause, queue.Block}
	action := actions[m.rand.IntN(len(actions))]
	undone := map[queue.HostAction]queue.HostAction{queue.Pause: queue.Resume, queue.Block: queue.Unblock}[action]
	if action == queue.Block && m.rand.IntN(3) > 0 {
		return
	}
	for _, action := range []queue.HostAction{action, undone} {
		if action == "" {
			continue
		}
		m.same(string(action), func(q queue.Queue) (any, error) {
			h, err := q.Act(m.t.Context(), modelHost, action, queue.Order{})
			return []any{h.State, h.Pending, h.InFlight, h.Record.Epoch}, err
		})
		if undone != "" {
			m.enqueue()
			m.submit(m.rand.IntN(90), queue.Deletes)
			m.take(3)
		}
	}
	m.letters()
}

func (m *model) sweep() {
	m.t.Helper()
	m.both(func(_ int, q queue.Queue) error {
		for next := time.Duration(0); next == 0; {
			var err error
			if next, err = q.Sweep(m.t.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	m.letters()
}

// letters compares what is dead and what that is counted as.
func (m *model) letters() {
	m.t.Helper()
	m.same("what is dead", func(q queue.Queue) (any, error) {
		list, err := q.DeadLetters(m.t.Context(), queue.DeadLetterFilter{Host: modelHost}, queue.Page{Limit: 10_000})
		names := make([]string, len(list.Items))
		for i, l := range list.Items {
			names[i] = fmt.Sprint(l.URI, " ", l.Inbox, " ", l.Reason, " ", l.Attempts)
		}
		slices.Sort(names)
		return names, err
	})
	m.same("totals", func(q queue.Queue) (any, error) {
		st, err := q.Stats(m.t.Context())
		return fmt.Sprint(st.Pending, st.Dead, st.Delivered, st.Died, st.Hosts, st.Answers), err
	})
}

// retry makes some dead letters pending again, or drops some.
func (m *model) retry() {
	m.t.Helper()
	reasons := []queue.Reason{"", queue.ReasonGone, queue.ReasonHostBlocked, queue.ReasonLaneFull}
	which := queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Reason: reasons[m.rand.IntN(len(reasons))]}}
	call := queue.Queue.DeleteDead
	if m.rand.IntN(4) > 0 {
		call = func(q queue.Queue, ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
			return q.RetryDead(ctx, which, time.Hour)
		}
	}
	m.same("count of dead letters", func(q queue.Queue) (any, error) { return call(q, m.t.Context(), which) })
	m.letters()
}

func (m *model) cancel() {
	id := m.ids[m.rand.IntN(len(m.ids))]
	m.both(func(_ int, q queue.Queue) error {
		_, err := q.Cancel(m.t.Context(), id)
		return err
	})
}

func (m *model) forget() { m.taken, m.names = map[string][]string{}, nil }

// take takes some. Which of several is a probe is chance: what is given then is given back.
func (m *model) take(n int) {
	m.t.Helper()
	var got [2][]string
	probed := false
	m.both(func(i int, q queue.Queue) error {
		turns, err := q.Take(m.t.Context(), []lockmgr.Lease{m.lease()}, n)
		if err != nil || len(turns) == 0 {
			return err
		}
		if probed = turns[0].Host.Probed(); probed {
			for _, d := range turns[0].Deliveries {
				probe := fmt.Sprint("a probe, early: ", d.Early)
				if d.Early || turns[0].Host.Unavailable { // else its priority is drawn, too
					probe += fmt.Sprint(", priority ", d.Activity.Priority)
				}
				got[i] = append(got[i], probe)
			}
			_, err = q.Settle(m.t.Context(), m.lease(), queue.Settlement{Release: true}, 0)
			return err
		}
		got[i] = append(m.given(i, turns[0].Deliveries), fmt.Sprint("more ", turns[0].More))
		return nil
	})
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		m.t.Fatalf("Take gave other deliveries (-embedded +redis):\n%s", diff)
	}
	if probed {
		m.forget()
	}
}

// given notes what one of the stores gave, and returns what is to be the same in both.
func (m *model) given(i int, deliveries []queue.Delivery) (seen []string) {
	for _, d := range deliveries {
		name := fmt.Sprint(d.Activity.ID, " ", d.Inbox)
		seen = append(seen, fmt.Sprint(name, " ", d.Attempts, " ", d.Early))
		if i == 0 {
			m.names = append(slices.DeleteFunc(m.names, func(n string) bool { return n == name }), name) // it may have died and come back
			m.taken[name] = nil
		}
		m.taken[name] = append(m.taken[name], d.ID)
	}
	return seen
}

// settle settles some of what is taken, in any way, and takes more unless that might be a probe.
func (m *model) settle(release bool) {
	m.t.Helper()
	results := make([][]queue.Result, 2)
	m.names = slices.DeleteFunc(m.names, func(name string) bool {
		if m.rand.IntN(3) == 0 {
			return false
		}
		r := m.result()
		for i, id := range m.taken[name] {
			r.ID = id
			results[i] = append(results[i], r)
		}
		delete(m.taken, name)
		return true
	})
	var record *queue.HostRecord
	if m.rand.IntN(4) == 0 {
		at, n := time.Now().UTC(), len(results[0])
		record = &queue.HostRecord{
			Breaker: breaker.Record{Failed: m.rand.IntN(2) == 0}, Refusals: 5 * n, LastAnswer: at, LastSuccess: at.Add(-time.Duration(n%2) * time.Hour),
			LastError: &queue.LastAttempt{At: at, Status: 400 + n%3},
		}
		if m.rand.IntN(3) == 0 {
			record.Breaker.State = breaker.Open
			record.Unavailable = m.rand.IntN(3) == 0
		}
	}
	recovered := m.rand.IntN(5) == 0
	n := m.rand.IntN(4)
	if h, err := m.stores[0].Host(m.t.Context(), modelHost); err != nil || h.Record.Probed() || record != nil && record.Probed() {
		n = 0
	}
	var errs [2]error
	var got [2][]string
	for i, q := range m.stores {
		st := queue.Settlement{Results: results[i], Release: release, Host: record, Recovered: recovered}
		var next []queue.Delivery
		next, errs[i] = q.Settle(m.t.Context(), m.lease(), st, n)
		got[i] = m.given(i, next)
	}
	if errors.Is(errs[0], queue.ErrNotHeld) != errors.Is(errs[1], queue.ErrNotHeld) {
		m.t.Fatalf("Settle gave %v in embedded, %v in redis", errs[0], errs[1])
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		m.t.Fatalf("Settle gave other deliveries (-embedded +redis):\n%s", diff)
	}
	if release && len(got[0]) == 0 {
		m.forget()
	}
}

func (m *model) result() queue.Result {
	switch m.rand.IntN(6) {
	case 0:
		return queue.Result{Verdict: queue.Retry, After: time.Hour, Spent: true, HostFailed: m.rand.IntN(2) == 0}
	case 1:
		return queue.Result{Verdict: queue.Retry, Spent: true}
	case 2:
		return queue.Result{Verdict: queue.Defer, After: time.Duration(m.rand.IntN(2)) * time.Hour}
	case 3:
		return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Spent: true}
	default:
		return queue.Result{Verdict: queue.Delivered, Spent: true}
	}
}

// drain compares all that is left.
func (m *model) drain() {
	m.t.Helper()
	m.token++
	m.forget()
	m.take(1)
	closed := queue.HostRecord{}
	m.both(func(_ int, q queue.Queue) error {
		_, err := q.Settle(m.t.Context(), m.lease(), queue.Settlement{Host: &closed, Recovered: true}, 0)
		return err
	})
	m.take(10_000)
	var pending [2]int
	m.both(func(i int, q queue.Queue) error {
		for _, id := range m.ids {
			a, err := q.Activity(m.t.Context(), id)
			if err != nil {
				return err
			}
			pending[i] += a.Counts.Pending
		}
		return nil
	})
	var hosts [2]queue.HostStatus
	m.both(func(i int, q queue.Queue) (err error) {
		hosts[i], err = q.Host(m.t.Context(), modelHost)
		return err
	})
	if pending[0] != pending[1] || pending[1] != hosts[1].Pending || hosts[0].InFlight != hosts[1].InFlight {
		m.t.Errorf("pending in embedded %d, in redis %d; hosts %+v", pending[0], pending[1], hosts)
	}
}

// TestBacklogOrder checks that a delivery that moved up behind another goes after older ones of its priority, also when
// those are in the backlog and it waited in that of another priority.
func TestBacklogOrder(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	put := func(uri, ordering string, p queue.Priority) {
		sub := submission(uri, 10, modelHost)
		sub.OrderingKey, sub.Priority = ordering, p
		enqueue(t, s, sub)
	}
	for i := range 32 { // the window
		put(fmt.Sprint("normal", i), fmt.Sprint("normal", i), queue.Normal)
	}
	put("first", "chain", queue.Low)
	for i := range 12 {
		put(fmt.Sprint("high", i), fmt.Sprint("high", i), queue.High)
	}
	put("second", "chain", queue.High)
	l := lockmgr.Lease{Host: modelHost, Token: 1, TTL: time.Minute}
	take := func(n int) (ids, uris []string) {
		turns, err := s.Take(t.Context(), []lockmgr.Lease{l}, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range turns[0].Deliveries {
			ids, uris = append(ids, d.ID), append(uris, d.Activity.URI[len(d.Activity.URI)-6:])
		}
		return ids, uris
	}
	ids, uris := take(13) // so that it was low's turn twice
	i := slices.Index(uris, "/first")
	if i < 0 {
		t.Fatalf("of 13 taken none is low: %v", uris)
	}
	if _, err := s.Settle(t.Context(), l, queue.Settlement{Results: []queue.Result{{ID: ids[i]}}}, 0); err != nil {
		t.Fatal(err)
	}
	_, uris = take(12)
	highs := slices.DeleteFunc(uris, func(u string) bool { return strings.Contains(u, "mal") })
	if diff := cmp.Diff([]string{"/high9", "high10", "high11", "second"}, highs); diff != "" {
		t.Errorf("high ones come in another order (-want +got):\n%s", diff)
	}
}
