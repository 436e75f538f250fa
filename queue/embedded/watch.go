package embedded

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// stored is an activity as its row has it.
type stored struct {
	queue.ActivityStatus
	seq, first, end int64
}

func readActivity(c *sqlite.Conn, id string) (a stored, err error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return a, queue.ErrNotFound
	}
	err = each(c, `SELECT seq, first, uri, type, key_id, created, total, delivered, dead, cancelled FROM activities WHERE id = ?`,
		[]any{key[:]}, func(row *sqlite.Stmt) error {
			a.seq, a.first, a.ID = row.ColumnInt64(0), row.ColumnInt64(1), key.String()
			a.URI, a.Type, a.KeyID = row.ColumnText(2), row.ColumnText(3), row.ColumnText(4)
			a.CreatedAt = fromMillis(row.ColumnInt64(5))
			n := queue.Counts{Total: row.ColumnInt(6), Delivered: row.ColumnInt(7), Dead: row.ColumnInt(8), Cancelled: row.ColumnInt(9)}
			n.Pending = n.Total - n.Delivered - n.Dead - n.Cancelled
			a.Counts, a.State, a.end = n, n.State(), a.first+int64(n.Total)
			return nil
		})
	if err == nil && a.seq == 0 {
		err = queue.ErrNotFound
	}
	return a, err
}

// Activity implements queue.Watching.
func (s *Store) Activity(ctx context.Context, id string) (queue.ActivityStatus, error) {
	var a stored
	err := s.read(ctx, func(c *sqlite.Conn) (err error) {
		a, err = readActivity(c, id)
		return err
	})
	if err != nil {
		return queue.ActivityStatus{}, fmt.Errorf("activity %s: %w", id, err)
	}
	return a.ActivityStatus, nil
}

// Deliveries implements queue.Watching.
func (s *Store) Deliveries(ctx context.Context, id string, state queue.DeliveryState, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
	var list queue.List[queue.DeliveryStatus]
	from, err := cursor(p.Cursor, 1)
	if err != nil {
		return list, err
	}
	var a stored
	err = s.read(ctx, func(c *sqlite.Conn) error {
		if a, err = readActivity(c, id); err != nil {
			return err
		}
		return each(c, `SELECT d.id, d.inbox, h.host, '', d.attempts, d.last FROM deliveries d JOIN hosts h ON h.lane = d.lane
			WHERE d.id >= ?1 AND d.id < ?2 AND ?3 != 'dead'
			UNION ALL SELECT id, inbox, host, reason, attempts, last FROM dead WHERE id >= ?1 AND id < ?2 AND ?3 != 'pending'
			ORDER BY 1 LIMIT ?4`, []any{a.first + from[0], a.end, string(state), p.Limit + 1}, func(row *sqlite.Stmt) error {
			n := row.ColumnInt64(0) - a.first
			if len(list.Items) == p.Limit {
				list.Next = strconv.FormatInt(n, 10)
				return nil
			}
			d := queue.DeliveryStatus{
				ID: a.ID + "." + strconv.FormatInt(n, 10), Inbox: row.ColumnText(1), Host: row.ColumnText(2),
				State: queue.StatePending, Reason: queue.Reason(row.ColumnText(3)), Attempts: row.ColumnInt(4),
			}
			if d.Reason != "" {
				d.State = queue.StateDead
			}
			list.Items = append(list.Items, d)
			return decode(row.ColumnText(5), &list.Items[len(list.Items)-1].LastAttempt)
		})
	})
	if err != nil {
		return queue.List[queue.DeliveryStatus]{}, fmt.Errorf("deliveries of %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list.Items {
		_, n, _ := splitID(list.Items[i].ID)
		list.Items[i].NextAttemptAt = s.index.nextAttempt(a.first + n)
	}
	return list, nil
}

// nextAttempt returns when a delivery may be attempted next, zero if that is not known.
func (x *index) nextAttempt(id int64) time.Time {
	e := x.entries[id]
	if e == nil || e.prev != nil || e.due == never {
		return time.Time{}
	}
	if e.lane.probing() {
		return fromMillis(max(e.lane.wait, e.act.created))
	}
	return fromMillis(max(e.due, e.lane.wait))
}

// Stats implements queue.Watching.
func (s *Store) Stats(ctx context.Context) (queue.Stats, error) {
	var oldest time.Time
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, "SELECT a.created FROM deliveries d JOIN activities a ON a.seq = d.activity ORDER BY d.id LIMIT 1", nil,
			func(row *sqlite.Stmt) error {
				oldest = fromMillis(row.ColumnInt64(0))
				return nil
			})
	})
	if err != nil {
		return queue.Stats{}, fmt.Errorf("stats: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.snapshot(millis(time.Now()))
	st.OldestPendingAt = oldest
	return st, nil
}

// cursor parses n numbers that are not negative, joined by "-"; an empty cursor is all zeros.
func cursor(text string, n int) ([]int64, error) {
	numbers := make([]int64, n)
	if text == "" {
		return numbers, nil
	}
	parts := strings.Split(text, "-")
	if len(parts) != n {
		return nil, queue.ErrBadCursor
	}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 62)
		if err != nil {
			return nil, queue.ErrBadCursor
		}
		numbers[i] = int64(v)
	}
	return numbers, nil
}

// cursorAfter is the cursor of what comes after a name, and nameAfter the reverse.
func cursorAfter(name string) string { return "n" + base64.RawURLEncoding.EncodeToString([]byte(name)) }

func nameAfter(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	text, ok := strings.CutPrefix(cursor, "n")
	name, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(name) == 0 {
		return "", queue.ErrBadCursor
	}
	return string(name), nil
}
