package redisq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/postrider/postrider/queue"
)

// Act implements queue.Operating.
func (s *Store) Act(ctx context.Context, host string, action queue.HostAction, order queue.Order) (queue.HostStatus, error) {
	if err := s.act(ctx, host, action, order); err != nil {
		return queue.HostStatus{}, fmt.Errorf("%s %s: %w", action, host, err)
	}
	return s.Host(ctx, host)
}

func (s *Store) act(ctx context.Context, host string, action queue.HostAction, order queue.Order) error {
	if !slices.Contains(queue.HostActions, action) {
		return errors.New("no such action")
	}
	p := s.partitionOf(host)
	if action == queue.Reset {
		return s.reset(ctx, host, order.By, said(queue.HostActed(host, action, order)))
	}
	others, err := s.change(ctx, change{host, action, order})
	if err == nil && others {
		s.reviewAll(ctx)
	}
	for action == queue.Block && err == nil { // what this leaves if it is cut short, Sweep does
		var chosen int
		if chosen, _, err = s.shed(ctx, p, host); chosen == 0 {
			break
		}
	}
	return err
}
