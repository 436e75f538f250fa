package redisq

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
)

// TestJumps holds that jumps of Redis's wall clock lose nothing and hold nothing up.
func TestJumps(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			t.Parallel()
			server, cases := testredis.StartAhead(t, 0), 0
			options := map[queue.Queue]Options{}
			start := func(t *testing.T, o Options) queue.Queue {
				s := calm{openStore(t, o)}
				options[s] = o
				return s
			}
			ahead := time.Duration(0)
			b := queuetest.Backend{
				Shared: true,
				Open: func(t *testing.T, o queuetest.Options) queue.Queue {
					server.Jump(-ahead)
					ahead = 0
					cases++
					return start(t, Options{
						URL: server.URL(), Prefix: fmt.Sprintf("test%d", cases), Partitions: partitions, Limits: o.Limits,
					})
				},
				Reopen: func(t *testing.T, q queue.Queue) queue.Queue { return start(t, options[q]) },
				Jump: func(_ queue.Queue, by time.Duration) {
					server.Jump(by)
					ahead += by
				},
				Wrap: func(t *testing.T, f func(t *testing.T)) { f(t) },
			}
			queuetest.RunClock(t, b)
		})
	}
}
