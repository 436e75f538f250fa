// Package embedded is the queue of a single node, on SQLite in one folder.
//
// What lasts is in the database; what only decides who goes next (lanes, leases seen, what is taken) is in memory and is
// rebuilt at start. So finding and taking work writes nothing, and after a crash all that was not settled is simply
// pending again.
//
// One goroutine writes. It runs the operations that wait (up to 1,024) in one transaction, commits with synchronous=FULL,
// applies them to memory in the same order, and only then answers: callers share the cost of an fsync, and memory never
// holds what the disk does not. Who submits an activity is answered once it is durable; whoever reads from then on waits
// until memory has it too. Readers of the database use connections of their own and never wait for the writer.
//
// What callers may not rely on: that a call's context stops it once it is queued; the writer always answers.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// ErrLocked means that another process has the store open.
var ErrLocked = errors.New("the store is in use by another process")

// Options configure a Store.
type Options struct {
	queue.Limits
	// Idle is the longest that Due lets a node sleep; 0 is queue.MaxIdle.
	Idle time.Duration
	// Rand decides which of the lanes that are due goes next; nil is math/rand/v2's. It must belong to this store alone.
	Rand *rand.Rand
	// Leases are those that the node works under, for Settle to end; nil if the caller does.
	Leases lockmgr.Manager
}

// Store is a queue.Queue in a folder.
type Store struct {
	opts    Options
	lock    *flock.Flock
	writer  *writer
	readers chan *sqlite.Conn // idle read connections
	wake    chan struct{}
	stops   atomic.Uint64
	hub     hub

	next     int64    // the id of the next delivery; only the writer's
	receipts receipts // only the writer's

	keys *keyring

	mu    sync.Mutex
	index *index // guarded by mu
	stats totals // guarded by mu
	rates rates  // guarded by mu
	sweep int64  // when Sweep may find something, in ms; guarded by mu
}

var _ queue.Queue = (*Store)(nil)

const readConns = 4

// Open opens the store in dir, and makes both if they are not there. It returns ErrLocked if another process has it.
func Open(dir string, o Options) (*Store, error) {
	o.Retention, o.Idle = max(o.Retention, queue.IdempotencyTTL), cmp.Or(o.Idle, queue.MaxIdle)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	if ok, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("open store: lock %s: %w", dir, err)
	} else if !ok {
		return nil, fmt.Errorf("open store %s: %w", dir, ErrLocked)
	}
	s := &Store{opts: o, lock: lock, wake: make(chan struct{}, 1), readers: make(chan *sqlite.Conn, readConns)}
	if err := s.open(filepath.Join(dir, "postrider.db")); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(path string) error {
	conn, err := Connect(path)
	if err != nil {
		return err
	}
	s.writer = newWriter(conn, &s.mu, s.committed)
	if err := migrate(conn); err != nil {
		return err
	}
	for range readConns {
		r, err := connect(path, true)
		if err != nil {
			return err
		}
		s.readers <- r
	}
	if err := s.load(conn); err != nil {
		return err
	}
	s.writer.start()
	return nil
}

// Connect opens a database, and makes it if it isn't there, with all that the store's own writer sets: for who measures
// what the store adds to SQLite.
func Connect(path string) (*sqlite.Conn, error) {
	// SQLite gives its WAL the mode of the database; what is inside names who talks to whom.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return connect(path, false)
}

func connect(path string, readOnly bool) (*sqlite.Conn, error) {
	// Pages of 8 KiB (of a database that is made) take a tenth less CPU to write than SQLite's of 4 KiB. Without
	// autocheckpoint on the writer the WAL was seen to grow without bound.
	pragmas := []string{
		"busy_timeout=5000", "page_size=8192", "journal_mode=WAL", "cache_size=-8192", "synchronous=FULL",
		"wal_autocheckpoint=2000", "journal_size_limit=67108864",
	}
	if readOnly {
		pragmas = []string{"busy_timeout=5000", "cache_size=-2048", "query_only=ON"} // nothing is read often
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	for _, p := range pragmas {
		if err := sqlitex.ExecuteTransient(conn, "PRAGMA "+p, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// Ready implements queue.Queue. After a failed write it tries one.
func (s *Store) Ready(ctx context.Context) error {
	if s.writer.lastError() == nil {
		return nil
	}
	return s.writer.do(ctx, func(tx *tx) error {
		return tx.exec("UPDATE meta SET delivered = delivered")
	}, nil)
}

// Close implements queue.Queue.
func (s *Store) Close() error {
	s.hub.close()
	var errs []error
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	for range readConns {
		select {
		case c := <-s.readers:
			errs = append(errs, c.Close())
		default: // a failed Open has fewer; in a running store callers are gone by now
		}
	}
	return errors.Join(append(errs, s.lock.Unlock())...)
}

// Wake implements queue.Lanes.
func (s *Store) Wake() <-chan struct{} { return s.wake }

// Stops implements queue.Lanes.
func (s *Store) Stops() uint64 { return s.stops.Load() }

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// read runs f on a read connection.
func (s *Store) read(ctx context.Context, f func(*sqlite.Conn) error) error {
	select {
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		return f(c)
	case <-s.writer.closed:
		return queue.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each runs a query and calls row for each row of its answer.
func each(c *sqlite.Conn, query string, args []any, row func(*sqlite.Stmt) error) error {
	return sqlitex.Execute(c, query, &sqlitex.ExecOptions{Args: args, ResultFunc: row})
}

func millis(t time.Time) int64 { return t.UnixMilli() }

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
