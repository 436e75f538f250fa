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
	open := func(t *testing.T, dir string, jumped *time.Duration, o Options) queue.Queue {
		s, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return inDir{s, dir, jumped}
	}
	backend := queuetest.Backend{
		Open: func(t *testing.T, o queuetest.Options) queue.Queue {
			jumped := new(time.Duration)
			return open(t, t.TempDir(), jumped, Options{
				Limits: o.Limits, Leases: lockmgr.NewLocal(time.Minute),
				Wall: func() time.Time { return time.Now().Add(*jumped) },
			})
		},
		Leases: func(q queue.Queue) lockmgr.Manager { return q.(inDir).opts.Leases },
		Reopen: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			at := q.(inDir)
			return open(t, at.dir, at.jumped, at.opts)
		},
		Pass: func(_ *testing.T, _ queue.Queue, d time.Duration) { time.Sleep(d) },
		Jump: func(q queue.Queue, by time.Duration) { *q.(inDir).jumped += by },
		Wrap: func(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) },
		Days: true,
	}
	queuetest.Run(t, backend)
	t.Run("Clock", func(t *testing.T) { queuetest.RunClock(t, backend) })
	t.Run("Move", func(t *testing.T) { queuetest.RunMove(t, backend, backend) })
}

// inDir is a store that can be opened again.
type inDir struct {
	*Store
	dir    string
	jumped *time.Duration // how far its wall clock has jumped
}
