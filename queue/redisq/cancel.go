package redisq

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Cancel implements queue.Operating.
func (s *Store) Cancel(ctx context.Context, id string) (status queue.ActivityStatus, err error) {
	defer wrap(&err, "cancel "+id)
	u, text, err := canonical(id)
	if err != nil {
		return status, err
	}
	cancelled, failed := s.cancelAll(ctx, u)
	ctx = context.WithoutCancel(ctx) // what was cancelled is to be in the feed
	status, err = s.Activity(ctx, text)
	if cancelled > 0 {
		if err := s.FeedAction(ctx, queue.ActivityActed(ctx, queue.ActionCancel, text, status.URI)); err != nil {
			s.logLimited("feed", err)
		}
	}
	return status, cmp.Or(failed, err)
}

// cancelAll cancels what is pending of an activity, and returns how many deliveries that was.
func (s *Store) cancelAll(ctx context.Context, id uuid.UUID) (cancelled int, err error) {
	parts, err := s.readReleased(ctx, id)
	for _, p := range parts {
		if err == nil && p.counts.Pending > 0 {
			var n int
			n, err = s.removeAll(ctx, p.partition, id, cancel)
			cancelled += n
		}
	}
	return cancelled, err
}

// removal says what is taken out, and what becomes of it; see remove.lua.
type removal string

const (
	cancel removal = "cancel"
	expire removal = "expire"
)

// removeAll takes out what pends of an activity in a partition.
func (s *sweeper) removeAll(ctx context.Context, p *partition, id uuid.UUID, how removal) (removed int, err error) {
	err = p.pages(ctx, id.String(), 0, func(page []listed) (more bool, err error) {
		for some := range slices.Chunk(page, laneChunk) {
			n, err := s.remove(ctx, p, id, how, some)
			if removed += n; err != nil {
				return false, err
			}
		}
		return true, nil
	})
	return removed, err
}

func (s *sweeper) remove(ctx context.Context, p *partition, id uuid.UUID, how removal, some []listed) (removed int, err error) {
	hosts, args := wantPending(some)
	if len(hosts) == 0 {
		return 0, nil
	}
	args = append([]string{string(id[:]), string(how)}, args...)
	var fed int
	var due []rueidis.RedisMessage
	err = p.run(ctx, script.Remove, p.lanes(p.activity(nil, id.String()), hosts), args, &removed, &fed, &due)
	if err == nil {
		err = s.noteFeed(p, fed, due)
	}
	return removed, err
}
