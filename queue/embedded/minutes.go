package embedded

import (
	"context"
	"maps"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// AddMinute implements queue.Recent. It drops minutes that were kept long enough.
func (s *Store) AddMinute(ctx context.Context, c queue.Counted) (_ time.Duration, err error) {
	defer wrap(&err, "add minute")
	now := s.clock.shown(s.clock.now())
	at := millis(c.Minute(now))
	err = s.writer.do(ctx, func(t *tx) error {
		numbers := map[string]int64{}
		err := each(t.conn, "SELECT numbers FROM minutes WHERE at = ?", []any{at}, func(row *sqlite.Stmt) error {
			numbers = numbersOf(row, 0)
			return nil
		})
		if err != nil {
			return err
		}
		for name, n := range c.Sums {
			numbers[name] += n
		}
		maps.Copy(numbers, c.Levels)
		if err := t.exec("INSERT OR REPLACE INTO minutes (at, numbers) VALUES (?, ?)", at, toJSON(numbers)); err != nil {
			return err
		}
		return t.exec("DELETE FROM minutes WHERE at < ?", millis(now)-queue.MinutesKept*time.Minute.Milliseconds())
	}, nil)
	return queue.NextMinute(now), err
}

// Minutes implements queue.Recent.
func (s *Store) Minutes(ctx context.Context, n int) (_ []queue.Minute, err error) {
	defer wrap(&err, "minutes")
	minutes := queue.NewMinutes(s.clock.shown(s.clock.now()), n)
	first := minutes[0].At
	err = s.db.read(ctx, func(c *sqlite.Conn) error {
		bounds := []any{millis(first), millis(minutes[n-1].At)}
		return each(c, "SELECT at, numbers FROM minutes WHERE at BETWEEN ? AND ?", bounds, func(row *sqlite.Stmt) error {
			at := fromMillis(row.ColumnInt64(0))
			minutes[at.Sub(first)/time.Minute].Numbers = numbersOf(row, 1)
			return nil
		})
	})
	return minutes, err
}

// numbersOf reads what was counted in a minute, nothing if it is damaged.
func numbersOf(row *sqlite.Stmt, column int) map[string]int64 {
	numbers := map[string]int64{}
	if decode(row.ColumnText(column), &numbers) != nil || numbers == nil {
		return map[string]int64{}
	}
	return numbers
}
