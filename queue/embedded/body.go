package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Body implements queue.Watching.
func (s *Store) Body(ctx context.Context, id string) (_ []byte, err error) {
	defer wrap(&err, "body of "+id)
	return read(ctx, s.db, func(c *sqlite.Conn) ([]byte, error) { return readBodyOf(c, id) })
}

// readBodyOf reads the body of an activity, or returns queue.ErrNotFound.
func readBodyOf(c *sqlite.Conn, id string) (body []byte, err error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return nil, queue.ErrNotFound
	}
	var digest []byte
	var at int64
	err = each(c, "SELECT body, digest FROM activities WHERE id = ? AND body IS NOT NULL", []any{key[:]}, func(row *sqlite.Stmt) error {
		at, digest = row.ColumnInt64(0), blob(row, 1)
		return nil
	})
	if err == nil && at != 0 {
		body, err = readBody(c, at)
	}
	sum := sha256.Sum256(body)
	if err == nil && (at == 0 || body == nil || !bytes.Equal(digest, sum[:])) { // those of damaged ones are lost
		err = queue.ErrNotFound
	}
	return body, err
}
