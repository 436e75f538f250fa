package embedded

import (
	"bytes"
	"encoding/binary"
	"maps"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// receipts find the activity that a call made by the call's idempotency key. They are in memory because keys are random:
// an index of them would make each new one write a page of its own. Of a key they know the first bytes, for a day at
// least and a third of one more at most; who finds something has to look whether it is that. Only the writer uses them.
type receipts struct {
	turns  [4]map[uint64]int64 // activities by key, the youngest first
	turned int64
}

const receiptTurn = int64(queue.IdempotencyTTL / 3 / time.Millisecond)

func newReceipts(now int64) receipts { return receipts{turns: [4]map[uint64]int64{{}}, turned: now} }

// add remembers what a transaction has made.
func (r *receipts) add(made map[uint64]int64, now int64) {
	for ; len(made) > 0 && r.turned <= now-receiptTurn; r.turned += receiptTurn {
		copy(r.turns[1:], r.turns[:])
		r.turns[0] = map[uint64]int64{}
	}
	maps.Copy(r.turns[0], made)
}

func (r *receipts) find(key uint64) (activity int64, ok bool) {
	for _, turn := range r.turns {
		if activity, ok = turn[key]; ok {
			break
		}
	}
	return activity, ok
}

func receiptKey(key []byte) uint64 { return binary.BigEndian.Uint64(key) }

// receipt returns the activity that may have an idempotency key, also if this transaction made it.
func (s *Store) receipt(t *tx, key *[32]byte) (activity int64, ok bool) {
	if activity, ok = t.receipts[receiptKey(key[:])]; ok {
		return activity, ok
	}
	return s.receipts.find(receiptKey(key[:]))
}

// remember keeps an activity's idempotency key, once the transaction is durable.
func (t *tx) remember(key *[32]byte, activity int64) {
	if t.receipts == nil {
		t.receipts = map[uint64]int64{}
	}
	t.receipts[receiptKey(key[:])] = activity
}

// loadReceipts remembers the keys of a day.
func (s *Store) loadReceipts(c *sqlite.Conn, now int64) error {
	s.receipts = newReceipts(now)
	return each(c, "SELECT seq, idempotency FROM activities WHERE idempotency IS NOT NULL AND created > ? ORDER BY created",
		[]any{now - queue.IdempotencyTTL.Milliseconds()}, func(row *sqlite.Stmt) error {
			s.receipts.turns[0][receiptKey(blob(row, 1))] = row.ColumnInt64(0)
			return nil
		})
}

// replay answers from the first receipt if the idempotency key is known.
func (e *enqueue) replay(t *tx) (known bool, err error) {
	seq, ok := e.s.receipt(t, &e.sub.Idempotency.Key)
	if !ok {
		return false, nil
	}
	err = each(t.conn, `SELECT id, uri, total, duplicates, refused, note, fingerprint, superseded FROM activities
		WHERE seq = ? AND idempotency = ? AND created > ?`,
		[]any{seq, e.sub.Idempotency.Key[:], e.now - queue.IdempotencyTTL.Milliseconds()}, func(row *sqlite.Stmt) error {
			known = true
			if !bytes.Equal(blob(row, 6), e.sub.Idempotency.Fingerprint[:]) {
				e.err = queue.ErrIdempotencyMismatch
				return nil
			}
			e.receipt = queue.Receipt{
				ID: uuid.UUID(blob(row, 0)).String(), URI: row.ColumnText(1), Accepted: row.ColumnInt(2),
				Duplicates: row.ColumnInt(3), Superseded: row.ColumnInt(7), Note: blob(row, 5), Replayed: true,
			}
			return decode(row.ColumnText(4), &e.receipt.Refused)
		})
	return known, err
}

// hasReceipt tells whether an idempotency key belongs to an activity created after a time.
func (s *Store) hasReceipt(t *tx, key *[32]byte, after int64) (known bool, err error) {
	seq, ok := s.receipt(t, key)
	if !ok {
		return false, nil
	}
	err = each(t.conn, "SELECT 1 FROM activities WHERE seq = ? AND idempotency = ? AND created > ?", []any{seq, key[:], after}, func(*sqlite.Stmt) error {
		known = true
		return nil
	})
	return known, err
}
