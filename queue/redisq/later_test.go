package redisq

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// TestLater checks that lanes which wait for long are offered when it is time, or sooner when something makes them due.
func TestLater(t *testing.T) {
	t.Parallel()
	server := testredis.StartAhead(t, 0)
	open := func() *Store { return openStore(t, Options{URL: server.URL(), Prefix: "p"}) }
	s := open()
	hosts := manyHosts(300)
	enqueue(t, s, submission("1", 10, hosts...))
	work(t, s, 1, hosts, func(int) queue.Result { return queue.Result{Verdict: queue.Retry, Spent: true, After: 8 * time.Minute} })
	if n := server.Must("EXISTS", "p:{p0}:later", "p:{p0}:due4"); n != "1" {
		t.Fatalf("%s of the keys of lanes that wait are there, want that of those which wait for long", n)
	}
	if got := offered(t, s); len(got) != 0 {
		t.Fatalf("%d lanes were offered before it was time", len(got))
	}
	if err := s.act(t.Context(), hosts[0], queue.Pause, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	if err := s.act(t.Context(), hosts[1], queue.Probe, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	enqueue(t, s, submission("2", 10, hosts[2]))
	if got, want := offered(t, s), hosts[1:3]; !slices.Equal(got, want) {
		t.Errorf("%v were offered after a probe and a new delivery, want %v", got, want)
	}
	for _, host := range hosts[1:3] {
		settleAll(t, s, lockmgr.Lease{Host: host, Token: 2, TTL: time.Minute})
	}
	server.Jump(6 * time.Minute)
	if got := offered(t, open()); len(got) != 0 {
		t.Errorf("%d lanes were offered before it was time", len(got))
	}
	server.Jump(3 * time.Minute)
	var got []string
	for s := open(); ; {
		some := offered(t, s)
		if got = append(got, some...); len(some) == 0 {
			break
		}
	}
	slices.Sort(got)
	if want := hosts[2:]; !slices.Equal(got, want) {
		t.Errorf("%d lanes were offered, want the %d that are not paused and have something left", len(got), len(want))
	}
	if n := server.Must("EXISTS", "p:{p0}:laterpages"); n != "0" {
		t.Error("lanes that were offered are still among the later ones")
	}
}

// offered returns the lanes that are due now, by name.
func offered(t *testing.T, s *Store) []string {
	t.Helper()
	offer, err := s.Due(t.Context(), queue.Want{Lanes: 1000, Suspect: 1000})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(offer.Hosts)
	return offer.Hosts
}

// settleAll delivers what may go of a lane.
func settleAll(t *testing.T, s *Store, l lockmgr.Lease) {
	t.Helper()
	turns, err := s.Take(t.Context(), []lockmgr.Lease{l}, 10)
	if err != nil {
		t.Fatal(err)
	}
	st := queue.Settlement{Release: true}
	for _, d := range turns[0].Deliveries {
		st.Results = append(st.Results, queue.Result{ID: d.ID})
	}
	if _, err := s.Settle(t.Context(), l, st, 0); err != nil {
		t.Fatal(err)
	}
}
