// Package embedded is the queue of a single node, on SQLite in one folder.
//
// The database has all that must survive a crash. Memory has what decides which delivery is next (lanes, leases seen, what is
// taken), and is rebuilt at start. So finding and taking work writes nothing, and after a crash all that was not settled is
// simply pending again.
//
// One goroutine writes. It runs the operations that wait (up to 1,024) in one transaction, commits with synchronous=FULL,
// applies them to memory in the same order, and only then answers: callers share the cost of an fsync, and memory never
// holds what the disk does not. The caller that submits an activity is answered once it is durable; every later reader waits
// until memory has it too. Results of attempts wait some milliseconds for others, see pace. Readers of the database use
// connections of their own and never wait for the writer.
//
// Callers must not rely on a call's context to stop it once it is queued: the writer always answers.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

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
	// Rand draws from the lanes that are due; nil is math/rand/v2's. It must belong to this store alone.
	Rand *rand.Rand
	// Prompt lets no result wait for others to share a transaction with. So nothing takes time in a world of simulated time, and
	// the same happens whichever of two results of one instant comes first.
	Prompt bool
	// Leases are those that the node works under, for Settle to release; nil if the caller releases them.
	Leases lockmgr.Manager
	// Wall is the wall clock, which may jump; nil is time.Now.
	Wall func() time.Time
	// Log gets a line about each damaged row or page. Nil is slog.Default.
	Log *slog.Logger
}

// Store is a queue.Queue in a folder.
type Store struct {
	opts   Options
	lock   *flock.Flock
	db     *database
	writer *writer
	wake   signal
	hub    queue.Hub
	clock  *clock
	name   string // as a node

	keys *keyring

	mu    sync.Mutex
	index *index // guarded by mu
	stats totals // guarded by mu
	rates rates  // guarded by mu

	restless map[int64]bool // lanes of hosts whose state the feed may not know; guarded by mu

	info   func() queue.NodeInfo // says what the node is and does; nil until Join; guarded by mu
	looks  bool                  // Due was called; guarded by mu
	choosy bool                  // as the last Due said; guarded by mu
}

var _ queue.Queue = (*Store)(nil)

// Open opens the store in dir, and makes both if they are not there. It returns ErrLocked if another process has it.
func Open(dir string, o Options) (*Store, error) {
	o.Retention, o.Idle = max(o.Retention, queue.IdempotencyTTL), cmp.Or(o.Idle, queue.MaxIdle)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	if ok, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("open store: lock %s: %w", dir, err)
	} else if !ok {
		return nil, fmt.Errorf("open store %s: %w", dir, ErrLocked)
	}
	s := &Store{opts: o, lock: lock, wake: make(signal, 1), name: queue.NewNodeName(), restless: map[int64]bool{}}
	if err := s.open(filepath.Join(dir, "postrider.db")); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), s.Close())
	}
	s.writer.start()
	return s, nil
}

// open opens the database, which is rebuilt first if pages of it cannot be read.
func (s *Store) open(path string) error {
	err := s.prepare(path)
	if _, absent := os.Lstat(rebuildFile(path)); err == nil && absent == nil {
		err = errors.New("pages could not be read")
	} else if err == nil || !isCorrupt(err) {
		return err
	}
	if closing := s.closeDatabase(); closing != nil && !isCorrupt(closing) {
		return errors.Join(err, closing)
	}
	if failed := rebuild(path, err, s.opts.Log); failed != nil {
		return errors.Join(err, failed)
	}
	return s.prepare(path)
}

// prepare opens the database and loads what it holds.
func (s *Store) prepare(path string) (err error) {
	if s.db, err = openDatabase(path, s.opts.Log); err != nil {
		return err
	}
	if s.clock, err = startClock(s.db.conn, s.opts.Wall, s.opts.Log); err != nil {
		return err
	}
	s.writer = newWriter(s.db, &s.mu, &ledger{clock: s.clock, restless: s.takeRestless}, s.committed)
	if s.opts.Prompt {
		s.writer.pace = 0
	}
	return load(s)
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
	s.hub.Close()
	return errors.Join(s.closeDatabase(), s.lock.Unlock())
}

func (s *Store) closeDatabase() error {
	if s.writer != nil {
		s.writer.close()
	}
	if s.db == nil {
		return nil
	}
	return s.db.close()
}
