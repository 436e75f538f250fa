package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

// Activities implements queue.Watching.
func (s *Store) Activities(ctx context.Context, f queue.ActivityFilter, p queue.Page) (list queue.List[queue.ActivityStatus], err error) {
	defer wrap(&err, "activities")
	at, err := queue.ParseCursor(p.Cursor, 3)
	if err != nil {
		return list, err
	}
	o := &search{s: s, filter: f, at: searchPosition{at[0], accepted{at[1], at[2]}}, limit: p.Limit}
	if err := o.run(ctx); err != nil {
		return list, err
	}
	for i := range o.found {
		list.Items = append(list.Items, o.found[i].ActivityStatus)
	}
	if o.more {
		list.Next = fmt.Sprintf("%d-%d-%d", o.at.before, o.at.older.created, o.at.older.seq)
	}
	return list, nil
}

const (
	searchRows = 5000 // at most so many activities are looked at for a page
	searchStep = 64   // marks, or older activities, that are read at once
)

// search finds activities, newest first. Most are in the order of their seqs. Those that are older than others with lower seqs (see
// schema.go) are found by indexes of their own, and looked at in between.
type search struct {
	s      *Store
	filter queue.ActivityFilter
	at     searchPosition
	limit  int

	since     int64
	older     []accepted // those that come next, as far as they were read
	allOlder  bool       // there are no more
	olderFrom int64      // see errOlder
	looked    int
	found     []stored
	more      bool // the page ended before the search
}

// searchPosition is how far a search is: it goes on before a position and, among the older activities, before one of them. Zeros
// are the newest.
type searchPosition struct {
	before int64
	older  accepted
}

// accepted is when an activity was accepted, and its seq: the order in which activities are listed.
type accepted struct{ created, seq int64 }

func (a accepted) compare(b accepted) int {
	return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.seq, b.seq))
}

// run finds a page of activities.
func (o *search) run(ctx context.Context) error {
	if !o.filter.Since.IsZero() {
		o.since = o.s.clock.stored(o.filter.Since)
	}
	if o.at.before == 0 {
		o.at.before = maxID
	}
	if o.at.older == (accepted{}) {
		o.at.older = accepted{maxID, maxID}
	}
	return o.s.db.read(ctx, func(c *sqlite.Conn) (err error) {
		defer sqlitex.Transaction(c)(&err) // many queries begin and end faster in one
		if err = o.scan(c); err == nil || errors.Is(err, errTooOld) {
			err = o.lookAtOlder(c, accepted{})
		}
		if errors.Is(err, errEnough) {
			err = nil
		}
		return err
	})
}

// errTooOld ends the search among activities that are in order: all others were accepted before the time that is asked for.
var errTooOld = errors.New("accepted before")

// scan looks at the activities that may pass the filter, by the narrowest index.
func (o *search) scan(c *sqlite.Conn) error {
	switch f := &o.filter; {
	case f.URI != "":
		return o.marked(c, hashOfURI(f.URI))
	case f.Actor != "":
		return o.marked(c, hashOfOwner(f.Actor))
	case f.KeyID != "":
		return o.marked(c, hashOfOwner(f.KeyID))
	case f.State == queue.ActivityPending:
		return o.pending(c)
	}
	return o.all(c)
}

// all looks at all activities.
func (o *search) all(c *sqlite.Conn) error {
	for {
		err := each(c, selectStored+"seq < ? ORDER BY seq DESC", []any{o.at.before}, func(row *sqlite.Stmt) error {
			return o.look(c, row, row.ColumnInt64(0))
		})
		if !errors.Is(err, errOlder) {
			return err
		}
		o.at.before = o.olderFrom
	}
}

// marked looks at the activities that marks find.
func (o *search) marked(c *sqlite.Conn, hash uint32) error {
	o.s.mu.Lock()
	l := o.s.writer.ledger
	seqs := l.marks.find(hash, o.at.before)
	next := min(o.at.before, l.firstUnwritten())
	o.s.mu.Unlock()
	for {
		for _, seq := range seqs {
			if err := o.lookAt(c, seq, seq); err != nil && !errors.Is(err, errOlder) {
				return err
			}
		}
		if next == 0 {
			return nil
		}
		var err error
		if seqs, next, err = findMarks(c, hash, next, searchStep); err != nil {
			return err
		}
	}
}

// pending looks at the activities that have pending deliveries: their ids are in the order of the activities. The position of one
// is its first delivery.
func (o *search) pending(c *sqlite.Conn) error {
	for before := o.at.before; ; {
		var seq, first int64
		err := each(c, `SELECT a.seq, a.first FROM deliveries d JOIN activities a ON a.seq = d.activity
			WHERE d.id < ? AND a.first <= d.id ORDER BY d.id DESC LIMIT 1`, []any{before}, func(row *sqlite.Stmt) error {
			seq, first = row.ColumnInt64(0), row.ColumnInt64(1)
			return nil
		})
		if err != nil || seq == 0 {
			return err
		}
		before = first
		err = o.lookAt(c, seq, first)
		if errors.Is(err, errOlder) {
			before, _, err = one(c, (*sqlite.Stmt).ColumnInt64, "SELECT first FROM activities WHERE seq >= ? ORDER BY seq LIMIT 1", o.olderFrom)
			o.at.before = before
		}
		if err != nil {
			return err
		}
	}
}

// lookAt looks at one activity.
func (o *search) lookAt(c *sqlite.Conn, seq, position int64) error {
	return each(c, selectStored+"seq = ?", []any{seq}, func(row *sqlite.Stmt) error { return o.look(c, row, position) })
}

// errOlder says that an activity is one of the older ones, which are looked at in their places: the search goes on before olderFrom,
// the first in a row of them.
var errOlder = errors.New("in another place")

// look takes an activity into the page if it passes the filter, after the older ones that come before it in the list. It returns
// errEnough at the end of the page.
func (o *search) look(c *sqlite.Conn, row *sqlite.Stmt, position int64) error {
	if o.olderFrom = row.ColumnInt64(14); o.olderFrom > 0 {
		return errOlder
	}
	at := accepted{row.ColumnInt64(12), row.ColumnInt64(0)}
	if at.created < o.since {
		return errTooOld
	}
	if err := o.lookAtOlder(c, at); err != nil {
		return err
	}
	if err := o.take(row); err != nil {
		return err
	}
	o.at.before = position
	return nil
}

// lookAtOlder looks at the older activities that come before one in the list.
func (o *search) lookAtOlder(c *sqlite.Conn, before accepted) error {
	for {
		if len(o.older) == 0 && !o.allOlder {
			if err := o.readOlder(c); err != nil {
				return err
			}
		}
		if len(o.older) == 0 || o.older[0].compare(before) < 0 {
			return nil
		}
		next := o.older[0]
		err := each(c, selectStored+"older > 0 AND seq = ?", []any{next.seq}, func(row *sqlite.Stmt) error { return o.take(row) })
		if err != nil {
			return err
		}
		o.at.older = next
		o.older = o.older[1:]
	}
}

// readOlder reads which of the older activities come next.
func (o *search) readOlder(c *sqlite.Conn) error {
	which, args := "", []any{o.at.older.created, o.at.older.seq, o.since}
	switch f := &o.filter; {
	case f.URI != "":
		which, args = " AND uri = ?4", append(args, f.URI)
	case f.Actor != "":
		which, args = " AND actor = ?4", append(args, f.Actor)
	case f.KeyID != "":
		which, args = " AND key_id = ?4", append(args, f.KeyID)
	}
	err := each(c, "SELECT created, seq FROM activities WHERE older > 0 AND (created, seq) < (?1, ?2) AND created >= ?3"+which+
		fmt.Sprintf(" ORDER BY created DESC, seq DESC LIMIT %d", searchStep), args, func(row *sqlite.Stmt) error {
		o.older = append(o.older, accepted{row.ColumnInt64(0), row.ColumnInt64(1)})
		return nil
	})
	o.allOlder = len(o.older) < searchStep
	return err
}

// take takes an activity into the page if it passes the filter.
func (o *search) take(row *sqlite.Stmt) error {
	passes := o.passes(row)
	if passes && len(o.found) == o.limit || o.looked == searchRows {
		o.more = true
		return errEnough
	}
	o.looked++
	if passes {
		o.found = append(o.found, o.s.clock.readStored(row))
	}
	return nil
}

// passes reports whether a row passes the filter.
func (o *search) passes(row *sqlite.Stmt) bool {
	f := &o.filter
	for column, want := range map[int]string{7: f.URI, 8: f.Type, 9: f.KeyID, 10: f.Actor} {
		if want != "" && row.ColumnText(column) != want {
			return false
		}
	}
	return f.State == "" || countsOf(row, 2).State() == f.State
}
