package embedded

import (
	"fmt"
	"runtime/debug"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

// ledger is what a transaction knows of those before it. Only the writer's goroutine uses it.
type ledger struct {
	clock      *clock
	restless   func(into map[int64]bool) // adds lanes of hosts whose state the feed may not know
	seq        int64                     // of the next activity
	next       int64                     // the id of the next delivery
	newest     int64                     // when the last activity was accepted, but for those that are older than others before them
	older      int64                     // the first of those that are so, if the last activity is one; see schema.go
	receipts   receipts
	bodies     bodies
	marks      marks      // those to be written; changed under the store's mutex
	tombstones tombstones // those of the index; changed under the store's mutex
	orders     *orders    // those of the index; changed under the store's mutex
}

// begin returns a transaction that has yet to begin in the database.
func (l *ledger) begin(c *sqlite.Conn) *tx {
	return &tx{
		conn: c, ledger: l, now: l.clock.now(), counts: map[int64]*delta{}, reset: map[int64]bool{}, probes: map[int64]bool{},
		receipts: map[uint64]int64{}, uris: map[uint32][]int64{}, tails: map[uint32]*newTails{}, bodies: bodies{},
		tombstones: newTombstones(), lanes: map[string]*lane{}, touched: map[int64]bool{}, turned: map[int64]turned{},
		by: map[int64]string{}, orders: map[string]hostOrders{},
	}
}

// commit applies the changes of a transaction. The store's mutex must be held.
func (l *ledger) commit(t *tx) {
	l.clock.keptTime(t)
	l.receipts.add(t.receipts, t.now)
	merge(l.bodies, t.bodies, func(b heldBody) bool { return !b.held() })
	l.marks = append(l.marks[t.marked:], t.marks...)
	isGone := func(seq int64) bool { return seq == 0 }
	merge(l.tombstones.objects, t.tombstones.objects, isGone)
	merge(l.tombstones.deletions, t.tombstones.deletions, isGone)
	l.next = max(l.next, t.next)
	l.seq = max(l.seq, t.seq)
	if t.newest > 0 {
		l.newest, l.older = t.newest, t.older
	}
}

// tx is a transaction of the writer. It sums up what its operations change in the counts of activities, so that a
// group that settles thousands of deliveries of one activity updates that activity once.
type tx struct {
	conn   *sqlite.Conn
	ledger *ledger          // as of the last commit
	now    int64            // by the store's clock
	counts map[int64]*delta // by activity
	totals totals
	fed    bool           // the feed has new entries
	reset  map[int64]bool // lanes of hosts that it resets
	probes map[int64]bool // lanes that it gives their next probe

	seq        int64                 // of the next activity, 0 if it makes none
	next       int64                 // the id of the next delivery, 0 if it makes none
	newest     int64                 // as in the ledger, 0 if it makes none
	older      int64                 // as in the ledger
	receipts   map[uint64]int64      // activities that it makes, by idempotency key
	uris       map[uint32][]int64    // those with something pending, by hash of their URI
	tails      map[uint32]*newTails  // what it adds to chains, by hash of the ordering key
	bodies     bodies                // that it changes
	marks      marks                 // of activities that it makes
	marked     int                   // how many of the ledger's it writes
	tombstones tombstones            // that it changes
	lanes      map[string]*lane      // that it makes
	touched    map[int64]bool        // lanes whose hosts may change state
	turned     map[int64]turned      // those whose hosts do
	by         map[int64]string      // names of the tokens that asked for it
	orders     map[string]hostOrders // that it changes, by host
	kept       int64                 // the time, if it writes that
	moved      int64                 // how far the wall clock has moved, in ms
}

// latest returns what a map of the ledger has under a key, with the changes of a transaction.
func latest[K comparable, V any](all, changed map[K]V, key K) V {
	if v, ok := changed[key]; ok {
		return v
	}
	return all[key]
}

// merge applies the changes of a transaction to a map of the ledger.
func merge[K comparable, V any](all, changed map[K]V, isGone func(V) bool) {
	for key, v := range changed {
		if isGone(v) {
			delete(all, key)
		} else {
			all[key] = v
		}
	}
}

// delta is what a transaction adds to an activity's counts, and when the first expires of what it makes pending again.
type delta struct {
	delivered, dead, cancelled, letters int64
	expires                             int64
}

func (t *tx) count(activity int64) *delta {
	d := t.counts[activity]
	if d == nil {
		d = &delta{}
		t.counts[activity] = d
	}
	return d
}

func (t *tx) exec(query string, args ...any) error {
	return sqlitex.Execute(t.conn, query, &sqlitex.ExecOptions{Args: args})
}

func (t *tx) rollback() error {
	if t.conn.AutocommitEnabled() {
		return nil // SQLite did it
	}
	return t.exec("ROLLBACK")
}

// guarded runs a function in a transaction. A panic becomes an error, which undoes the transaction and fails only the operation.
// Changes of memory after the commit have no such guard: if they stop half-way, memory is wrong, and only a restart mends it.
func guarded(run func(*tx) error, t *tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in the store: %v\n%s", v, debug.Stack())
		}
	}()
	return run(t)
}

// flush writes the counts, ends activities without pending deliveries, and drops bodies that nothing needs.
func (t *tx) flush() error {
	for seq, d := range t.counts {
		if err := t.flushActivity(seq, d); err != nil {
			return err
		}
	}
	t.ledger.restless(t.touched)
	if err := t.feedStates(); err != nil {
		return err
	}
	if err := t.ledger.clock.keepTime(t); err != nil {
		return err
	}
	if len(t.ledger.marks)-t.marked >= marksAtOnce {
		if err := t.writeMarks(marksAtOnce); err != nil {
			return err
		}
	}
	return t.flushTotals()
}

// flushActivity writes an activity's counts and their consequences.
func (t *tx) flushActivity(seq int64, d *delta) error {
	var counts queue.Counts
	var letters, body int64
	var digest []byte
	var done queue.Event
	there := false
	err := each(t.conn, `UPDATE activities SET delivered = delivered + ?1, dead = dead + ?2, cancelled = cancelled + ?3,
		letters = letters + ?4 WHERE seq = ?5
		RETURNING total, delivered, dead, cancelled, letters, body, digest, id, uri, metadata`,
		[]any{d.delivered, d.dead, d.cancelled, d.letters, seq}, func(row *sqlite.Stmt) error {
			there, counts = true, countsOf(row, 0)
			letters, body = row.ColumnInt64(4), row.ColumnInt64(5)
			digest = blob(row, 6)
			if counts.Pending == 0 {
				done = queue.Event{
					Kind: queue.EventActivityDone, ActivityID: uuidOf(row, 7).String(), URI: row.ColumnText(8), Metadata: metadataOf(row, 9), Counts: &counts,
				}
			}
			return nil
		})
	if err != nil || !there {
		return err
	}
	if counts.Pending > 0 {
		return t.revive(seq, d)
	}
	ended := d.delivered + d.dead + d.cancelled
	if ended > 0 {
		if err := t.feed(done); err != nil {
			return err
		}
	}
	if err := t.exec("UPDATE activities SET expires_next = NULL, done_at = coalesce(done_at, ?) WHERE seq = ?", t.now, seq); err != nil {
		return err
	}
	held := ended > 0 || letters-d.letters > 0
	if letters > 0 || !held {
		return nil
	}
	return t.release(body, digest)
}

// revive makes an activity pending that may have been finished.
func (t *tx) revive(seq int64, d *delta) error {
	if d.expires == 0 {
		return nil
	}
	return t.exec("UPDATE activities SET done_at = NULL, expires_next = min(coalesce(expires_next, ?1), ?1) WHERE seq = ?2", d.expires, seq)
}
