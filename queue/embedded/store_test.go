package embedded

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
)

// The contract, in virtual time.
func TestContract(t *testing.T) {
	dirs := map[queue.Queue]string{}
	options := map[queue.Queue]Options{}
	open := func(t *testing.T, dir string, o Options) queue.Queue {
		s, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		dirs[s], options[s] = dir, o
		return s
	}
	backend := queuetest.Backend{
		Open: func(t *testing.T, o queuetest.Options) queue.Queue {
			return open(t, t.TempDir(), Options{Limits: o.Limits, Leases: lockmgr.NewLocal(time.Minute)})
		},
		Leases: func(q queue.Queue) lockmgr.Manager { return options[q].Leases },
		Reopen: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, dirs[q], options[q])
		},
		Wrap: func(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) },
		Days: true,
	}
	queuetest.Run(t, backend)
	t.Run("Move", func(t *testing.T) { queuetest.RunMove(t, backend, backend) })
}
