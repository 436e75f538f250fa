package embedded

import (
	"context"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// DeadLetters implements queue.Watching.
func (s *Store) DeadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (list queue.List[queue.DeadLetter], err error) {
	defer wrap(&err, "dead letters")
	before, err := queue.ParseCursor(p.Cursor, 2)
	if err != nil {
		return list, err
	}
	if p.Cursor == "" {
		before = []int64{never, never}
	}
	from, args := lettersFrom(s.clock, f, [2]int64(before))
	query := `SELECT d.id, d.died_at, a.id, a.first, a.uri, d.inbox, d.host, d.reason, d.attempts, d.history,
		d.ids, a.metadata
		FROM ` + from + " ORDER BY d.died_at DESC, d.id DESC"
	return read(ctx, s.db, func(c *sqlite.Conn) (queue.List[queue.DeadLetter], error) {
		return page(c, p.Limit, query, args, func(row *sqlite.Stmt) (queue.DeadLetter, string) {
			id, died := row.ColumnInt64(0), row.ColumnInt64(1)
			act := uuidOf(row, 2).String()
			return queue.DeadLetter{
				ID: act + "." + strconv.FormatInt(id-row.ColumnInt64(3), 10), ActivityID: act,
				URI: row.ColumnText(4), Inbox: row.ColumnText(5), Host: row.ColumnText(6), Reason: queue.Reason(row.ColumnText(7)),
				Attempts: row.ColumnInt(8), DiedAt: s.clock.shown(died), History: decoded[queue.History](row, 9),
				IDs: decoded[[]string](row, 10), Metadata: metadataOf(row, 11),
			}, fmt.Sprintf("%d-%d", died, id)
		})
	})
}

// lettersFrom is where the dead letters are, with their activities, that pass a filter and come after a position in the list.
func lettersFrom(k *clock, f queue.DeadLetterFilter, before [2]int64) (from string, args []any) {
	from = "dead d " + lettersIndex(f) + " JOIN activities a ON a.seq = d.activity WHERE (d.died_at, d.id) < (?, ?)"
	args = []any{before[0], before[1]}
	narrow := func(by bool, condition string, values ...any) {
		if by {
			from, args = from+" AND "+condition, append(args, values...)
		}
	}
	narrow(!f.Since.IsZero(), "d.died_at >= ?", k.stored(f.Since))
	narrow(f.Host != "", "d.host = ?", f.Host)
	narrow(f.Reason != "", "d.reason = ?", string(f.Reason))
	narrow(f.Inbox != "", "d.inbox = ?", f.Inbox)
	narrow(f.URI != "", "d.uri = ? AND a.uri = ?", int64(hashOf(f.URI)), f.URI)
	return from, args
}

// lettersIndex names the index by which the dead letters are found that pass a filter, where SQLite may choose a worse one.
func lettersIndex(f queue.DeadLetterFilter) string {
	switch {
	case f.Inbox != "":
		return "INDEXED BY dead_inbox"
	case f.URI != "":
		return "INDEXED BY dead_uri"
	case f.Host != "":
		return "INDEXED BY dead_host" // also if a reason is asked for: see there
	}
	return ""
}
