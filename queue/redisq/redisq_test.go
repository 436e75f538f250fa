package redisq

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
)

// The contract, on each way to set Redis up, once with clocks that are a day apart: only Redis's counts.
func TestContract(t *testing.T) {
	const ahead = 26 * time.Hour
	for _, c := range []struct {
		name       string
		partitions int
		start      func(t *testing.T) (url string)
		ahead      time.Duration // how far Redis's clock is ahead of ours
	}{
		{"alone", 1, func(t *testing.T) string { return testredis.Start(t).URL() }, 0},
		{"alone, 4 partitions, as a user that may do what is documented", 4, func(t *testing.T) string {
			server := testredis.StartAhead(t, ahead)
			t.Cleanup(func() { checkKeys(t, server) })
			return restrict(t, server.URL(), server)
		}, ahead},
		{"cluster", 8, func(t *testing.T) string { return testredis.StartReplicatedCluster(t, 3).URL() }, 0},
		{"sentinel", 1, func(t *testing.T) string { return testredis.StartSentinel(t).URL() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting
			contract(t, c.start(t), c.partitions, c.ahead)
		})
	}
}

// contract runs the contract's tests. Each case has a prefix of its own on a Redis that they share.
func contract(t *testing.T, url string, partitions int, ahead time.Duration) {
	options := map[queue.Queue]Options{}
	var cases atomic.Int64
	start := func(t *testing.T, o Options) queue.Queue {
		s := calm{openStore(t, o)}
		options[s] = o
		return s
	}
	queuetest.Run(t, queuetest.Backend{
		Shared: true,
		Ahead:  ahead,
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
		Leases: func(q queue.Queue) lockmgr.Manager { return q.(calm).Leases(time.Minute) },
	})
}

// calm is a store whose large submissions are in the lanes once they are accepted, for who looks there at once.
type calm struct{ *Store }

func (c calm) Enqueue(ctx context.Context, sub *queue.Submission) (queue.Receipt, error) {
	defer c.releases.Wait()
	return c.Store.Enqueue(ctx, sub)
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
