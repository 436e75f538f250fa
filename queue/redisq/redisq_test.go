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
		b          queuetest.Backend // what is told of the set-up
	}{
		{"alone", 1, func(t *testing.T) string { return testredis.Start(t).URL() }, queuetest.Backend{}},
		{"alone, 4 partitions, as a user that may do what is documented", 4, func(t *testing.T) string {
			server := testredis.StartAhead(t, ahead)
			t.Cleanup(func() { checkKeys(t, server) })
			return restrict(t, server.URL(), server)
		}, queuetest.Backend{Ahead: ahead}},
		{"cluster", 8, func(t *testing.T) string { return testredis.StartCluster(t, 3).URL() }, queuetest.Backend{Small: true}},
		{"sentinel", 1, func(t *testing.T) string { return testredis.StartSentinel(t).URL() }, queuetest.Backend{Only: []string{
			"Enqueue", "Due", "Take", "Settle", "Events", "Watching", "Keys", "Restart", "Together",
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting
			contract(t, c.start(t), c.partitions, c.b)
		})
	}
}

// contract runs the contract's tests. Each case has a prefix of its own on a Redis that they share.
func contract(t *testing.T, url string, partitions int, b queuetest.Backend) {
	var cases atomic.Int64
	start := func(t *testing.T, o Options) queue.Queue { return calm{openStore(t, o)} }
	b.Shared = true
	b.Open = func(t *testing.T, o queuetest.Options) queue.Queue {
		return start(t, Options{
			URL: url, Prefix: fmt.Sprintf("test%d-%d", partitions, cases.Add(1)), Partitions: partitions,
			Limits: o.Limits,
		})
	}
	b.Reopen = func(t *testing.T, q queue.Queue) queue.Queue {
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		return start(t, q.(calm).opts)
	}
	b.Pass = func(t *testing.T, q queue.Queue, d time.Duration) { age(t, q.(calm).Store, d) }
	b.Leases = func(q queue.Queue) lockmgr.Manager { return q.(calm).Leases(time.Minute) }
	queuetest.Run(t, b)
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

// age makes all that ever happened to hosts so much longer ago, and has the next sweep look at them.
func age(t *testing.T, s *Store, d time.Duration) {
	t.Helper()
	const script = `local s = {cmsgpack.unpack(redis.call('HGET', KEYS[1], 's'))}
		for i, unit in pairs({[2] = 1000, [9] = 1, [10] = 1, [11] = 1}) do
			if (s[i] or 0) > 0 then s[i] = s[i] - ARGV[1] * unit end
		end
		return redis.call('HSET', KEYS[1], 's', cmsgpack.pack(unpack(s)))`
	for p := (queue.Page{Limit: 500}); ; {
		list, err := s.Hosts(t.Context(), queue.HostFilter{}, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range list.Items {
			eval := s.client.B().Eval().Script(script).Numkeys(1).Key(s.partitionOf(h.Host).Of("h", h.Host)).Arg(millis(d)).Build()
			if _, err := s.do(t.Context(), eval); err != nil {
				t.Fatal(err)
			}
		}
		if p.Cursor = list.Next; p.Cursor == "" {
			break
		}
	}
	s.known.next = time.Time{}
	s.sweepIn(0)
}
