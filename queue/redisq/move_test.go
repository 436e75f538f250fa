package redisq

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/queue/queuetest"
)

// What one kind of store holds can be moved to any other.
func TestMove(t *testing.T) {
	server, cluster := testredis.Start(t), testredis.StartCluster(t, 3)
	one, four, folder := redisBackend(server.URL(), 1), redisBackend(server.URL(), 4), folderBackend()
	for _, c := range []struct {
		name     string
		from, to queuetest.Backend
	}{
		{"from the embedded store", folder, one},
		{"to more partitions", one, four},
		{"to a cluster", four, redisBackend(cluster.URL(), 8)},
		{"from a cluster to the embedded store", redisBackend(cluster.URL(), 6), folder},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting
			queuetest.RunMove(t, c.from, c.to)
		})
	}
}

// redisBackend has a prefix of its own for each store.
func redisBackend(url string, partitions int) queuetest.Backend {
	var cases atomic.Int64
	return backend(func(*testing.T) Options {
		return Options{URL: url, Prefix: fmt.Sprintf("move%d-%d", partitions, cases.Add(1)), Partitions: partitions}
	}, func(t *testing.T, o Options) queue.Queue { return openStore(t, o) })
}

func folderBackend() queuetest.Backend {
	return backend(func(t *testing.T) string { return t.TempDir() }, func(t *testing.T, dir string) queue.Queue {
		s, err := embedded.Open(dir, embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}

// backend opens stores at new places, and again where they were.
func backend[P any](place func(*testing.T) P, open func(*testing.T, P) queue.Queue) queuetest.Backend {
	return queuetest.Backend{
		Shared: true,
		Open: func(t *testing.T, _ queuetest.Options) queue.Queue {
			at := place(t)
			return &placed{Queue: open(t, at), again: func(t *testing.T) queue.Queue { return open(t, at) }}
		},
		Reopen: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			again := q.(*placed).again
			return &placed{Queue: again(t), again: again}
		},
	}
}

// placed is a store that can be opened again.
type placed struct {
	queue.Queue
	again func(*testing.T) queue.Queue
}
