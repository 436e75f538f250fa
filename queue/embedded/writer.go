package embedded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

const (
	maxGroup  = 1024            // operations in one transaction
	maxQueued = 8 * maxGroup    // operations that wait; more find the store busy
	busyAfter = 5 * time.Second // how long one waits for a place before it finds the store busy
)

// writer runs operations in transactions that they share.
type writer struct {
	conn    *sqlite.Conn
	mu      *sync.Mutex // guards what apply functions change
	after   func(*tx)   // called once a transaction is applied, with mu held
	ops     chan *op
	stop    chan struct{}
	closed  chan struct{} // closed when the last operation was answered
	started bool

	errMu sync.Mutex
	err   error // of the last transaction; guarded by errMu
}

// op is one change: run makes it in the database; apply makes it in memory, once it is durable. Who is told early must not
// share with apply anything that it writes, and sees of memory only what is guarded by the mutex, which is held from before
// it is told until all is applied.
type op struct {
	run   func(*tx) error
	apply func()
	early bool // is told when it is durable, and not only when it is applied
	done  chan error
}

func newWriter(conn *sqlite.Conn, mu *sync.Mutex, after func(*tx)) *writer {
	return &writer{
		conn: conn, mu: mu, after: after,
		ops: make(chan *op, maxQueued), stop: make(chan struct{}), closed: make(chan struct{}),
	}
}

// start begins to run operations. close ends it.
func (w *writer) start() {
	w.started = true
	go w.loop()
}

// close stops the writer after what is queued, and closes its connection.
func (w *writer) close() error {
	select {
	case <-w.stop:
		return nil
	default:
		close(w.stop)
	}
	if w.started {
		w.ops <- &op{run: func(*tx) error { return errStopped }, done: make(chan error, 1)}
		<-w.closed
	}
	return w.conn.Close()
}

// errStopped is the last operation's error: it ends the loop.
var errStopped = errors.New("stopped")

// do queues a change and waits until it is durable and applied. It returns ErrBusy when there is no place for it.
func (w *writer) do(ctx context.Context, run func(*tx) error, apply func()) error {
	return w.await(ctx, &op{run: run, apply: apply})
}

// await queues a change and waits until it is told.
func (w *writer) await(ctx context.Context, o *op) error {
	o.done = make(chan error, 1)
	select {
	case <-w.stop:
		return queue.ErrClosed
	default:
	}
	select {
	case w.ops <- o:
	default:
		if err := w.wait(ctx, o); err != nil {
			return err
		}
	}
	select {
	case err := <-o.done:
		return err
	case <-w.closed:
		return queue.ErrClosed
	}
}

func (w *writer) wait(ctx context.Context, o *op) error {
	t := time.NewTimer(busyAfter)
	defer t.Stop()
	select {
	case w.ops <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return queue.ErrBusy
	case <-w.closed:
		return queue.ErrClosed
	}
}

func (w *writer) lastError() error {
	w.errMu.Lock()
	defer w.errMu.Unlock()
	return w.err
}

func (w *writer) loop() {
	defer close(w.closed)
	for {
		if last := w.runGroup(<-w.ops); last {
			return
		}
	}
}

// runGroup runs what comes from the first operation on in one transaction or, if any of it fails, each operation in one of
// its own, so that what is wrong with one does not fail the others. It tells whether the loop is to end.
func (w *writer) runGroup(first *op) (last bool) {
	group, err := w.transact(w.coming(first))
	if err == nil {
		return false
	}
	for i, o := range group {
		if len(group) > 1 {
			_, err = w.transact(slices.Values(group[i : i+1]))
		}
		switch {
		case errors.Is(err, errStopped):
			o.done <- nil
			last = true
		case err != nil:
			o.done <- err
		}
	}
	return last
}

// coming yields the first operation and all that wait by the time that those before have run: the more share a commit, the
// less of it falls to each.
func (w *writer) coming(first *op) iter.Seq[*op] {
	return func(yield func(*op) bool) {
		for n, o := 1, first; o != nil && yield(o) && n < maxGroup; n++ {
			o = w.waiting()
		}
	}
}

// waiting returns an operation that waits, or nil.
func (w *writer) waiting() *op {
	select {
	case o := <-w.ops:
		return o
	default:
		return nil
	}
}

// transact runs the operations, commits, applies and answers them, and returns them. On an error nothing was changed or
// answered, and those returned are the ones it came to.
func (w *writer) transact(ops iter.Seq[*op]) (group []*op, err error) {
	defer func() { w.note(err) }()
	t := &tx{conn: w.conn, now: time.Now(), counts: map[int64]*delta{}, reset: map[int64]bool{}, probes: map[int64]bool{}}
	err = t.exec("BEGIN IMMEDIATE")
	for o := range ops {
		group = append(group, o)
		if err == nil {
			err = o.run(t)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = t.flush()
	}
	if err == nil {
		err = t.exec("COMMIT")
	}
	if err != nil {
		return group, errors.Join(storeError(err), t.rollback())
	}
	w.apply(t, group)
	return group, nil
}

// apply brings memory up to date with a transaction that is durable, and answers its operations.
func (w *writer) apply(t *tx, group []*op) {
	w.mu.Lock()
	for _, o := range group {
		if o.early {
			o.done <- nil
		}
	}
	for _, o := range group {
		if o.apply != nil {
			o.apply()
		}
	}
	w.after(t)
	w.mu.Unlock()
	for _, o := range group {
		if !o.early {
			o.done <- nil
		}
	}
}

// note remembers the last transaction's error for Ready. An error that an operation means for its caller is none.
func (w *writer) note(err error) {
	var se *storageError
	if !errors.As(err, &se) {
		err = nil
	}
	w.errMu.Lock()
	w.err = err
	w.errMu.Unlock()
}

// storageError is an error of the database, not of what was asked.
type storageError struct{ err error }

func (e *storageError) Error() string { return "store: " + e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

func storeError(err error) error {
	switch code := sqlite.ErrCode(err).ToPrimary(); code {
	case sqlite.ResultError:
		return err // not SQLite's
	case sqlite.ResultFull:
		return &storageError{fmt.Errorf("%w: %w", queue.ErrFull, err)}
	default:
		return &storageError{err}
	}
}

// tx is a transaction of the writer. It sums up what its operations change in the counts of activities, so that a
// group that settles thousands of deliveries of one activity updates that activity once.
type tx struct {
	conn   *sqlite.Conn
	now    time.Time
	counts map[int64]*delta // by activity
	totals totals
	events []queue.Event  // to tell of once it is durable
	reset  map[int64]bool // lanes of hosts that it resets
	probes map[int64]bool // lanes that it gives their next probe

	next     int64              // the id of the next delivery, 0 if it makes none
	receipts map[uint64]int64   // activities that it makes, by idempotency key
	uris     map[uint32][]int64 // those with something pending, by hash of their URI
	lanes    map[string]*lane   // that it makes
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

// flush writes the counts, ends activities with nothing pending, and drops bodies that nothing needs any more.
func (t *tx) flush() error {
	for seq, d := range t.counts {
		if err := t.flushActivity(seq, d); err != nil {
			return err
		}
	}
	return t.flushTotals()
}

func (t *tx) flushActivity(seq int64, d *delta) error {
	s := t.conn.Prep(`UPDATE activities SET delivered = delivered + ?1, dead = dead + ?2, cancelled = cancelled + ?3,
		letters = letters + ?4 WHERE seq = ?5
		RETURNING total - delivered - dead - cancelled, letters`)
	defer s.Reset()
	for i, v := range []int64{d.delivered, d.dead, d.cancelled, d.letters, seq} {
		s.BindInt64(i+1, v)
	}
	row, err := s.Step()
	if err != nil || !row {
		return err
	}
	pending, letters := s.ColumnInt64(0), s.ColumnInt64(1)
	if err := s.Reset(); err != nil {
		return err
	}
	if pending > 0 {
		return t.revive(seq, d)
	}
	if err := t.exec("UPDATE activities SET expires_next = NULL, done_at = coalesce(done_at, ?) WHERE seq = ?", millis(t.now), seq); err != nil {
		return err
	}
	if letters > 0 {
		return nil
	}
	return t.exec("DELETE FROM bodies WHERE activity = ?", seq)
}

// revive makes an activity pending that may have been finished.
func (t *tx) revive(seq int64, d *delta) error {
	if d.expires == 0 {
		return nil
	}
	return t.exec("UPDATE activities SET done_at = NULL, expires_next = min(coalesce(expires_next, ?1), ?1) WHERE seq = ?2", d.expires, seq)
}
