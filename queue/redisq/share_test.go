package redisq

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestChoosyNode checks that another node offers what one serves that says it would pass it over.
func TestChoosyNode(t *testing.T) {
	const n = 200
	nodes := acquainted(t, 2, 64)
	looking := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-looking:
				return
			case <-time.After(300 * time.Millisecond):
				_, _ = nodes[0].Due(t.Context(), queue.Want{Lanes: 1, Suspect: 1, Choosy: true})
			}
		}
	}()
	enqueue(t, nodes[1], submission("1", 100, manyHosts(n)...))
	if got := lookFor(t, nodes[1], n, time.Minute); len(got) != n {
		t.Errorf("the other node offered %d of %d lanes", len(got), n)
	}
	close(looking)
	<-done
}

// lookFor has a node look for lanes again and again until it was offered so many, or the time is over.
func lookFor(t *testing.T, s *Store, n int, within time.Duration) (hosts []string) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		o, err := s.Due(t.Context(), queue.Want{Lanes: 500, Suspect: 500})
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range o.Hosts {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
		if len(hosts) >= n || time.Now().After(end) {
			return hosts
		}
	}
}

// acquainted returns nodes of one fleet that have heard of each other.
func acquainted(t *testing.T, nodes, partitions int) (all []*Store) {
	t.Helper()
	url := testredis.Start(t).URL()
	for range nodes {
		s := openStore(t, Options{URL: url, Prefix: "p", Partitions: partitions})
		lookFor(t, s, 1, 0)
		all = append(all, s)
	}
	for start := time.Now(); slices.ContainsFunc(all, func(s *Store) bool { return len(s.company.known()) < nodes }); time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the nodes don't hear each other")
		}
		for _, s := range all {
			lookFor(t, s, 1, 0) // so it has room
		}
	}
	return all
}

// TestNodesShareLanes checks that each lane is offered by the node that serves its partition, and that another node offers it
// once that one has gone.
func TestNodesShareLanes(t *testing.T) {
	const n = 200
	nodes := acquainted(t, 2, 64)
	a, b := nodes[0], nodes[1]
	enqueue(t, a, submission("1", 100, manyHosts(n)...))
	first := lookFor(t, a, n, time.Second)
	for _, host := range first {
		if p := a.partitionOf(host); !a.company.served()[p.N] {
			t.Errorf("a node offered %s of partition %d, which it does not serve", host, p.N)
		}
	}
	if len(first) == 0 || len(first) == n {
		t.Errorf("one of two nodes offered %d of %d lanes", len(first), n)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lookFor(t, b, n, time.Minute); len(got) != n {
		t.Errorf("the node that is left offered %d of %d lanes", len(got), n)
	}
}

// TestNodeThatStandsStill checks that another node offers what one serves that has stopped to look for work.
func TestNodeThatStandsStill(t *testing.T) {
	const n = 200
	nodes := acquainted(t, 2, 64)
	enqueue(t, nodes[0], submission("1", 100, manyHosts(n)...))
	if got := lookFor(t, nodes[1], n, time.Minute); len(got) != n { // the first does not look any more
		t.Errorf("the node that looks offered %d of %d lanes", len(got), n)
	}
}
