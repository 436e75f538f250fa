package embedded

import (
	"context"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// stored is the row of an activity.
type stored struct {
	queue.ActivityStatus
	seq, first, end int64
	priority        queue.Priority
}

const selectStored = `SELECT seq, first, total, delivered, dead, cancelled, id, uri, type, key_id, actor, metadata, created, priority, older
	FROM activities WHERE `

// readStored reads a row of selectStored.
func (k *clock) readStored(row *sqlite.Stmt) (a stored) {
	n := countsOf(row, 2)
	a.seq, a.first = row.ColumnInt64(0), row.ColumnInt64(1)
	a.end = row.ColumnInt64(1) + int64(n.Total)
	a.priority = priorityOf(row, 13)
	a.ActivityStatus = queue.ActivityStatus{
		ID: uuidOf(row, 6).String(), URI: row.ColumnText(7), Type: row.ColumnText(8), KeyID: row.ColumnText(9), Actor: row.ColumnText(10),
		Metadata: metadataOf(row, 11), CreatedAt: k.shown(row.ColumnInt64(12)), State: n.State(), Counts: n,
	}
	return a
}

// readActivity reads an activity, or returns queue.ErrNotFound.
func (k *clock) readActivity(c *sqlite.Conn, id string) (a stored, err error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return a, queue.ErrNotFound
	}
	err = each(c, selectStored+"id = ?", []any{key[:]}, func(row *sqlite.Stmt) error {
		a = k.readStored(row)
		return nil
	})
	if err == nil && a.seq == 0 {
		err = queue.ErrNotFound
	}
	return a, err
}

// Activity implements queue.Watching.
func (s *Store) Activity(ctx context.Context, id string) (_ queue.ActivityStatus, err error) {
	defer wrap(&err, "activity "+id)
	a, err := read(ctx, s.db, func(c *sqlite.Conn) (stored, error) { return s.clock.readActivity(c, id) })
	return a.ActivityStatus, err
}
