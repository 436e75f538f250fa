package embedded

import (
	"bytes"
	"encoding/binary"
	"maps"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// receipts find the activity of a call by its idempotency key. They are in memory because keys are random: an index in the
// database would write a page for each. They know only the first bytes of a key, for 24 to 32 hours, so the row must be compared
// too. Only the writer uses them.
type receipts struct {
	generations [4]map[uint64]int64 // activities by key, the youngest first
	rotated     int64
}

const receiptGeneration = int64(queue.IdempotencyTTL / 3 / time.Millisecond)

func newReceipts(now int64) receipts {
	return receipts{generations: [4]map[uint64]int64{{}}, rotated: now}
}

// add adds the receipts of a transaction.
func (r *receipts) add(made map[uint64]int64, now int64) {
	for ; len(made) > 0 && r.rotated <= now-receiptGeneration; r.rotated += receiptGeneration {
		copy(r.generations[1:], r.generations[:])
		r.generations[0] = map[uint64]int64{}
	}
	maps.Copy(r.generations[0], made)
}

func (r *receipts) find(key uint64) (activity int64, ok bool) {
	for _, generation := range r.generations {
		if activity, ok = generation[key]; ok {
			break
		}
	}
	return activity, ok
}

func receiptKey(key []byte) uint64 { return binary.BigEndian.Uint64(key) }

// receipt returns the activity that may have an idempotency key, also if this transaction made it.
func (t *tx) receipt(key *[32]byte) (activity int64, ok bool) {
	if activity, ok = t.receipts[receiptKey(key[:])]; ok {
		return activity, ok
	}
	return t.ledger.receipts.find(receiptKey(key[:]))
}

// remember keeps an activity's idempotency key, if it has one, once the transaction is durable.
func (t *tx) remember(key *[32]byte, activity int64) {
	if *key != ([32]byte{}) {
		t.receipts[receiptKey(key[:])] = activity
	}
}

// replay answers with the first receipt if the idempotency key is known.
func (e *enqueue) replay(t *tx) (known bool, err error) {
	seq, ok := t.receipt(&e.sub.Idempotency.Key)
	if !ok {
		return false, nil
	}
	err = each(t.conn, `SELECT id, uri, total, duplicates, refused, note, fingerprint FROM activities
		WHERE seq = ? AND idempotency = ? AND created > ?`,
		[]any{seq, e.sub.Idempotency.Key[:], e.now - queue.IdempotencyTTL.Milliseconds()}, func(row *sqlite.Stmt) error {
			known = true
			if !bytes.Equal(blob(row, 6), e.sub.Idempotency.Fingerprint[:]) {
				e.err = queue.ErrIdempotencyMismatch
				return nil
			}
			e.receipt = queue.Receipt{
				ID: uuidOf(row, 0).String(), URI: row.ColumnText(1), Accepted: row.ColumnInt(2),
				Duplicates: row.ColumnInt(3), Note: blob(row, 5), Replayed: true,
			}
			return decode(row.ColumnText(4), &e.receipt.Refused)
		})
	return known, err
}

// hasReceipt reports whether an idempotency key belongs to an activity created after a time.
func (t *tx) hasReceipt(key *[32]byte, after int64) (bool, error) {
	seq, ok := t.receipt(key)
	if !ok {
		return false, nil
	}
	return exists(t.conn, "SELECT 1 FROM activities WHERE seq = ? AND idempotency = ? AND created > ?", seq, key[:], after)
}
