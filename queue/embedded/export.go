package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Export implements queue.Moving.
func (s *Store) Export(ctx context.Context, next func(queue.Record) error) error {
	for _, step := range []func(context.Context, func(queue.Record) error) error{
		s.exportKeys, s.exportHosts, s.exportActivities, s.exportReceipts,
	} {
		if err := step(ctx, next); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}

func (s *Store) exportKeys(ctx context.Context, next func(queue.Record) error) error {
	for p := (queue.Page{Limit: 500}); ; {
		list, err := s.Keys(ctx, p)
		if err != nil {
			return err
		}
		for i := range list.Items {
			if err := next(queue.Record{Key: &list.Items[i]}); err != nil {
				return err
			}
		}
		if p.Cursor = list.Next; p.Cursor == "" {
			return nil
		}
	}
}

func (s *Store) exportHosts(_ context.Context, next func(queue.Record) error) error {
	var all []queue.MovedHost
	s.mu.Lock()
	now := millis(time.Now())
	for _, l := range s.index.lanes {
		m := queue.MovedHost{Host: l.host, Record: l.record, Hastened: l.quick, Paused: l.paused, Blocked: l.blocked}
		if l.wait > now {
			m.Wait, m.Waited = time.Duration(l.wait-now)*time.Millisecond, time.Duration(now-l.since)*time.Millisecond
		}
		all = append(all, m)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b queue.MovedHost) int { return strings.Compare(a.Host, b.Host) })
	for i := range all {
		if err := next(queue.Record{Host: &all[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) exportActivities(ctx context.Context, next func(queue.Record) error) error {
	return s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, `SELECT seq, id, uri, type, key_id, ordering_key, priority, created, delivered, dead - letters, cancelled,
			coalesce(done_at, 0), first, first + total, role FROM activities ORDER BY seq`, nil, func(row *sqlite.Stmt) error {
			m := &queue.MovedActivity{
				Activity: queue.Activity{
					ID: uuid.UUID(blob(row, 1)).String(), URI: row.ColumnText(2), Type: row.ColumnText(3), KeyID: row.ColumnText(4),
					OrderingKey: row.ColumnText(5), Priority: queue.Priority(row.ColumnInt(6)),
					Role: queue.Role(row.ColumnInt(14)), CreatedAt: fromMillis(row.ColumnInt64(7)),
				},
				Delivered: row.ColumnInt(8), Dead: row.ColumnInt(9), Cancelled: row.ColumnInt(10),
			}
			if done := row.ColumnInt64(11); done != 0 {
				m.Finished = max(0, time.Since(fromMillis(done)))
			}
			err := s.exportDeliveries(c, m, row.ColumnInt64(12), row.ColumnInt64(13))
			if err == nil {
				m.Body, err = readBody(c, row.ColumnInt64(0))
			}
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			return next(queue.Record{Activity: m})
		})
	})
}

func readBody(c *sqlite.Conn, seq int64) (body []byte, err error) {
	err = each(c, "SELECT body FROM bodies WHERE activity = ?", []any{seq}, func(row *sqlite.Stmt) error {
		body = blob(row, 0)
		return nil
	})
	return body, err
}

func (s *Store) exportDeliveries(c *sqlite.Conn, m *queue.MovedActivity, first, end int64) error {
	s.mu.Lock()
	_, keyThere := s.keys.get(m.KeyID)
	s.mu.Unlock()
	now := time.Now()
	until := func(ms int64) time.Duration { return time.Duration(ms-millis(now)) * time.Millisecond }
	return each(c, `SELECT d.id, d.inbox, h.host, d.headers, d.attempts, d.last, '', d.due, d.expires, d.flags
		FROM deliveries d JOIN hosts h ON h.lane = d.lane WHERE d.id >= ?1 AND d.id < ?2
		UNION ALL SELECT id, inbox, host, headers, attempts, last, reason, died_at, 0, 0 FROM dead WHERE id >= ?1 AND id < ?2
		ORDER BY 1`, []any{first, end}, func(row *sqlite.Stmt) error {
		d := queue.MovedDelivery{
			Recipient: queue.Recipient{Inbox: row.ColumnText(1), Host: row.ColumnText(2)},
			Attempts:  row.ColumnInt(4), Reason: queue.Reason(row.ColumnText(6)),
		}
		flags := uint8(row.ColumnInt64(9)) //nolint:gosec // a few bits
		switch {
		case d.Reason != "":
			d.DiedAt = fromMillis(row.ColumnInt64(7))
		case flags&waitsKey != 0: // if its key is there it is due since that came
			d.WaitKey = !keyThere
		default:
			d.After = max(0, until(row.ColumnInt64(7)))
		}
		if d.Reason == "" {
			d.TTL, d.HostFailed = until(row.ColumnInt64(8)), flags&hostFailed != 0
		}
		m.Deliveries = append(m.Deliveries, d)
		last := &m.Deliveries[len(m.Deliveries)-1]
		return errors.Join(decode(row.ColumnText(3), &last.Headers), decode(row.ColumnText(5), &last.LastAttempt))
	})
}

func (s *Store) exportReceipts(ctx context.Context, next func(queue.Record) error) error {
	since := millis(time.Now().Add(-queue.IdempotencyTTL))
	return s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, `SELECT id, uri, total, duplicates, note, idempotency, fingerprint, created, refused, superseded FROM activities
			WHERE idempotency IS NOT NULL AND created > ? ORDER BY seq`, []any{since}, func(row *sqlite.Stmt) error {
			m := &queue.MovedReceipt{
				Receipt: queue.Receipt{
					ID: uuid.UUID(blob(row, 0)).String(), URI: row.ColumnText(1), Accepted: row.ColumnInt(2),
					Duplicates: row.ColumnInt(3), Superseded: row.ColumnInt(9), Note: blob(row, 4),
				},
				Idempotency: queue.Idempotency{Key: [32]byte(blob(row, 5)), Fingerprint: [32]byte(blob(row, 6))},
				TTL:         time.Duration(row.ColumnInt64(7)-since) * time.Millisecond,
			}
			if err := errors.Join(decode(row.ColumnText(8), &m.Refused), ctx.Err()); err != nil {
				return err
			}
			return next(queue.Record{Receipt: m})
		})
	})
}

func (s *Store) markFile() string { return filepath.Join(filepath.Dir(s.lock.Path()), "mark") }

// Mark implements queue.Moving. It is a file in the store's folder.
func (s *Store) Mark(context.Context) (queue.Mark, error) {
	text, err := os.ReadFile(s.markFile())
	if errors.Is(err, fs.ErrNotExist) {
		return queue.Mark{}, nil
	}
	if err != nil {
		return queue.Mark{}, fmt.Errorf("mark: %w", err)
	}
	return queue.Mark{Text: strings.TrimSpace(string(text)), Remove: "rm " + s.markFile()}, nil
}

// SetMark implements queue.Moving.
func (s *Store) SetMark(_ context.Context, text string) error {
	if text != "" {
		return writeWhole(s.markFile(), text+"\n")
	}
	if err := os.Remove(s.markFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove mark: %w", err)
	}
	return syncDir(filepath.Dir(s.markFile()))
}
