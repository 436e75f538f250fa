package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// suite is a store under test, with the steps and checks that cases are made of. Its methods end the case when the
// store does not do as it should.
type suite struct {
	queue.Queue
	t     *testing.T
	b     Backend
	began time.Time
	token uint64
}

// enqueue stores a submission.
func (s *suite) enqueue(sub *queue.Submission) queue.Receipt {
	s.t.Helper()
	r, err := s.Enqueue(s.t.Context(), sub)
	if err != nil {
		s.t.Fatalf("Enqueue(%s): %v", sub.URI, err)
	}
	return r
}

// put stores an activity with the URI given to inboxes, changed by how, and returns its ID. All must be accepted.
func (s *suite) put(uri string, inbox string, how ...func(*queue.Submission)) string {
	s.t.Helper()
	sub := submission(uri, inbox)
	for _, f := range how {
		f(sub)
	}
	if r := s.enqueue(sub); r.Accepted != len(sub.Recipients) {
		s.t.Fatalf("Enqueue(%s) accepted %d of %d: %+v", uri, r.Accepted, len(sub.Recipients), r)
	}
	return sub.ID
}

// fill stores n activities for one host, each with an ordering key of its own, and returns their URIs.
func (s *suite) fill(host string, n int, how ...func(*queue.Submission)) []string {
	s.t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("https://app.example/%s/%s", uuid.NewString(), host)
		s.put(names[i], host, how...)
	}
	return names
}

// putMany submits one for each name, several at a time and so in any order: that is quicker than one after the other.
func (s *suite) putMany(names []string, host func(i int) string, how ...func(*queue.Submission)) {
	s.t.Helper()
	var all sync.WaitGroup
	const workers = 16
	for w := range workers {
		all.Go(func() {
			for i := w; i < len(names); i += workers {
				sub := submission(names[i], host(i))
				for _, change := range how {
					change(sub)
				}
				if _, err := s.Enqueue(s.t.Context(), sub); err != nil {
					s.t.Errorf("Enqueue(%s): %v", names[i], err)
				}
			}
		})
	}
	all.Wait()
}

// lease is a new lease of a host, later than all before it.
func (s *suite) lease(host string) lockmgr.Lease {
	s.token++
	return lockmgr.Lease{Host: host, Token: s.token, TTL: 30 * time.Second}
}

// turn takes at most n deliveries under the lease.
func (s *suite) turn(l lockmgr.Lease, n int) queue.Turn {
	s.t.Helper()
	turns, err := s.Take(s.t.Context(), []lockmgr.Lease{l}, n)
	if err != nil {
		s.t.Fatalf("Take(%s): %v", l.Host, err)
	}
	if len(turns) != 1 {
		s.t.Fatalf("Take(%s) gave %d turns, want one", l.Host, len(turns))
	}
	return turns[0]
}

// take takes everything there is under the lease, which must be deliveries of exactly the activities in want, in
// any order.
func (s *suite) take(l lockmgr.Lease, want ...string) map[string]queue.Delivery {
	s.t.Helper()
	got := s.turn(l, 100).Deliveries
	s.same(fmt.Sprintf("what Take(%s) gave", l.Host), slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(uris(got))))
	byURI := map[string]queue.Delivery{}
	for _, d := range got {
		byURI[d.Activity.URI] = d
	}
	return byURI
}

// one takes what must be the only delivery there is under the lease.
func (s *suite) one(l lockmgr.Lease, uri string) queue.Delivery {
	s.t.Helper()
	return s.take(l, uri)[uri]
}

// settle writes back results, and goes on with the turn.
func (s *suite) settle(l lockmgr.Lease, results ...queue.Result) {
	s.t.Helper()
	s.settlement(l, queue.Settlement{Results: results})
}

// finish writes back results and ends the turn.
func (s *suite) finish(l lockmgr.Lease, results ...queue.Result) {
	s.t.Helper()
	s.settlement(l, queue.Settlement{Results: results, Release: true})
}

func (s *suite) settlement(l lockmgr.Lease, st queue.Settlement) {
	s.t.Helper()
	if _, err := s.Settle(s.t.Context(), l, st, 0); err != nil {
		s.t.Fatalf("Settle(%s): %v", l.Host, err)
	}
}

// record delivers an activity to the host and settles it with this record of the host.
func (s *suite) record(host string, r queue.HostRecord) {
	s.t.Helper()
	uri := "https://app.example/record/" + uuid.NewString()
	s.put(uri, host)
	l := s.lease(host)
	d := s.one(l, uri)
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d)}, Host: &r, Release: true})
}

// due asks for n lanes of any kind.
func (s *suite) due(n int) queue.Offer {
	s.t.Helper()
	return s.want(queue.Want{Lanes: n, Suspect: n})
}

func (s *suite) want(w queue.Want) queue.Offer {
	s.t.Helper()
	o, err := s.Due(s.t.Context(), w)
	if err != nil {
		s.t.Fatalf("Due(%+v): %v", w, err)
	}
	if len(o.Hosts) > w.Lanes {
		s.t.Fatalf("Due(%+v) offered %d lanes", w, len(o.Hosts))
	}
	if o.Next < 0 || o.Next > queue.MaxIdle {
		s.t.Fatalf("Due(%+v) said that the next lane is due in %s", w, o.Next)
	}
	return o
}

// offers checks that exactly these lanes are due.
func (s *suite) offers(want ...string) {
	s.t.Helper()
	got := s.due(len(want) + 10).Hosts
	s.same("lanes offered", slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)))
}

// counts checks an activity's counts, and the state that follows from them.
func (s *suite) counts(id string, want queue.Counts) {
	s.t.Helper()
	a, err := s.Activity(s.t.Context(), id)
	if err != nil {
		s.t.Fatalf("Activity(%s): %v", id, err)
	}
	want.Total = want.Pending + want.Delivered + want.Dead + want.Cancelled
	s.same("counts", want, a.Counts)
	state := queue.ActivityDone
	switch {
	case want.Pending > 0:
		state = queue.ActivityPending
	case want.Cancelled > 0:
		state = queue.ActivityCancelled
	}
	s.same("state", state, a.State)
}

// host returns what is known of a host.
func (s *suite) host(host string) queue.HostStatus {
	s.t.Helper()
	h, err := s.Host(s.t.Context(), host)
	if err != nil {
		s.t.Fatalf("Host(%s): %v", host, err)
	}
	return h
}

// listed returns an activity's deliveries by inbox.
func (s *suite) listed(id string, state queue.DeliveryState) map[string]queue.DeliveryStatus {
	s.t.Helper()
	list, err := s.Deliveries(s.t.Context(), id, state, queue.Page{Limit: 500})
	if err != nil {
		s.t.Fatalf("Deliveries(%s): %v", id, err)
	}
	byInbox := map[string]queue.DeliveryStatus{}
	for _, d := range list.Items {
		byInbox[d.Inbox] = d
	}
	return byInbox
}

// letters returns the dead letters, newest first.
func (s *suite) letters(f queue.DeadLetterFilter) []queue.DeadLetter {
	s.t.Helper()
	list, err := s.DeadLetters(s.t.Context(), f, queue.Page{Limit: 500})
	if err != nil {
		s.t.Fatalf("DeadLetters(%+v): %v", f, err)
	}
	return list.Items
}

// sweep sweeps until there is no more to do.
func (s *suite) sweep() {
	s.t.Helper()
	for range 1000 {
		next, err := s.Sweep(s.t.Context())
		if err != nil {
			s.t.Fatalf("Sweep: %v", err)
		}
		if next > 0 {
			return
		}
	}
	s.t.Fatal("Sweep found more to do a thousand times")
}

func (s *suite) stats() queue.Stats {
	s.t.Helper()
	st, err := s.Stats(s.t.Context())
	if err != nil {
		s.t.Fatalf("Stats: %v", err)
	}
	return st
}

// drain forgets wakes that came so far. Nothing may be due: so Due is not to be asked again soon, and what comes wakes.
func (s *suite) drain() {
	s.t.Helper()
	s.same("lanes offered", 0, len(s.dueNext().Hosts))
	for {
		select {
		case <-s.Wake():
		case <-time.After(second / 20):
			return
		}
	}
}

// woken checks that Wake fires soon, on a busy machine too.
func (s *suite) woken(by string) {
	s.t.Helper()
	select {
	case <-s.Wake():
	case <-time.After(5 * second):
		s.t.Errorf("%s did not wake", by)
	}
}

// is checks that a call failed as it should.
func (s *suite) is(call string, err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("%s gave the error %v, want %v", call, err, want)
	}
}

// same checks that two values are equal, times as far as a store keeps them.
func (s *suite) same(what string, want, got any) {
	s.t.Helper()
	if diff := cmp.Diff(want, got, sameTime, noneIsEmpty); diff != "" {
		s.t.Fatalf("%s is other than it should be (-want +got):\n%s", what, diff)
	}
}

var (
	sameTime    = cmp.Comparer(func(a, b time.Time) bool { return a.Sub(b).Abs() < time.Millisecond })
	noneIsEmpty = cmp.FilterValues(func(a, b any) bool { return isEmpty(a) && isEmpty(b) }, cmp.Ignore())
)

func isEmpty(v any) bool {
	switch v := v.(type) {
	case []string:
		return len(v) == 0
	case []byte:
		return len(v) == 0
	case []queue.Header:
		return len(v) == 0
	case []queue.Refusal:
		return len(v) == 0
	}
	return false
}

// near checks that a time of the store's is at most a second from one of ours. Where time is real, the steps of a case
// take some too.
func (s *suite) near(what string, want, got time.Time) {
	s.t.Helper()
	want = want.Add(s.b.Ahead)
	most := second
	if s.b.Shared && !s.began.IsZero() {
		most += time.Since(s.began)
	}
	if got.Sub(want).Abs() > most {
		s.t.Errorf("%s is %s, want about %s", what, got, want)
	}
}

// reopen restarts the store.
func (s *suite) reopen() {
	s.t.Helper()
	s.Queue = s.b.Reopen(s.t, s.Queue)
}
