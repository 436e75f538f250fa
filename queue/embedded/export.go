package embedded

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Export implements queue.Moving.
func (s *Store) Export(ctx context.Context, next func(queue.Record) error) (err error) {
	defer wrap(&err, "export")
	e := &exporter{s: s, next: next}
	for _, step := range []func(context.Context) error{e.keys, e.orders, e.hosts, e.activities, e.receipts} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// exporter is one pass over all that the store holds.
type exporter struct {
	s    *Store
	next func(queue.Record) error
}

func (e *exporter) keys(ctx context.Context) error {
	return e.s.db.read(ctx, func(c *sqlite.Conn) error {
		return each(c, "SELECT "+keyColumns+" FROM keys ORDER BY id", nil, func(row *sqlite.Stmt) error {
			k := e.s.clock.shownKey(readKey(row))
			return cmp.Or(ctx.Err(), e.next(queue.Record{Key: &k}))
		})
	})
}

// orders exports those that cover other hosts.
func (e *exporter) orders(_ context.Context) error {
	var all []queue.MovedOrder
	e.s.mu.Lock()
	now := e.s.clock.now()
	for host, own := range e.s.index.orders.byHost {
		for kind, o := range own {
			if o.covers() && o.until > now {
				all = append(all, o.moved(e.s.clock, host, kind, now))
			}
		}
	}
	e.s.mu.Unlock()
	for i := range all {
		if err := e.next(queue.Record{Order: &all[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) hosts(_ context.Context) error {
	var all []queue.MovedHost
	e.s.mu.Lock()
	now := e.s.clock.now()
	for _, l := range e.s.index.lanes {
		m := queue.MovedHost{
			Host: l.host, Record: e.s.clock.shownRecord(l.record), Hastened: l.quick, ChangedAt: e.s.clock.shown(l.told.at),
		}
		for kind, o := range e.s.index.orders.of(l.host) {
			if o != nil && o.until > now {
				m.Orders = append(m.Orders, o.moved(e.s.clock, l.host, kind, now))
			}
		}
		if l.wait > now {
			m.Wait, m.Waited = time.Duration(l.wait-now)*time.Millisecond, time.Duration(now-l.since)*time.Millisecond
		}
		all = append(all, m)
	}
	e.s.mu.Unlock()
	slices.SortFunc(all, func(a, b queue.MovedHost) int { return strings.Compare(a.Host, b.Host) })
	for i := range all {
		if err := e.next(queue.Record{Host: &all[i]}); err != nil {
			return err
		}
	}
	return nil
}

// describing are the columns of an activity that describe reads.
const describing = "id, uri, type, key_id, ordering_key, priority, created, role, object, final, pin, actor, metadata, trace"

// describe reads an activity, all but its body, from the columns from the first on.
func (k *clock) describe(a *queue.Activity, row *sqlite.Stmt, first int) error {
	text := func(column int) string { return row.ColumnText(first + column) }
	a.ID, a.URI = uuidOf(row, first).String(), text(1)
	a.Type, a.KeyID = text(2), text(3)
	a.OrderingKey = text(4)
	a.Priority, a.CreatedAt = priorityOf(row, first+5), k.shown(row.ColumnInt64(first+6))
	a.Role, a.Object = queue.Role(row.ColumnInt(first+7)), text(8)
	a.Pin = text(10)
	a.Actor, a.Metadata = text(11), metadataOf(row, first+12)
	if row.ColumnLen(first+13) > 0 {
		a.Trace = blob(row, first+13)
	}
	return decode(text(9), &a.Final)
}

// activities exports activities and tombstones in the order accepted.
func (e *exporter) activities(ctx context.Context) error {
	return e.s.db.read(ctx, func(c *sqlite.Conn) error {
		before := int64(0)
		err := each(c, `SELECT seq, delivered, dead - letters, cancelled, coalesce(done_at, 0), first, first + total, body,
			`+describing+" FROM activities ORDER BY seq", nil, func(row *sqlite.Stmt) error {
			seq := row.ColumnInt64(0)
			if err := e.tombstones(c, before, seq); err != nil {
				return err
			}
			before = seq
			m := &queue.MovedActivity{Delivered: row.ColumnInt(1), Dead: row.ColumnInt(2), Cancelled: row.ColumnInt(3)}
			if done := row.ColumnInt64(4); done != 0 {
				m.Finished = max(0, time.Duration(e.s.clock.now()-done)*time.Millisecond)
			}
			if err := e.s.clock.describe(&m.Activity, row, 8); err != nil {
				logDamage(e.s.opts.Log, &damage{"activities", seq, err.Error()}) // it moves without its final statuses
			}
			err := e.deliveries(c, m, row.ColumnInt64(5), row.ColumnInt64(6))
			if err == nil && len(m.Deliveries) > 0 {
				m.Body, err = readBody(c, row.ColumnInt64(7))
			}
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			return e.next(queue.Record{Activity: m})
		})
		if err != nil {
			return err
		}
		return e.tombstones(c, before, never)
	})
}

// tombstones exports those with a seq from one up to, but not including, another.
func (e *exporter) tombstones(c *sqlite.Conn, from, to int64) error {
	return each(c, "SELECT object, uri, activity, created FROM tombstones WHERE seq >= ? AND seq < ? ORDER BY seq", []any{from, to},
		func(row *sqlite.Stmt) error {
			return e.next(queue.Record{Tombstone: &queue.MovedTombstone{
				Object: row.ColumnText(0), Deletion: row.ColumnText(1), ActivityID: uuidOf(row, 2).String(),
				CreatedAt: e.s.clock.shown(row.ColumnInt64(3)),
			}})
		})
}

// readBody returns nil if there is no such body.
func readBody(c *sqlite.Conn, id int64) (body []byte, err error) {
	body, _, err = one(c, blob, "SELECT body FROM bodies WHERE activity = ?", id)
	return body, err
}

func (e *exporter) deliveries(c *sqlite.Conn, m *queue.MovedActivity, first, end int64) error {
	e.s.mu.Lock()
	_, keyThere := e.s.keys.get(m.KeyName())
	e.s.mu.Unlock()
	now := e.s.clock.now()
	until := func(ms int64) time.Duration { return time.Duration(ms-now) * time.Millisecond }
	return each(c, `SELECT d.id, d.inbox, h.host, d.headers, d.attempts, d.history, '', d.due, d.expires, d.flags, d.ids
		FROM deliveries d JOIN hosts h ON h.lane = d.lane WHERE d.id >= ?1 AND d.id < ?2
		UNION ALL SELECT id, inbox, host, headers, attempts, history, reason, died_at, 0, 0, ids FROM dead WHERE id >= ?1 AND id < ?2
		ORDER BY 1`, []any{first, end}, func(row *sqlite.Stmt) error {
		d := queue.MovedDelivery{
			Recipient: queue.Recipient{Inbox: row.ColumnText(1), Host: row.ColumnText(2)},
			Attempts:  row.ColumnInt(4), Reason: queue.Reason(row.ColumnText(6)),
		}
		flags := uint8(row.ColumnInt64(9)) // a few bits
		switch {
		case d.Reason != "":
			d.DiedAt = e.s.clock.shown(row.ColumnInt64(7))
		case flags&waitsKey != 0: // if its key is there it is due since that came
			d.WaitKey = !keyThere
		default:
			d.After = until(row.ColumnInt64(7))
		}
		if d.Reason == "" {
			d.TTL, d.HostFailed = until(row.ColumnInt64(8)), flags&hostFailed != 0
		}
		m.Deliveries = append(m.Deliveries, d)
		last := &m.Deliveries[len(m.Deliveries)-1]
		last.History, last.IDs = decoded[queue.History](row, 5), decoded[[]string](row, 10)
		if err := decode(row.ColumnText(3), &last.Headers); err != nil {
			logDamage(e.s.opts.Log, &damage{"deliveries", row.ColumnInt64(0), "its headers: " + err.Error()}) // it moves without them
		}
		return nil
	})
}

func (e *exporter) receipts(ctx context.Context) error {
	since := e.s.clock.now() - queue.IdempotencyTTL.Milliseconds()
	return e.s.db.read(ctx, func(c *sqlite.Conn) error {
		return each(c, `SELECT id, uri, total, duplicates, note, idempotency, fingerprint, created, refused FROM activities
			WHERE idempotency IS NOT NULL AND created > ? ORDER BY seq`, []any{since}, func(row *sqlite.Stmt) error {
			key, fingerprint := blob(row, 5), blob(row, 6)
			if len(key) != sha256.Size || len(fingerprint) != sha256.Size {
				return nil // it is damaged
			}
			m := &queue.MovedReceipt{
				Receipt: queue.Receipt{
					ID: uuidOf(row, 0).String(), URI: row.ColumnText(1), Accepted: row.ColumnInt(2),
					Duplicates: row.ColumnInt(3), Note: blob(row, 4),
				},
				Idempotency: queue.Idempotency{Key: [32]byte(key), Fingerprint: [32]byte(fingerprint)},
				TTL:         time.Duration(row.ColumnInt64(7)-since) * time.Millisecond,
			}
			if err := errors.Join(decode(row.ColumnText(8), &m.Refused), ctx.Err()); err != nil {
				return err
			}
			return e.next(queue.Record{Receipt: m})
		})
	})
}
