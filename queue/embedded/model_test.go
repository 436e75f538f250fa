package embedded

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Whatever was done, memory holds what a restart reads from the database.
func TestMemoryIsWhatTheDatabaseSays(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				limits := queue.Limits{Lane: 12, DeadLetters: 30, DeadRetention: 24 * time.Hour}
				s, err := Open(dir, Options{Limits: limits})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				m := &monkey{t: t, s: s, rand: rand.New(rand.NewPCG(seed, 1))}
				for round := range 6 {
					for range 150 {
						m.step()
					}
					for host := range m.held { // hand back what is taken: a restart does the same
						m.settle(host, queue.Settlement{Release: true})
					}
					before := dump(m.s)
					if err := m.s.Close(); err != nil {
						t.Fatal(err)
					}
					if m.s, err = Open(dir, Options{Limits: limits}); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = m.s.Close() })
					if diff := cmp.Diff(before, dump(m.s), cmp.AllowUnexported(totals{})); diff != "" {
						t.Fatalf("round %d: memory (-) and database (+):\n%s", round, diff)
					}
				}
			})
		})
	}
}

// monkey does this and that to a store.
type monkey struct {
	t     *testing.T
	s     *Store
	rand  *rand.Rand
	token uint64
	held  [5]lockmgr.Lease
	taken [5][]queue.Delivery
}

func (m *monkey) name(host int) string { return fmt.Sprintf("h%d.example", host) }

func (m *monkey) step() {
	host := m.rand.IntN(len(m.held))
	var err error
	switch n := m.rand.IntN(20); {
	case n < 6:
		_, err = m.s.Enqueue(bg, m.submission())
	case n < 9:
		m.take(host)
	case n < 13:
		m.settle(host, m.settlement(host))
	case n < 15:
		_, err = m.s.Act(bg, m.name(host), queue.HostActions[m.rand.IntN(len(queue.HostActions))])
	case n < 16:
		_, err = m.s.RetryDead(bg, queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: m.name(host)}}, time.Hour)
	case n < 17:
		_, err = m.s.Sweep(bg)
	case n < 18 && m.rand.IntN(5) == 0:
		_, err = m.s.PutKey(bg, queue.Key{ID: "0"})
	case n < 19 && len(m.taken[host]) > 0:
		_, err = m.s.Cancel(bg, m.taken[host][0].Activity.ID)
	default:
		time.Sleep(time.Duration(m.rand.IntN(600)) * time.Second)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *monkey) submission() *queue.Submission {
	id := uuid.Must(uuid.NewV7())
	sub := &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: id.URN(), KeyID: fmt.Sprint(m.rand.IntN(2)), OrderingKey: fmt.Sprint(m.rand.IntN(4)),
			Priority: queue.Priority(m.rand.IntN(queue.Priorities)), Role: queue.Role(m.rand.IntN(3)), Body: []byte("{}"),
		},
		TTL:         time.Duration(1+m.rand.IntN(5)) * time.Hour,
		Idempotency: queue.Idempotency{Key: [32]byte(append(id[:], id[:]...))},
	}
	for host := range m.held {
		if m.rand.IntN(2) == 0 {
			sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: "https://" + m.name(host), Host: m.name(host)})
		}
	}
	return sub
}

func (m *monkey) take(host int) {
	if m.held[host].Token == 0 || m.rand.IntN(3) == 0 {
		m.token++
		m.held[host], m.taken[host] = lockmgr.Lease{Host: m.name(host), Token: m.token, TTL: time.Minute}, nil
	}
	turns, err := m.s.Take(bg, []lockmgr.Lease{m.held[host]}, 1+m.rand.IntN(4))
	if err != nil {
		m.t.Fatal(err)
	}
	if len(turns) == 0 {
		m.held[host] = lockmgr.Lease{} // there is no such lane yet
	}
	for _, turn := range turns {
		m.taken[host] = append(m.taken[host], turn.Deliveries...)
	}
}

func (m *monkey) settle(host int, st queue.Settlement) {
	if err := m.s.Settle(bg, m.held[host], st); err != nil && m.held[host].Token != 0 {
		m.t.Fatal(err)
	}
	if st.Release {
		m.held[host], m.taken[host] = lockmgr.Lease{}, nil
	}
}

func (m *monkey) settlement(host int) (st queue.Settlement) {
	for _, d := range m.taken[host] {
		r := queue.Result{ID: d.ID, Verdict: queue.Verdict(m.rand.IntN(4)), Spent: m.rand.IntN(2) == 0, HostFailed: m.rand.IntN(2) == 0}
		switch r.Verdict {
		case queue.Dead:
			r.Reason = queue.ReasonGone
		case queue.Defer:
			if r.WaitKey = m.rand.IntN(2) == 0; r.WaitKey {
				break
			}
			fallthrough
		case queue.Retry:
			r.After = time.Duration(m.rand.IntN(3000)) * time.Second
		}
		st.Results = append(st.Results, r)
	}
	m.taken[host] = nil
	st.Recovered, st.Release = m.rand.IntN(3) == 0, m.rand.IntN(3) == 0
	st.Wait = time.Duration(m.rand.IntN(600)-300) * time.Second
	if m.rand.IntN(2) == 0 {
		st.Host = &queue.HostRecord{
			Breaker: breaker.Record{State: breaker.State(m.rand.IntN(3)), Failed: m.rand.IntN(2) == 0}, Unavailable: m.rand.IntN(4) == 0,
			Epoch: int64(m.rand.IntN(20)),
		}
	}
	return st
}

// picture is what memory holds, as far as it lasts.
type picture struct {
	Totals  totals
	Lanes   map[string]laneView
	Chains  map[chainKey][]int64
	Entries map[int64]entryView
	Acts    map[int64]int
	Inboxes map[string]int
	URIs    map[uint32][]int64
	States  map[queue.HostState]int
}

type laneView struct {
	Record          queue.HostRecord
	Wait, Since     int64
	Paused, Blocked bool
	State           queue.HostState
	Fifos           [queue.Priorities][]int64
	Heads           []int64
	Pending         int
}

type entryView struct {
	Due      int64
	Attempts uint16
	Flags    uint8
	Role     queue.Role
	Inbox    string
}

func dump(s *Store) picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.index
	p := picture{
		Totals: s.stats, Lanes: map[string]laneView{}, Chains: map[chainKey][]int64{}, Entries: map[int64]entryView{},
		Acts: map[int64]int{}, Inboxes: map[string]int{}, URIs: map[uint32][]int64{}, States: x.names.counts(),
	}
	p.Totals.accepted = 0
	for _, l := range x.lanes {
		p.Lanes[l.host] = l.view()
	}
	for key, e := range x.tails {
		for ; e != nil; e = e.prev {
			p.Chains[key] = append(p.Chains[key], e.id)
		}
	}
	for id, e := range x.entries {
		p.Entries[id] = entryView{Due: upcoming(e.due), Attempts: e.attempts, Flags: e.flags, Role: e.act.role, Inbox: e.inbox.url}
	}
	for seq, a := range x.activities {
		p.Acts[seq] = int(a.pending)
	}
	for url, in := range x.inboxes {
		p.Inboxes[url] = in.pending
	}
	for uri, a := range x.byURI {
		for ; a != nil; a = a.namesake {
			p.URIs[uri] = append(p.URIs[uri], a.seq)
		}
		slices.Sort(p.URIs[uri])
	}
	return p
}

// upcoming is when something is due, 0 if it is: what became due as its key came is due since it waited after a restart.
func upcoming(due int64) int64 {
	if due <= millis(time.Now()) {
		return 0
	}
	return due
}

func (l *lane) view() laneView {
	v := laneView{
		Record: l.record, Wait: l.wait, Since: l.since, Paused: l.paused, Blocked: l.blocked, State: l.state, Pending: l.pending,
	}
	v.Record.Breaker.Window = 0 // it is not worth an fsync
	for p := range l.fifos {
		for e := l.fifos[p].oldest; e != nil; e = e.newer {
			v.Fifos[p] = append(v.Fifos[p], e.id)
		}
	}
	for _, h := range []entryHeap{l.ready[0], l.ready[1], l.ready[2], l.later} {
		for _, e := range h.es {
			v.Heads = append(v.Heads, e.id)
		}
	}
	slices.Sort(v.Heads)
	return v
}
