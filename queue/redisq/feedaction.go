package redisq

import (
	"context"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// said is an entry about an action as scripts get it.
func said(e queue.Event) string {
	e.Kind = "" // all are of one
	return toJSON(&e)
}

// FeedAction implements queue.Feed. The entry is in the partition of its host, where those who ask for this host look.
func (s *Store) FeedAction(ctx context.Context, e queue.Event) (err error) {
	defer wrap(&err, "feed an action")
	n, err := s.partitionOf(e.Host).number(ctx, script.FeedAction, nil, []string{said(e)})
	s.fed(n)
	return err
}
