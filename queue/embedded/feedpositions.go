package embedded

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// FeedPosition implements queue.Feed.
func (s *Store) FeedPosition(ctx context.Context, reader string) (cursor string, err error) {
	defer wrap(&err, "position of "+reader+" in the feed")
	return read(ctx, s.db, func(c *sqlite.Conn) (cursor string, err error) {
		cursor, _, err = one(c, (*sqlite.Stmt).ColumnText, "SELECT cursor FROM positions WHERE reader = ?", reader)
		return cursor, err
	})
}

// SetFeedPosition implements queue.Feed.
func (s *Store) SetFeedPosition(ctx context.Context, reader, cursor string) error {
	return s.writer.do(ctx, func(t *tx) error {
		return t.exec("INSERT INTO positions (reader, cursor) VALUES (?, ?) ON CONFLICT (reader) DO UPDATE SET cursor = excluded.cursor", reader, cursor)
	}, nil)
}
