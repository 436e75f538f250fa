package redisq

import (
	"context"

	"github.com/postrider/postrider/internal/rediskeys"
)

// FeedPosition implements queue.Feed.
func (s *reader) FeedPosition(ctx context.Context, reader string) (cursor string, err error) {
	defer wrap(&err, "position in the feed")
	p := s.partitionOf(reader)
	err = s.read(ctx, s.client.B().Hget().Key(p.Key(rediskeys.Readers)).Field(reader).Build(), &cursor)
	return cursor, err
}

// SetFeedPosition implements queue.Feed.
func (s *reader) SetFeedPosition(ctx context.Context, reader, cursor string) (err error) {
	defer wrap(&err, "position in the feed")
	p := s.partitionOf(reader)
	_, err = s.do(ctx, s.client.B().Hset().Key(p.Key(rediskeys.Readers)).FieldValue().FieldValue(reader, cursor).Build())
	return err
}
