package embedded

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// feedScan is how many entries a call looks at.
const feedScan = 5000

// errEnough ends a query early.
var errEnough = errors.New("enough")

// feedPage is a page of the feed while it is filled.
type feedPage struct {
	queue.List[queue.Event]
	filter queue.FeedFilter
	limit  int
	feed   int64 // its name
	looked int   // entries looked at
}

// Feed implements queue.Feed. A cursor has the name of the feed, as another store has the same numbers.
func (s *Store) Feed(ctx context.Context, f queue.FeedFilter, p queue.Page) (list queue.List[queue.Event], err error) {
	defer wrap(&err, "feed")
	page := feedPage{filter: f, limit: p.Limit}
	err = s.db.read(ctx, func(c *sqlite.Conn) error {
		text, err := f.ParseCursor(p.Cursor)
		if err != nil {
			return err
		}
		if f.NewestFirst && text == "" {
			text = queue.FeedEnd
		}
		var at int64
		if page.feed, at, err = feedPlace(c, text); err != nil {
			return err
		}
		if text == queue.FeedEnd && f.NewestFirst {
			at++
		}
		page.Next = page.cursor(at)
		query, args := page.query(at)
		err = each(c, query, args, func(row *sqlite.Stmt) error { return page.look(s, row) })
		if err == nil && f.NewestFirst && page.looked < feedScan {
			page.Next = ""
		}
		if errors.Is(err, errEnough) {
			err = nil
		}
		return err
	})
	return page.List, err
}

// query selects the entries from a place on, in the page's order. Newest first, those of a host's states have an index.
func (g *feedPage) query(at int64) (query string, args []any) {
	const columns = "SELECT seq, at, kind, host, entry FROM feed WHERE "
	f := &g.filter
	switch {
	case !f.NewestFirst:
		return columns + "seq > ? ORDER BY seq LIMIT ?", []any{at, feedScan}
	case len(f.Hosts) == 1 && slices.Equal(f.Kinds, []queue.EventKind{queue.EventHostState}):
		return columns + "kind = 'host_state' AND host = ? AND seq < ? ORDER BY seq DESC LIMIT ?", []any{f.Hosts[0], at, feedScan}
	}
	return columns + "seq < ? ORDER BY seq DESC LIMIT ?", []any{at, feedScan}
}

// look looks at an entry.
func (g *feedPage) look(s *Store, row *sqlite.Stmt) error {
	if len(g.Items) == g.limit {
		return errEnough
	}
	g.looked++
	g.Next = g.cursor(row.ColumnInt64(0))
	e := queue.Event{Kind: queue.EventKind(row.ColumnText(2)), Host: row.ColumnText(3)}
	if !g.filter.Passes(&e) {
		return nil
	}
	if err := decode(row.ColumnText(4), &e); err != nil {
		logDamage(s.opts.Log, &damage{"feed", row.ColumnInt64(0), err.Error()})
		return nil
	}
	e.Cursor, e.At = g.Next, s.clock.shown(row.ColumnInt64(1))
	g.Items = append(g.Items, e)
	return nil
}

// cursor returns the cursor at an entry.
func (g *feedPage) cursor(seq int64) string {
	return g.filter.Cursor(strconv.FormatInt(g.feed, 36) + "-" + strconv.FormatInt(seq, 36))
}

// feedPlace returns the name of the feed, and the seq of the entry that a cursor is behind.
func feedPlace(c *sqlite.Conn, cursor string) (feed, after int64, err error) {
	var last int64
	err = each(c, "SELECT feed, (SELECT coalesce(max(seq), 0) FROM feed) FROM meta", nil, func(row *sqlite.Stmt) error {
		feed, last = row.ColumnInt64(0), row.ColumnInt64(1)
		return nil
	})
	switch {
	case err != nil || cursor == "":
		return feed, 0, err
	case cursor == queue.FeedEnd:
		return feed, last, nil
	}
	name, seq, _ := strings.Cut(cursor, "-")
	if name != strconv.FormatInt(feed, 36) {
		return feed, 0, queue.ErrBadCursor
	}
	after, err = strconv.ParseInt(seq, 36, 64)
	if err != nil || after < 0 || after > last || strconv.FormatInt(after, 36) != seq {
		return feed, 0, queue.ErrBadCursor
	}
	return feed, after, nil
}

// feed adds an entry to the feed.
func (t *tx) feed(e queue.Event) error {
	kind, host := string(e.Kind), e.Host
	e.Kind, e.Host = "", ""
	t.fed = true
	return t.exec("INSERT INTO feed (at, kind, host, entry) VALUES (?, ?, ?, ?)", t.now, kind, host, toJSON(e))
}

// feedDelivered adds the entry of a delivery that is about to end as delivered.
func (t *tx) feedDelivered(host string, id int64, r *queue.Result) error {
	return t.feedDelivery(queue.EventDelivered, func(e *queue.Event) {
		e.Host, e.Attempt = host, r.Attempt
		e.Attempts += int(spent(r))
	}, "deliveries d JOIN activities a ON a.seq = d.activity", "'', ''", id)
}

// feedDelivery adds the entry of a delivery, completed by rest.
func (t *tx) feedDelivery(kind queue.EventKind, rest func(*queue.Event), from, columns string, id int64) (err error) {
	var all []queue.Event
	err = each(t.conn, "SELECT a.id, a.uri, a.metadata, d.id - a.first, d.inbox, d.ids, d.attempts, d.history, "+columns+" FROM "+from+" WHERE d.id = ?",
		[]any{id}, func(row *sqlite.Stmt) error {
			act := uuidOf(row, 0).String()
			e := queue.Event{
				Kind: kind, ActivityID: act, URI: row.ColumnText(1), Metadata: metadataOf(row, 2), ID: act + "." + row.ColumnText(3),
				Inbox: row.ColumnText(4), IDs: decoded[[]string](row, 5), Attempts: row.ColumnInt(6), Attempt: decoded[queue.History](row, 7).Last(),
				Host: row.ColumnText(8), Reason: queue.Reason(row.ColumnText(9)),
			}
			if rest != nil {
				rest(&e)
			}
			all = append(all, e)
			return nil
		})
	for i := range all {
		err = errors.Join(err, t.feed(all[i]))
	}
	return err
}

// touch has flush look whether a host changed state.
func (t *tx) touch(lane int64) { t.touched[lane] = true }

// turned is a host's new state, and since when it has it.
type turned struct {
	state queue.HostState
	at    int64
}

// feedStates adds the entries of hosts that changed state, by what this transaction leaves in the database.
func (t *tx) feedStates() error {
	for id := range t.touched {
		var host string
		var was queue.HostState
		var l lane
		err := each(t.conn, "SELECT host, state, record, wait_until FROM hosts WHERE lane = ?", []any{id}, func(row *sqlite.Stmt) error {
			host, was = row.ColumnText(0), queue.HostState(row.ColumnText(1))
			l.wait = row.ColumnInt64(3)
			return decode(row.ColumnText(2), &l.record)
		})
		holding := t.holding(host)
		l.held = holding.ends()
		state := l.stateAt(t.now)
		if err != nil || host == "" || state == was {
			continue // a record that can't be read is mended at the next start
		}
		t.turned[id] = turned{state, t.now}
		if err := t.exec("UPDATE hosts SET state = ?, changed = ? WHERE lane = ?", string(state), t.now, id); err != nil {
			return err
		}
		if err := t.feedState(id, holding, state); err != nil {
			return err
		}
	}
	return nil
}

// feedState adds the entry of a host's new state, with the order that made it so.
func (t *tx) feedState(id int64, h holding, state queue.HostState) error {
	e := queue.Event{Kind: queue.EventHostState, Host: h.host, State: state, By: t.by[id]}
	var orders []queue.HostOrder
	switch state {
	case queue.HostPaused:
		orders = h.shown(pausing, t.ledger.clock, t.now)
	case queue.HostBlocked:
		orders = h.shown(blocking, t.ledger.clock, t.now)
	}
	if len(orders) > 0 {
		e.Order = &orders[0]
		e.By = cmp.Or(e.By, e.Order.By)
	}
	return t.feed(e)
}

// dropEntries drops entries of the feed that have outlived their retention, but for the newest.
func (o *sweep) dropEntries(t *tx) error {
	return o.drop(t, o.s.opts.Feed.Retention, "SELECT at FROM feed WHERE seq < (SELECT max(seq) FROM feed) ORDER BY seq LIMIT 1", func(before int64) (int, error) {
		err := t.exec(`DELETE FROM feed WHERE seq IN (SELECT seq FROM feed WHERE seq < (SELECT max(seq) FROM feed) ORDER BY seq LIMIT ?) AND at <= ?`,
			sweepRows, before)
		return t.conn.Changes(), err
	})
}

// capEntries drops the oldest of too many entries. Their seqs have no gaps.
func (o *sweep) capEntries(t *tx) error {
	if o.s.opts.Feed.Cap <= 0 {
		return nil
	}
	err := t.exec(`DELETE FROM feed WHERE seq IN (SELECT seq FROM feed ORDER BY seq LIMIT ?) AND seq <= (SELECT max(seq) FROM feed) - ?`,
		sweepRows, o.s.opts.Feed.Cap)
	if t.conn.Changes() > 0 {
		o.next = o.now // there may be more
	}
	return err
}
