package embedded

import (
	"fmt"
	"maps"
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

// After any calls, memory holds what a restart reads from the database.
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
						m.settle(host, queue.Settlement{Release: true}, 0)
					}
					bodyRows(t, m.s)
					before := dump(m.s)
					if err := m.s.Close(); err != nil {
						t.Fatal(err)
					}
					if m.s, err = Open(dir, Options{Limits: limits}); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = m.s.Close() })
					if diff := cmp.Diff(before, dump(m.s), cmp.AllowUnexported(totals{}, heldBody{}, tombstones{})); diff != "" {
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
		m.settle(host, m.settlement(host), m.rand.IntN(3))
	case n < 15:
		_, err = m.s.Act(bg, m.name(host), queue.HostActions[m.rand.IntN(len(queue.HostActions))], queue.Order{})
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
	id, n := uuid.Must(uuid.NewV7()), m.rand.IntN(40)
	object := fmt.Sprint(n % 4)
	sub := &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: fmt.Sprint("activity ", n), KeyID: fmt.Sprint(m.rand.IntN(2)), OrderingKey: object,
			Priority: queue.Priority(m.rand.IntN(queue.Priorities)), Role: queue.Role(m.rand.IntN(4)),
			Object: object, Final: []int{401}, Pin: "pin",
		},
		TTL: time.Duration(1+m.rand.IntN(5)) * time.Hour,
	}
	sub.Body = []byte(sub.URI)
	if m.rand.IntN(4) == 0 {
		sub.Refers = fmt.Sprint("activity ", m.rand.IntN(40))
		sub.OrderingKey = sub.Refers
	}
	if m.rand.IntN(4) == 0 { // it refers to a Delete
		sub.Object = ""
	}
	if m.rand.IntN(2) == 0 {
		sub.Idempotency.Key = [32]byte(append(id[:], id[:]...))
	}
	for host := range m.held {
		if m.rand.IntN(2) == 0 {
			for n := range 1 + m.rand.IntN(3) {
				inbox := fmt.Sprintf("https://%s/%d", m.name(host), n)
				sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: inbox, Host: m.name(host)})
			}
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

func (m *monkey) settle(host int, st queue.Settlement, n int) {
	next, err := m.s.Settle(bg, m.held[host], st, n)
	if err != nil && m.held[host].Token != 0 {
		m.t.Fatal(err)
	}
	m.taken[host] = append(m.taken[host], next...)
	if st.Release && len(next) == 0 {
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
			Throttles: m.rand.IntN(2), Refusals: 5 * m.rand.IntN(4), Epoch: int64(m.rand.IntN(20)),
		}
		if at := time.Now().UTC(); m.rand.IntN(2) == 0 {
			st.Host.LastAnswer, st.Host.LastError = at, &queue.LastAttempt{At: at, Status: 400 + m.rand.IntN(2)}
		} else {
			st.Host.LastAnswer, st.Host.LastSuccess = at, at
		}
	}
	return st
}

// picture is what memory holds, as far as it lasts.
type picture struct {
	Totals  totals
	Lanes   map[string]laneView
	Chains  map[[2]string][]int64 // by inbox and hash of the ordering key
	Entries map[int64]entryView
	Acts    map[int64]int
	Inboxes map[string]int
	URIs    map[uint32][]int64
	Bodies  bodies
	Tombs   tombstones
	States  map[queue.HostState]int
	Answers [queue.AnswerKinds]int
}

type laneView struct {
	Record      queue.HostRecord
	Wait, Since int64
	Held        orderEnds
	State       queue.HostState
	Fifos       [queue.Priorities][]int64
	Heads       []int64
	Pending     int
}

type entryView struct {
	Due      int64
	Attempts uint16
	Flags    uint8
	Makes    uint64
	Body     int64
	Inbox    string
}

func dump(s *Store) picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.index
	x.endThrottles(s.clock.now())
	p := picture{
		Totals: s.stats, Lanes: map[string]laneView{}, Chains: map[[2]string][]int64{}, Entries: map[int64]entryView{},
		Acts: map[int64]int{}, Inboxes: map[string]int{}, URIs: map[uint32][]int64{}, States: x.names.counts(),
		Bodies: maps.Clone(s.writer.ledger.bodies), Tombs: tombstones{maps.Clone(x.tombstones.objects), maps.Clone(x.tombstones.deletions)},
		Answers: x.answers,
	}
	p.Totals.accepted = 0
	for _, l := range x.lanes {
		p.Lanes[l.host] = l.view()
	}
	for key, e := range x.tails {
		key := [2]string{e.inbox.url, fmt.Sprint(key.ordering)}
		for ; e != nil; e = e.prev {
			p.Chains[key] = append(p.Chains[key], e.id)
		}
	}
	for id, e := range x.entries {
		p.Entries[id] = entryView{Due: upcoming(e.due), Attempts: e.attempts, Flags: e.flags, Makes: e.act.makes, Body: e.act.body, Inbox: e.inbox.url}
	}
	for seq, a := range x.activities {
		p.Acts[seq] = int(a.pending)
	}
	for url, in := range x.inboxes.byURL {
		p.Inboxes[url] = int(in.pending)
	}
	for uri, a := range x.byURI {
		for ; a != nil; a = a.older {
			p.URIs[uri] = append(p.URIs[uri], a.seq)
		}
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
		Record: l.record, Wait: l.wait, Since: l.since, Held: l.held, State: l.state, Pending: l.pending,
	}
	// None of these is worth an fsync.
	v.Record.Breaker.Window, v.Record.LastAnswer = 0, time.Time{}
	v.Record.LastSuccess = time.Time{}
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
