package embedded

import (
	"context"
	"errors"
	"strconv"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

// Activities implements queue.Watching.
func (s *Store) Activities(ctx context.Context, f queue.ActivityFilter, p queue.Page) (list queue.List[queue.ActivityStatus], err error) {
	defer wrap(&err, "activities")
	before, err := queue.ParseCursor(p.Cursor, 1)
	if err != nil {
		return list, err
	}
	o := &search{s: s, filter: f, before: before[0], limit: p.Limit}
	if err := o.run(ctx); err != nil {
		return list, err
	}
	for i := range o.found {
		list.Items = append(list.Items, o.found[i].ActivityStatus)
	}
	if o.next > 0 {
		list.Next = strconv.FormatInt(o.next, 10)
	}
	return list, nil
}

const (
	searchRows = 5000 // at most so many activities are looked at for a page
	searchPast = 1000 // a search by time ends after so many in a row that were accepted before it
	searchStep = 64   // marks that are read at once
)

// search finds activities, newest first: in the order in which the store got them. That is the order of their times too, except
// where they came from another store.
type search struct {
	s      *Store
	filter queue.ActivityFilter
	before int64 // the position before which it looks, 0 for the end
	limit  int

	since        int64
	looked, past int
	last         int64 // the position of the last one looked at
	found        []stored
	next         int64 // the position before which the next page looks, 0 if there is none
}

// run finds a page of activities.
func (o *search) run(ctx context.Context) error {
	if !o.filter.Since.IsZero() {
		o.since = o.s.clock.stored(o.filter.Since)
	}
	if o.before == 0 {
		o.before = maxID
	}
	return o.s.db.read(ctx, func(c *sqlite.Conn) (err error) {
		defer sqlitex.Transaction(c)(&err) // many queries begin and end faster in one
		if err = o.scan(c); errors.Is(err, errEnough) {
			err = nil
		}
		return err
	})
}

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
	return each(c, selectStored+"seq < ? ORDER BY seq DESC", []any{o.before}, func(row *sqlite.Stmt) error {
		return o.look(row, row.ColumnInt64(0))
	})
}

// marked looks at the activities that marks find.
func (o *search) marked(c *sqlite.Conn, hash uint32) error {
	o.s.mu.Lock()
	l := o.s.writer.ledger
	seqs := l.marks.find(hash, o.before)
	next := min(o.before, l.firstUnwritten())
	o.s.mu.Unlock()
	for {
		for _, seq := range seqs {
			if err := o.lookAt(c, seq, seq); err != nil {
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
	for before := o.before; ; {
		var seq, first int64
		err := each(c, `SELECT a.seq, a.first FROM deliveries d JOIN activities a ON a.seq = d.activity
			WHERE d.id < ? AND a.first <= d.id ORDER BY d.id DESC LIMIT 1`, []any{before}, func(row *sqlite.Stmt) error {
			seq, first = row.ColumnInt64(0), row.ColumnInt64(1)
			return nil
		})
		if err != nil || seq == 0 {
			return err
		}
		if err := o.lookAt(c, seq, first); err != nil {
			return err
		}
		before = first
	}
}

// lookAt looks at one activity.
func (o *search) lookAt(c *sqlite.Conn, seq, position int64) error {
	return each(c, selectStored+"seq = ?", []any{seq}, func(row *sqlite.Stmt) error { return o.look(row, position) })
}

// look takes an activity into the page if it passes the filter. It returns errEnough at the end of the page.
func (o *search) look(row *sqlite.Stmt, position int64) error {
	passes := o.passes(row)
	switch {
	case passes && len(o.found) == o.limit, o.looked == searchRows:
		o.next = o.last
		return errEnough
	case o.past == searchPast:
		return errEnough
	}
	o.looked++
	if passes {
		o.found = append(o.found, o.s.clock.readStored(row))
	}
	o.last = position
	return nil
}

// passes reports whether a row passes the filter.
func (o *search) passes(row *sqlite.Stmt) bool {
	if row.ColumnInt64(12) < o.since {
		o.past++
		return false
	}
	o.past = 0
	f := &o.filter
	for column, want := range map[int]string{7: f.URI, 8: f.Type, 9: f.KeyID, 10: f.Actor} {
		if want != "" && row.ColumnText(column) != want {
			return false
		}
	}
	return f.State == "" || countsOf(row, 2).State() == f.State
}
