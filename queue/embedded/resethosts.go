package embedded

import (
	"context"

	"github.com/postrider/postrider/queue"
)

// resetAtOnce is how many hosts one operation resets, with all that waits because they failed.
const resetAtOnce = 100

// ResetHosts implements queue.Operating.
func (s *Store) ResetHosts(ctx context.Context, state queue.HostState) (reset int, err error) {
	defer wrap(&err, "reset hosts")
	for p := (queue.Page{Limit: resetAtOnce}); ; {
		list, err := s.Hosts(ctx, queue.HostFilter{State: state}, p)
		if err == nil {
			run, apply := resets(s, list.Items)
			err = s.writer.do(ctx, run, apply)
		}
		if err != nil {
			return reset, err
		}
		reset += len(list.Items)
		if p.Cursor = list.Next; p.Cursor == "" {
			return reset, nil
		}
	}
}

// resets returns the operation that resets hosts.
func resets(s *Store, hosts []queue.HostStatus) (run func(*tx) error, apply func()) {
	acts := make([]*act, len(hosts))
	for i := range hosts {
		acts[i] = &act{s: s, host: hosts[i].Host, action: queue.Reset}
	}
	return func(t *tx) error {
			for _, o := range acts {
				if err := o.run(t); err != nil {
					return err
				}
			}
			return nil
		}, func() {
			for _, o := range acts {
				o.apply()
			}
		}
}
