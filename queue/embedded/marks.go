package embedded

import (
	"errors"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"zombiezen.com/go/sqlite"
)

// A mark is a row of the index that finds activities by their URI, actor and key. It is one number: the span of the activity,
// a hash of the text, and the activity's place in its span. So the marks of a span are together, new ones go to the end of the
// table, and finding those of a text takes one step for each span: for a million activities some sixty. The activity's row must
// be compared too.
//
// An index of SQLite's own costs a tenth of intake for each text, as hashes are in random order. So marks are written
// many at once, in order; until then they are in memory. At start those that were not written are made again from the
// activities: meta.marked is the last activity whose marks are written.
type mark int64

const (
	placeBits    = 14 // a span is 16,384 activities or tombstones
	markHashBits = 24
	marksAtOnce  = 8192 // how many are written at once
)

func markOf(hash uint32, seq int64) mark {
	return mark(seq>>placeBits<<(placeBits+markHashBits) | int64(hash)<<placeBits | seq&(1<<placeBits-1))
}

func (m mark) span() int64  { return int64(m) >> (placeBits + markHashBits) }
func (m mark) hash() uint32 { return uint32(m>>placeBits) & (1<<markHashBits - 1) } // these are 24 bits
func (m mark) seq() int64   { return m.span()<<placeBits | int64(m)&(1<<placeBits-1) }

// hashOfURI returns the hash by which the activities with a URI are found.
func hashOfURI(uri string) uint32 { return markHash('u', uri) }

// hashOfOwner returns the hash by which the activities of an actor are found, and those that one of its keys signs: most keys
// are named like their actor, with a fragment, and need no mark of their own.
func hashOfOwner(id string) uint32 {
	owner, _, _ := strings.Cut(id, "#")
	return markHash('o', owner)
}

func markHash(kind byte, text string) uint32 {
	var h xxhash.Digest
	h.ResetWithSeed(uint64(kind))
	_, _ = h.WriteString(text)                       // never fails
	return uint32(h.Sum64()) & (1<<markHashBits - 1) // these bits are enough
}

// appendMarks appends the marks of an activity.
func appendMarks(to []mark, seq int64, uri, actor, keyID string) []mark {
	to = append(to, markOf(hashOfURI(uri), seq))
	owner := hashOfOwner(actor)
	if actor != "" {
		to = append(to, markOf(owner, seq))
	}
	if signer := hashOfOwner(keyID); keyID != "" && (signer != owner || actor == "") {
		to = append(to, markOf(signer, seq))
	}
	return to
}

// writeMarks writes marks of earlier transactions, the oldest first: about so many, but all of an activity or none.
func (t *tx) writeMarks(about int) error {
	rest := t.ledger.marks[t.marked:]
	n := min(about, len(rest))
	for n > 0 && n < len(rest) && rest[n].seq() == rest[n-1].seq() {
		n++
	}
	if n == 0 {
		return nil
	}
	t.marked += n
	for chunk := range slices.Chunk(slices.Sorted(slices.Values(rest[:n])), atOnce) {
		if err := t.insertMarks(chunk); err != nil {
			return err
		}
	}
	return t.exec("UPDATE meta SET marked = ?", rest[n-1].seq())
}

func (t *tx) insertMarks(all []mark) error {
	args := make([]any, len(all))
	for i, m := range all {
		args[i] = int64(m)
	}
	return t.exec("INSERT OR IGNORE INTO marks (mark) VALUES (?)"+strings.Repeat(",(?)", len(all)-1), args...)
}

// findMarks returns activities before a seq that marks in the database find, the newest first: at most so many, and of one span.
// It goes on before next, which is 0 after the last span.
func findMarks(c *sqlite.Conn, hash uint32, before int64, most int) (seqs []int64, next int64, err error) {
	at := markOf(hash, before-1)
	err = each(c, "SELECT mark FROM marks WHERE mark <= ? ORDER BY mark DESC", []any{int64(at)}, func(row *sqlite.Stmt) error {
		m := mark(row.ColumnInt64(0))
		switch {
		case m.span() < at.span():
			next = (m.span() + 1) << placeBits
		case m.hash() != hash:
			next = m.span() << placeBits
		case len(seqs) == most:
			next = seqs[most-1]
		default:
			seqs = append(seqs, m.seq())
			return nil
		}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return seqs, next, err
}

// marks are those in memory, the oldest first. Only the writer changes them, under the store's mutex.
type marks []mark

// find returns the activities before a seq that marks in memory find, the newest first.
func (all marks) find(hash uint32, before int64) (seqs []int64) {
	for _, m := range slices.Backward(all) {
		if m.hash() == hash && m.seq() < before {
			seqs = append(seqs, m.seq())
		}
	}
	return seqs
}

// firstUnwritten returns the first activity whose marks are in memory, or the next activity: the marks of all before are in the
// database. The store's mutex must be held.
func (l *ledger) firstUnwritten() int64 {
	if len(l.marks) > 0 {
		return l.marks[0].seq()
	}
	return l.seq
}
