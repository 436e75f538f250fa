package redisq

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
)

// The contract, on each way to set Redis up.
func TestContract(t *testing.T) {
	for _, c := range []struct {
		name       string
		partitions int
		start      func(t *testing.T) (url string)
	}{
		{"alone", 1, func(t *testing.T) string { return testredis.Start(t).URL() }},
		{"alone, 4 partitions", 4, func(t *testing.T) string { return testredis.Start(t).URL() }},
		{"cluster", 8, func(t *testing.T) string { return testredis.StartCluster(t, 3).URL() }},
		{"sentinel", 1, func(t *testing.T) string { return testredis.StartSentinel(t).URL() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting
			contract(t, c.start(t), c.partitions)
		})
	}
}

// contract runs the contract's tests. Each case has a prefix of its own on a Redis that they share.
func contract(t *testing.T, url string, partitions int) {
	options := map[queue.Queue]Options{}
	var cases atomic.Int64
	start := func(t *testing.T, o Options) queue.Queue {
		s := openStore(t, o)
		options[s] = o
		return s
	}
	queuetest.Run(t, queuetest.Backend{
		Shared: true,
		Open: func(t *testing.T, o queuetest.Options) queue.Queue {
			return start(t, Options{
				URL: url, Prefix: fmt.Sprintf("test%d-%d", partitions, cases.Add(1)), Partitions: partitions,
				Limits: o.Limits,
			})
		},
		Reopen: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			return start(t, options[q])
		},
	})
}

// openStore opens a store that is closed when the test ends.
func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
