package redisq

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/queue/queuetest"
)

// The contents of one kind of store can be moved to any other: each kind gives all it has, and takes it.
func TestMove(t *testing.T) {
	server, cluster := testredis.Start(t), testredis.StartCluster(t, 3)
	one, many := redisBackend(restrict(t, server.URL(), server), 1), redisBackend(cluster.URL(), 4)
	folder := folderBackend()
	for _, c := range []struct {
		name     string
		from, to queuetest.Backend
	}{
		{"from the embedded store to a cluster", folder, many},
		{"from a cluster to one partition", many, one},
		{"from one partition to the embedded store", one, folder},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			queuetest.RunMove(t, c.from, c.to)
		})
	}
}

// redisBackend has a prefix of its own for each store.
func redisBackend(url string, partitions int) queuetest.Backend {
	var cases atomic.Int64
	return backend(func(*testing.T) Options {
		return Options{URL: url, Prefix: fmt.Sprintf("move%d-%d", partitions, cases.Add(1)), Partitions: partitions}
	}, func(t *testing.T, o Options) queue.Queue { return calm{openStore(t, o)} })
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

// TestImportCutShort lets the process that moves an activity die between any two steps. Until it is moved again, or
// swept, it is not there at all or all there; then it is there once.
func TestImportCutShort(t *testing.T) {
	server := testredis.Start(t)
	hosts := manyHosts(30)
	source := openStore(t, Options{URL: server.URL(), Prefix: "source"})
	enqueue(t, source, submission("1", 100, hosts...))
	var m *queue.MovedActivity
	err := source.Export(t.Context(), func(r queue.Record) error {
		if r.Activity != nil {
			m = r.Activity
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Delivered = 5
	for _, swept := range []bool{false, true} {
		for last := range 5 {
			t.Run(fmt.Sprintf("after step %d, swept %t", last, swept), func(t *testing.T) {
				s := openStore(t, Options{URL: server.URL(), Prefix: fmt.Sprintf("cut%d%t", last, swept), Partitions: 3})
				in, err := s.newArrival(t.Context(), m, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				committed := dieAfter(t, in, last)
				if swept {
					sweepStaged(t, s, in, committed)
				}
				if n, err := s.Import(t.Context(), []queue.Record{{Activity: m}}); err != nil || n == 1 == committed {
					t.Errorf("Import stored %d, %v", n, err)
				}
				status, err := s.Activity(t.Context(), m.ID)
				if want := (queue.Counts{Total: 35, Pending: 30, Delivered: 5}); err != nil || status.Counts != want {
					t.Errorf("counts %+v, %v", status.Counts, err)
				}
				n := 0
				work(t, s, 1, hosts, func(int) queue.Result { n++; return queue.Result{Spent: true} })
				if st, err := s.Stats(t.Context()); err != nil || n != 30 || st.Pending != 0 || st.Activities != 1 {
					t.Errorf("%d deliveries were taken; stats are %+v, %v", n, st, err)
				}
				for _, key := range keysOf(t, server) {
					if strings.HasPrefix(key, s.opts.Prefix) && (strings.Contains(key, "claim") || strings.Contains(key, "}:s")) && !strings.HasSuffix(key, "stats") {
						t.Errorf("%s is left", key)
					}
				}
			})
		}
	}
}

// dieAfter makes the first steps of a move, and reports whether it was committed by then.
func dieAfter(t *testing.T, in *intake, last int) (committed bool) {
	t.Helper()
	ctx, all := t.Context(), split(t, in)
	r := queue.Receipt{}
	steps := []func() error{
		func() error { _, _, err := in.takeClaim(ctx); return err },
		func() error {
			_, err := in.stage(ctx, in.home, all[in.home][0], in.aboutBatch(in.home, 0, all))
			return err
		},
		func() (err error) { r, err = in.stageAll(ctx, all); return err },
		func() error { _, err := in.commit(ctx, r); return err },
		func() error { return in.s.release(ctx, in.home, in.id) },
	}
	for _, step := range steps[:last+1] {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if last < 3 {
		work(t, in.s, 1, manyHosts(30), func(int) queue.Result {
			t.Error("a delivery of what was not committed was taken")
			return queue.Result{}
		})
	}
	return last >= 3
}

// sweepStaged does what Sweep does a minute later: then the claim of what was not committed has lapsed.
func sweepStaged(t *testing.T, s *Store, in *intake, committed bool) {
	t.Helper()
	if !committed {
		if _, err := s.do(t.Context(), s.client.B().Del().Key(in.claims.Of("claim", in.claim)).Build()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range s.parts {
		if _, err := s.decide(t.Context(), p, []string{string(in.id[:])}); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := s.Stats(t.Context()); err != nil || committed != (st.Pending == 30) {
		t.Errorf("stats after a sweep: %+v, %v", st, err)
	}
}
