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

	"github.com/postrider/postrider/queue"
)

const (
	maxGroup  = 1024            // operations in one transaction
	maxQueued = 8 * maxGroup    // operations that wait; more find the store busy
	busyAfter = 5 * time.Second // how long one waits to be queued before it finds the store busy
	restAfter = time.Minute     // after the last operation

	// How long after a transaction the next one begins, if all that it has to do may wait. So results that come shortly after one
	// another share a commit, and a result that comes alone is written at once.
	pace = 3 * time.Millisecond
)

// writer runs operations in transactions that they share.
type writer struct {
	db      *database
	mu      *sync.Mutex // guards what apply functions change
	ledger  *ledger
	after   func(*tx) // called once a transaction is applied, with mu held
	ops     chan *op
	stop    chan struct{}
	closed  chan struct{} // closed when the last operation was answered
	started bool
	pace    time.Duration
	read    []*op       // from ops, to be run next
	ended   time.Time   // the last transaction
	calm    *time.Timer // fires once no operation has come for restAfter, and again until the database rests

	errMu sync.Mutex
	err   error // of the last transaction; guarded by errMu
}

// op is one change: run makes it in the database; apply makes it in memory, once it is durable. A caller that is answered early
// must not write anything that apply uses, and must read memory under the mutex: the writer holds it from before the answer
// until all is applied.
type op struct {
	run     func(*tx) error
	apply   func()
	early   bool // is answered when it is durable, before it is applied
	last    bool // ends the loop, and does nothing; it is alone
	alone   bool // is the only one of its transaction: others may hold what it removes
	patient bool // may wait for others, see pace
	done    chan error
}

func newWriter(db *database, mu *sync.Mutex, l *ledger, after func(*tx)) *writer {
	return &writer{
		db: db, mu: mu, ledger: l, after: after, pace: pace,
		ops: make(chan *op, maxQueued), stop: make(chan struct{}), closed: make(chan struct{}),
	}
}

// start begins to run operations. close ends it.
func (w *writer) start() {
	w.started = true
	w.calm = time.NewTimer(restAfter)
	go w.loop()
}

// close stops the writer after what is queued.
func (w *writer) close() {
	select {
	case <-w.stop:
		return
	default:
		close(w.stop)
	}
	if w.started {
		w.ops <- &op{last: true, alone: true}
		<-w.closed
	}
}

// do queues a change and waits until it is durable and applied. It returns ErrBusy if too many wait.
func (w *writer) do(ctx context.Context, run func(*tx) error, apply func()) error {
	return w.await(ctx, &op{run: run, apply: apply})
}

// await queues a change and waits until it is answered.
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
	select {
	case w.ops <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(busyAfter):
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
	defer w.calm.Stop()
	for o := w.next(); !o.last; o = w.next() {
		w.runGroup(o)
		w.ended = time.Now()
		w.db.stamps.keep()
		w.calm.Reset(restAfter)
	}
}

// runGroup runs the first operation and those that follow in one transaction or, if any fails, each in one of its own, so that a
// faulty one does not fail the others.
func (w *writer) runGroup(first *op) {
	group, err := w.transact(w.coming(first))
	if err == nil {
		return
	}
	for i, o := range group {
		if len(group) > 1 {
			_, err = w.transact(slices.Values(group[i : i+1]))
		}
		if err != nil {
			o.done <- err
		}
	}
}

// coming yields the first operation and all that wait once those before have run: the more share a commit, the less it costs
// each.
func (w *writer) coming(first *op) iter.Seq[*op] {
	return func(yield func(*op) bool) {
		for n, o := 1, first; o != nil && yield(o) && n < maxGroup && !o.alone; n++ {
			o = w.waiting()
		}
	}
}

// next returns the first operation of a transaction.
func (w *writer) next() *op {
	o := w.first()
	if o.patient {
		w.gather(w.pace - time.Since(w.ended))
	}
	return o
}

// first returns an operation that was read, or waits for one.
func (w *writer) first() (o *op) {
	if len(w.read) > 0 {
		o, w.read = w.read[0], w.read[1:]
		return o
	}
	for {
		select {
		case o = <-w.ops:
			return o
		case <-w.calm.C:
			if !w.db.stamps.rest(w.ledger.clock.writes) {
				w.calm.Reset(restAfter)
			}
		}
	}
}

// gather reads operations for some time, until there are enough for a transaction or one that must not wait.
func (w *writer) gather(most time.Duration) {
	if most <= 0 || slices.ContainsFunc(w.read, func(o *op) bool { return !o.patient }) {
		return
	}
	over := time.After(most)
	for len(w.read) < maxGroup {
		select {
		case o := <-w.ops:
			w.read = append(w.read, o)
			if !o.patient {
				return
			}
		case <-over:
			return
		}
	}
}

// waiting returns an operation that waits and may share a transaction, or nil.
func (w *writer) waiting() *op {
	if len(w.read) == 0 {
		select {
		case o := <-w.ops:
			w.read = append(w.read, o)
		default:
			return nil
		}
	}
	if w.read[0].alone {
		return nil
	}
	return w.first()
}

// transact runs the operations, commits, applies and answers them, and returns them. On an error nothing was changed or answered,
// and it returns those that it ran.
func (w *writer) transact(ops iter.Seq[*op]) (group []*op, err error) {
	defer func() {
		w.note(err)
		w.db.noteCorrupt(err)
	}()
	t := w.ledger.begin(w.db.conn)
	err = t.exec("BEGIN IMMEDIATE")
	for o := range ops {
		group = append(group, o)
		if err == nil {
			err = guarded(o.run, t)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = guarded((*tx).flush, t)
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

// apply changes memory as a durable transaction requires, and answers its operations.
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

// note keeps the last transaction's error for Ready, unless an operation meant it for its caller.
func (w *writer) note(err error) {
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultError {
		err = nil
	}
	w.errMu.Lock()
	w.err = err
	w.errMu.Unlock()
}

func storeError(err error) error {
	switch code := sqlite.ErrCode(err).ToPrimary(); code {
	case sqlite.ResultError:
		return err // not SQLite's
	case sqlite.ResultFull:
		return fmt.Errorf("store: %w: %w", queue.ErrFull, err)
	default:
		return fmt.Errorf("store: %w", err)
	}
}
