package embedded

import (
	"context"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// DeadLetters implements queue.Watching.
func (s *Store) DeadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (queue.List[queue.DeadLetter], error) {
	var list queue.List[queue.DeadLetter]
	before, err := cursor(p.Cursor, 2)
	if err != nil {
		return list, err
	}
	if p.Cursor == "" {
		before = []int64{never, never}
	}
	from, args := lettersFrom(f, [2]int64(before))
	query := `SELECT d.id, d.died_at, a.id, a.first, a.uri, d.inbox, d.host, d.reason, d.attempts, d.last
		FROM ` + from + " ORDER BY d.died_at DESC, d.id DESC LIMIT ?"
	args = append(args, p.Limit+1)
	var last [2]int64
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, query, args, func(row *sqlite.Stmt) error {
			if len(list.Items) == p.Limit {
				list.Next = fmt.Sprintf("%d-%d", last[0], last[1])
				return nil
			}
			last = [2]int64{row.ColumnInt64(1), row.ColumnInt64(0)}
			act := uuid.UUID(blob(row, 2)).String()
			list.Items = append(list.Items, queue.DeadLetter{
				ID: act + "." + strconv.FormatInt(row.ColumnInt64(0)-row.ColumnInt64(3), 10), ActivityID: act,
				URI: row.ColumnText(4), Inbox: row.ColumnText(5), Host: row.ColumnText(6), Reason: queue.Reason(row.ColumnText(7)),
				Attempts: row.ColumnInt(8), DiedAt: fromMillis(row.ColumnInt64(1)),
			})
			return decode(row.ColumnText(9), &list.Items[len(list.Items)-1].LastAttempt)
		})
	})
	if err != nil {
		return queue.List[queue.DeadLetter]{}, fmt.Errorf("dead letters: %w", err)
	}
	return list, nil
}

// lettersFrom is where the dead letters are, with their activities, that pass a filter and come after a place in the list.
func lettersFrom(f queue.DeadLetterFilter, before [2]int64) (from string, args []any) {
	index := ""
	if f.Host != "" {
		index = "INDEXED BY dead_host" // also if a reason is asked for: see there
	}
	from = "dead d " + index + " JOIN activities a ON a.seq = d.activity WHERE (d.died_at, d.id) < (?, ?)"
	args = []any{before[0], before[1]}
	if !f.Since.IsZero() {
		from, args = from+" AND d.died_at >= ?", append(args, millis(f.Since))
	}
	if f.Host != "" {
		from, args = from+" AND d.host = ?", append(args, f.Host)
	}
	if f.Reason != "" {
		from, args = from+" AND d.reason = ?", append(args, string(f.Reason))
	}
	return from, args
}
