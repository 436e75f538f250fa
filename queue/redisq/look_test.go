package redisq

import (
	"context"
	"fmt"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestLookWithoutRoomForSuspects checks that a node which has no slot left for suspects sleeps while no other lane is due, and finds
// all suspects once it has slots for them.
func TestLookWithoutRoomForSuspects(t *testing.T) {
	server := testredis.Start(t)
	for _, partitions := range []int{1, 4} {
		s := openStore(t, Options{URL: server.URL(), Prefix: fmt.Sprint("p", partitions), Partitions: partitions})
		enqueue(t, s, submission("new", 10, manyHosts(12)...)) // hosts that were never reached are suspect
		found := map[string]bool{}
		find := func(suspects int) queue.Offer {
			o, err := s.Due(t.Context(), queue.Want{Lanes: 20, Suspect: suspects})
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range o.Hosts {
				found[host] = true
			}
			return o
		}
		o := find(0)
		for range 100 { // a wake may come meanwhile
			if o.Next > 0 {
				break
			}
			o = find(0)
		}
		if o.Next == 0 || len(found) > 0 {
			t.Errorf("of %d partitions: Due offers %v, and the next after %s, to a node without room", partitions, o.Hosts, o.Next)
		}
		for _, n := range []int{1, 7} {
			if got := len(find(n).Hosts); got != n {
				t.Errorf("of %d partitions: Due offers %d suspects, want %d", partitions, got, n)
			}
		}
		if find(20); len(found) != 12 {
			t.Errorf("of %d partitions: Due offered %d suspects, want 12", partitions, len(found))
		}
	}
}

// TestLookGivenUp checks that a node which stops while it looks for work takes no partition for one that is away.
func TestLookGivenUp(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 4})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &look{Store: s, fine: []int{0}, failed: map[int]error{1: context.Canceled}}
	if err := l.end(ctx); err != nil || s.parts[1].health() != nil {
		t.Errorf("the look ends with %v, and partition 1 is away: %v", err, s.parts[1].health())
	}
}
