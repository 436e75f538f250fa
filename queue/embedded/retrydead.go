package embedded

import (
	"context"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// lettersAtOnce is how many dead letters are changed in one operation.
const lettersAtOnce = 1000

// RetryDead implements queue.Operating.
func (s *Store) RetryDead(ctx context.Context, which queue.DeadLetterChoice, ttl time.Duration) (_ queue.DeadLetterCount, err error) {
	defer wrap(&err, "retry dead letters")
	return (&batch{s: s, retry: true, ttl: ttl.Milliseconds()}).all(ctx, which)
}

// all changes all dead letters that are chosen, one operation after another.
func (b *batch) all(ctx context.Context, which queue.DeadLetterChoice) (n queue.DeadLetterCount, err error) {
	b.filter, b.before = which.Filter, [2]int64{b.s.clock.now() + 1, 0}
	if which.DryRun {
		n.Matched, err = read(ctx, b.s.db, func(c *sqlite.Conn) (int, error) { return b.count(c, distinct(which.IDs)) })
		return n, err
	}
	step := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := b.s.writer.do(ctx, b.run, b.apply)
		if err == nil {
			n.Matched += len(b.found)
			n.Done += len(b.done)
			n.Superseded += b.superseded
		}
		return err
	}
	if len(which.IDs) > 0 {
		for b.ids = range slices.Chunk(distinct(which.IDs), lettersAtOnce) {
			if err := step(); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	for err = step(); err == nil && len(b.found) == lettersAtOnce; err = step() {
		last := b.found[lettersAtOnce-1]
		b.before = [2]int64{last.died, last.id}
	}
	return n, err
}

func distinct(ids []string) []string { return slices.Compact(slices.Sorted(slices.Values(ids))) }

// batch is the operation that changes some dead letters: those with the IDs or, without IDs, the next ones of the list.
type batch struct {
	s      *Store
	ids    []string
	filter queue.DeadLetterFilter
	before [2]int64
	retry  bool // or delete
	ttl    int64

	found      []letter
	done       []letter
	superseded int
	now        int64
}

// letter is a dead letter, with all that makes it pending again.
type letter struct {
	id, died int64
	host     string
	inbox    string
	flags    uint8  // of the delivery that it may become again
	about    string // the object that a tombstone may supersede it for, "" if there is none
	act      activity
	lane     int64 // where it is pending again
}

func (b *batch) run(t *tx) error {
	b.found, b.done = nil, nil
	b.superseded, b.now = 0, t.now
	if err := b.find(t.conn); err != nil {
		return err
	}
	for _, l := range b.found {
		if stays, err := b.stays(t, &l); err != nil {
			return err
		} else if stays {
			continue
		}
		if err := b.change(t, &l); err != nil {
			return err
		}
		b.done = append(b.done, l)
	}
	return nil
}

// stays reports whether a dead letter is not to be retried, and counts those that a tombstone supersedes.
func (b *batch) stays(t *tx, l *letter) (bool, error) {
	if !b.retry || b.refused(l.host) {
		return b.retry, nil
	}
	superseded, err := t.superseded(l.act.seq, l.about)
	if superseded {
		b.superseded++
	}
	return superseded, err
}

const selectLetters = "SELECT " + indexed + `, d.id, d.died_at, d.host, d.inbox, d.history IS NOT NULL,
	coalesce(d.headers, d.ids) IS NOT NULL FROM `

func (b *batch) find(c *sqlite.Conn) error {
	if len(b.ids) == 0 {
		from, args := lettersFrom(b.s.clock, b.filter, b.before)
		return each(c, selectLetters+from+" ORDER BY d.died_at DESC, d.id DESC LIMIT ?", append(args, lettersAtOnce), b.add)
	}
	for _, id := range b.ids {
		act, ordinal, ok := splitID(id)
		if !ok {
			continue
		}
		if err := each(c, selectLetters+"dead d JOIN activities a ON a.seq = d.activity WHERE a.id = ? AND d.id = a.first + ?", []any{act[:], ordinal}, b.add); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) add(row *sqlite.Stmt) error {
	l := letter{
		act: readIndexed(row), id: row.ColumnInt64(12), died: row.ColumnInt64(13), host: row.ColumnText(14), inbox: row.ColumnText(15),
	}
	if queue.Role(row.ColumnInt64(8)) != queue.Deletes {
		l.about = row.ColumnText(9)
	}
	if row.ColumnBool(16) {
		l.flags |= tried
	}
	if row.ColumnBool(17) {
		l.flags |= headed
	}
	b.found = append(b.found, l)
	return nil
}

// count counts the dead letters that are chosen.
func (b *batch) count(c *sqlite.Conn, ids []string) (n int, err error) {
	if b.ids = ids; len(ids) > 0 {
		err = b.find(c)
		return len(b.found), err
	}
	from, args := lettersFrom(b.s.clock, b.filter, b.before)
	n, _, err = one(c, (*sqlite.Stmt).ColumnInt, "SELECT count(*) FROM "+from, args...)
	return n, err
}

// refused reports whether a host is blocked or unavailable.
func (b *batch) refused(host string) bool {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	l := b.s.index.lanes[host]
	return b.s.index.blocks(host, l, b.s.clock.now()) || l != nil && l.record.Unavailable
}

// change makes a dead letter pending again, or drops it.
func (b *batch) change(t *tx, l *letter) error {
	if b.retry {
		if err := b.revive(t, l); err != nil {
			return err
		}
	}
	t.count(l.act.seq).letters--
	t.totals.dead--
	return t.exec("DELETE FROM dead WHERE id = ?", l.id)
}

// revive makes a dead letter pending again.
func (b *batch) revive(t *tx, l *letter) (err error) {
	if l.lane, err = t.lane(l.host); err != nil {
		return err
	}
	expires := b.now + b.ttl
	err = t.exec(`INSERT INTO deliveries (id, activity, lane, inbox, headers, ids, due, expires, flags, history)
		SELECT id, activity, ?, inbox, headers, ids, ?, ?, ?, history FROM dead WHERE id = ?`,
		l.lane, b.now, expires, int64(l.flags), l.id)
	if err != nil {
		return err
	}
	d := t.count(l.act.seq)
	d.dead--
	if d.expires == 0 || expires < d.expires {
		d.expires = expires
	}
	return nil
}

// apply puts the revived deliveries into the index, the newest first, as hints require.
func (b *batch) apply() {
	if !b.retry {
		return
	}
	x, near := b.s.index, newHints()
	slices.SortFunc(b.done, func(l, m letter) int { return int(m.id - l.id) })
	for i := range b.done {
		l := &b.done[i]
		act := x.activities[l.act.seq]
		if act == nil {
			act = new(l.act)
			x.addActivity(act, near.uris[act.uri])
			near.uris[act.uri] = act
		}
		at := x.lane(l.lane, l.host)
		x.push(&entry{id: l.id, act: act, lane: at, due: b.now, flags: l.flags}, l.inbox, near, b.now)
		x.place(at, b.now)
	}
	x.expiryAt(b.now + b.ttl)
}
