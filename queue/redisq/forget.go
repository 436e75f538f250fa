package redisq

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue/redisq/script"
)

// forget drops finished activities. The home partition decides when all of an activity is over, and goes first: from
// then on the activity isn't found any more. Remains in other partitions, of a node that died meanwhile, go by themselves.
func (s *sweeper) forget(ctx context.Context, p *partition, names []string) (did int, err error) {
	for _, name := range names {
		id := uuid.UUID([]byte(name))
		drop, err := s.isOver(ctx, p, id.String())
		if err != nil {
			return did, err
		}
		if drop == nil {
			err = p.drop(ctx, id, noMarks, s.opts.Retention-s.opts.Retention/waitShare)
		}
		for _, part := range drop {
			err = part.drop(ctx, id, part.marks(), 0)
			if err != nil {
				break
			}
			did++
		}
		if err != nil {
			return did, err
		}
	}
	return did, nil
}

// drop drops a finished activity from a partition or, with a time, has it count as finished so long ago.
func (p *partition) drop(ctx context.Context, id uuid.UUID, marks string, ago time.Duration) error {
	text := ""
	if ago > 0 {
		text = millis(ago)
	}
	return p.run(ctx, script.Forget, p.fiveMarked(p.activity(nil, id.String()), marks), []string{string(id[:]), text, marks})
}

// isOver returns the parts from which a finished activity can go, home first: none as long as anything pends, is a
// dead letter, or was finished too recently in another partition.
func (s *sweeper) isOver(ctx context.Context, p *partition, id string) (drop []part, err error) {
	if home := s.partitionOf(id); p != home {
		if _, found, err := home.readPart(ctx, id); err != nil || found {
			return nil, err
		}
		return []part{{partition: p}}, nil
	}
	parts, err := s.readParts(ctx, id)
	if err != nil {
		return nil, err
	}
	last := parts[0].finished
	for _, part := range parts {
		if part.counts.Pending > 0 || part.letters > 0 {
			return nil, nil
		}
		last = max(last, part.finished)
		drop = append(drop, part)
	}
	if last == parts[0].finished {
		return drop, nil
	}
	now, err := s.wallTime(ctx)
	if err != nil || parts[0].lag.stored(now)-last < s.opts.Retention.Milliseconds() {
		return nil, err
	}
	return drop, nil
}
