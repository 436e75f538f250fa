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
			err = s.resetAll(ctx, list.Items)
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

// resetAll resets hosts in one operation.
func (s *Store) resetAll(ctx context.Context, hosts []queue.HostStatus) error {
	acts := make([]*act, len(hosts))
	for i := range hosts {
		acts[i] = &act{s: s, host: hosts[i].Host, action: queue.Reset, asked: queue.Order{By: queue.Caller(ctx)}, many: true}
	}
	return s.writer.do(ctx, func(t *tx) (err error) {
		for i := 0; err == nil && i < len(acts); i++ {
			err = acts[i].run(t)
		}
		return err
	}, func() {
		for _, o := range acts {
			o.apply()
		}
	})
}
