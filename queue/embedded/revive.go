package embedded

import (
	"context"
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// lettersAtOnce is how many dead letters are changed in one operation.
const lettersAtOnce = 1000

// RetryDead implements queue.Operating.
func (s *Store) RetryDead(ctx context.Context, which queue.DeadLetterChoice, ttl time.Duration) (queue.DeadLetterCount, error) {
	n, err := s.change(ctx, which, &batch{s: s, retry: true, ttl: ttl.Milliseconds()})
	if err != nil {
		err = fmt.Errorf("retry dead letters: %w", err)
	}
	return n, err
}

// DeleteDead implements queue.Operating.
func (s *Store) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
	n, err := s.change(ctx, which, &batch{s: s})
	if err != nil {
		err = fmt.Errorf("delete dead letters: %w", err)
	}
	return n, err
}

// change does to dead letters what the batch does to some, one operation after another.
func (s *Store) change(ctx context.Context, which queue.DeadLetterChoice, b *batch) (n queue.DeadLetterCount, err error) {
	b.filter, b.before = which.Filter, [2]int64{millis(time.Now()) + 1, 0}
	if which.DryRun {
		err = s.read(ctx, func(c *sqlite.Conn) (err error) {
			n.Matched, err = b.count(c, distinct(which.IDs))
			return err
		})
		return n, err
	}
	step := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.writer.do(ctx, b.run, b.apply)
		if err == nil {
			n.Matched += len(b.found)
			n.Done += len(b.done)
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

// batch is some dead letters that are changed in one operation: those with the IDs or, where there are none, the next
// after a place in the list.
type batch struct {
	s      *Store
	ids    []string
	filter queue.DeadLetterFilter
	before [2]int64
	retry  bool // or delete
	ttl    int64

	found []letter
	done  []letter
	now   int64
}

// letter is a dead letter, with what is needed to make it pending again.
type letter struct {
	id, died int64
	host     string
	inbox    string
	flags    uint8 // of the delivery that it may become again
	act      activity
}

func (b *batch) run(t *tx) error {
	b.found, b.done, b.now = nil, nil, millis(t.now)
	if err := b.find(t.conn); err != nil {
		return err
	}
	for _, l := range b.found {
		if b.retry && b.s.takesNothing(l.host) {
			continue
		}
		if err := b.change(t, &l); err != nil {
			return err
		}
		b.done = append(b.done, l)
	}
	return nil
}

const selectLetters = `SELECT d.id, d.died_at, d.host, d.inbox, d.last IS NOT NULL, d.headers IS NOT NULL,
	a.seq, a.first, a.id, a.key_id, a.ordering_key, a.priority, a.role, a.created, a.uri FROM `

func (b *batch) find(c *sqlite.Conn) error {
	if len(b.ids) == 0 {
		from, args := lettersFrom(b.filter, b.before)
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
		id: row.ColumnInt64(0), died: row.ColumnInt64(1), host: row.ColumnText(2), inbox: row.ColumnText(3),
		act: activity{
			seq: row.ColumnInt64(6), first: row.ColumnInt64(7), id: [16]byte(blob(row, 8)), keyID: row.ColumnText(9),
			ordering: hashOf(row.ColumnText(10)), priority: queue.Priority(row.ColumnInt64(11)),
			role: queue.Role(row.ColumnInt64(12)), created: row.ColumnInt64(13), uri: hashOf(row.ColumnText(14)),
		},
	}
	if row.ColumnBool(4) {
		l.flags |= tried
	}
	if row.ColumnBool(5) {
		l.flags |= headed
	}
	b.found = append(b.found, l)
	return nil
}

// count counts the dead letters that are meant.
func (b *batch) count(c *sqlite.Conn, ids []string) (n int, err error) {
	if b.ids = ids; len(ids) > 0 {
		err = b.find(c)
		return len(b.found), err
	}
	from, args := lettersFrom(b.filter, b.before)
	err = each(c, "SELECT count(*) FROM "+from, args, func(row *sqlite.Stmt) error {
		n = row.ColumnInt(0)
		return nil
	})
	return n, err
}

// takesNothing tells that a host is blocked or given up.
func (s *Store) takesNothing(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.index.lanes[host]
	return l == nil || l.blocked || l.record.Unavailable
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
func (b *batch) revive(t *tx, l *letter) error {
	expires := b.now + b.ttl
	err := t.exec(`INSERT INTO deliveries (id, activity, lane, inbox, headers, due, expires, flags, last)
		SELECT d.id, d.activity, h.lane, d.inbox, d.headers, ?, ?, ?, d.last FROM dead d JOIN hosts h ON h.host = d.host WHERE d.id = ?`,
		b.now, expires, int64(l.flags), l.id)
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

// apply puts what was revived into the index, the newest first, as hints want it.
func (b *batch) apply() {
	if !b.retry {
		return
	}
	x, near, touched := b.s.index, newHints(), map[*lane]bool{}
	slices.SortFunc(b.done, func(l, m letter) int { return int(m.id - l.id) })
	for i := range b.done {
		l := &b.done[i]
		act := x.activities[l.act.seq]
		if act == nil {
			act = new(l.act)
			x.addActivity(act)
		}
		at := x.lanes[l.host]
		x.push(&entry{id: l.id, act: act, lane: at, due: b.now, flags: l.flags}, l.inbox, near, b.now)
		touched[at] = true
	}
	for at := range touched {
		x.place(at, b.now)
	}
	b.s.expiryAt(b.now + b.ttl)
}
