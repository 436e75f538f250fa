package redisq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Act implements queue.Operating.
func (s *Store) Act(ctx context.Context, host string, action queue.HostAction) (queue.HostStatus, error) {
	if err := s.act(ctx, host, action); err != nil {
		return queue.HostStatus{}, fmt.Errorf("%s %s: %w", action, host, err)
	}
	return s.Host(ctx, host)
}

func (s *Store) act(ctx context.Context, host string, action queue.HostAction) error {
	if !slices.Contains(queue.HostActions, action) {
		return errors.New("no such action")
	}
	p := s.partitionOf(host)
	if action == queue.Reset {
		return s.reset(ctx, p, host)
	}
	fed, err := p.number(ctx, script.Act, p.lane(nil, host), []string{host, string(action)})
	s.fed(fed)
	for action == queue.Block && err == nil { // what this leaves if it is cut short, Sweep does
		var chosen int
		if chosen, _, err = s.shed(ctx, p, host); chosen == 0 {
			break
		}
	}
	return err
}
