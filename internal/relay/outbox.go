package relay

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	maxRows  = 1000    // in one batch, as many as a node accepts
	maxBatch = 8 << 20 // bytes of the calls in one batch, unless it is a single one
	maxSlots = 4       // locked at a time, so that there are some for other workers
)

// begin starts a transaction that the database ends if the relay hangs, so that another relay can have its rows.
var begin = pgx.TxOptions{BeginQuery: fmt.Sprintf(
	"BEGIN; SET LOCAL idle_in_transaction_session_timeout = %d", (callTimeout + databaseTimeout).Milliseconds())}

const (
	// claimSQL locks some slots that have rows and that no other worker has locked. It picks them at random, so that rows
	// that the node does not accept for now do not starve the other slots.
	claimSQL = `SELECT slot FROM postrider_outbox_slots s
		WHERE EXISTS (SELECT FROM postrider_outbox o WHERE o.slot = s.slot AND o.refused_at IS NULL)
		ORDER BY random() LIMIT $1 FOR UPDATE SKIP LOCKED`

	// rowsSQL reads the oldest rows of slots. It runs after claimSQL, so it sees what the worker that had the slots before
	// has done.
	rowsSQL = `WITH oldest AS (
			SELECT w.id FROM unnest($1::smallint[]) s(slot), LATERAL (
				SELECT id FROM postrider_outbox WHERE slot = s.slot AND refused_at IS NULL ORDER BY id LIMIT $2
			) w ORDER BY id LIMIT $2
		), measured AS (
			SELECT o.*, sum(octet_length(call)) OVER (ORDER BY id) AS total FROM postrider_outbox o JOIN oldest USING (id)
		)
		SELECT id, created_at, ordering_key, call FROM measured
		WHERE total <= $3 OR total = octet_length(call) ORDER BY id`

	deleteSQL = `DELETE FROM postrider_outbox WHERE id = ANY($1)`

	refuseSQL = `UPDATE postrider_outbox SET refused_at = now(), reason = r.reason::json
		FROM unnest($1::bigint[], $2::text[]) r(id, reason) WHERE postrider_outbox.id = r.id`
)

// row is a row of the outbox.
type row struct {
	ID          int64
	CreatedAt   time.Time
	OrderingKey *string // nil if the node is to derive it
	Call        string
}

// key is the idempotency key of the row. The time distinguishes rows with the same ID in the outboxes of several apps, and
// those of a table that was made again.
func (r *row) key() string {
	return "outbox-" + strconv.FormatInt(r.ID, 10) + "-" + strconv.FormatInt(r.CreatedAt.UnixMicro(), 10)
}

// batch hands the oldest rows of some slots over, and settles them. Its error is the database's.
func (w *worker) batch(ctx context.Context) (all results, err error) {
	tx, rows, err := w.claim(ctx)
	if tx != nil {
		defer rollback(ctx, tx)
	}
	if err != nil || len(rows) == 0 {
		return all, err
	}
	all = w.handOver(ctx, rows)
	if err := w.settle(ctx, tx, all); err != nil {
		return results{}, err
	}
	w.metrics.count(all)
	for _, r := range all.refused {
		w.Log.Warn("relay.refused", "row", r.id, "reason", r.reason)
	}
	return all, nil
}

// claim begins a transaction that locks some slots, and reads their oldest rows. The caller ends the transaction, unless it
// is nil.
func (w *worker) claim(ctx context.Context) (pgx.Tx, []row, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	tx, err := w.conn.BeginTx(ctx, begin)
	if err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	slots, err := collect(ctx, tx, pgx.RowTo[int16], claimSQL, maxSlots)
	if err != nil || len(slots) == 0 {
		return tx, nil, wrap("lock slots", err)
	}
	rows, err := collect(ctx, tx, pgx.RowToStructByPos[row], rowsSQL, slots, maxRows, maxBatch)
	return tx, rows, wrap("read rows", err)
}

// collect runs a query and returns its rows.
func collect[T any](ctx context.Context, tx pgx.Tx, read pgx.RowToFunc[T], query string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, read)
}

// settle stores the results of a batch, and ends its transaction. The end of ctx does not keep it from that.
func (w *worker) settle(ctx context.Context, tx pgx.Tx, all results) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseTimeout)
	defer cancel()
	var ids []int64
	var reasons []string
	for _, r := range all.refused {
		ids = append(ids, r.id)
		reasons = append(reasons, r.reason)
	}
	var both pgx.Batch
	both.Queue(deleteSQL, all.accepted)
	if len(ids) > 0 {
		both.Queue(refuseSQL, ids, reasons)
	}
	if err := tx.SendBatch(ctx, &both).Close(); err != nil {
		return fmt.Errorf("settle rows: %w", err)
	}
	return wrap("commit", tx.Commit(ctx))
}

// rollback ends a transaction that was not committed.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = tx.Rollback(ctx) // it has ended, or its connection has
}

func wrap(step string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}
