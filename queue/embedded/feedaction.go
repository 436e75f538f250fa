package embedded

import (
	"context"

	"github.com/postrider/postrider/queue"
)

// FeedAction implements queue.Feed.
func (s *Store) FeedAction(ctx context.Context, e queue.Event) (err error) {
	defer wrap(&err, "feed an action")
	return s.writer.do(ctx, func(t *tx) error { return t.feed(e) }, nil)
}
