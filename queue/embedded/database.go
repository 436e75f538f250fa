package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

const readConns = 4

// database is the file of a store, open: the writer's connection, and those of readers.
type database struct {
	path    string
	log     *slog.Logger
	stamps  *stamper
	conn    *sqlite.Conn      // only the writer's
	readers chan *sqlite.Conn // idle read connections
	closed  chan struct{}
	corrupt atomic.Bool // see noteCorrupt
}

// openDatabase opens a database, and makes it if it isn't there.
func openDatabase(path string, log *slog.Logger) (*database, error) {
	d := &database{path: path, log: log, readers: make(chan *sqlite.Conn, readConns), closed: make(chan struct{})}
	if err := d.connect(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *database) connect() (err error) {
	if d.stamps, err = newStamper(d.path); err != nil {
		return err
	}
	if d.conn, err = Connect(d.path); err != nil {
		return err
	}
	if err := d.stamps.begin(d.path, d.conn); err != nil {
		return err
	}
	if err := makeSchema(d.conn); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(d.path), err)
	}
	for range readConns {
		r, err := connect(d.path, true)
		if err != nil {
			return err
		}
		d.readers <- r
	}
	return nil
}

// close closes all connections; the writer must have stopped. It may be called again.
func (d *database) close() error {
	select {
	case <-d.closed:
		return nil
	default:
		close(d.closed)
	}
	var errs []error
	if d.conn != nil {
		errs = append(errs, d.stamps.end(), d.conn.Close())
	}
	for range readConns {
		select {
		case c := <-d.readers:
			errs = append(errs, c.Close())
		default: // a failed start has fewer; in a running store callers are gone by now
		}
	}
	if d.stamps != nil {
		errs = append(errs, d.stamps.close())
	}
	return errors.Join(errs...)
}

// read runs f on a read connection.
func (d *database) read(ctx context.Context, f func(*sqlite.Conn) error) error {
	select {
	case c := <-d.readers:
		defer func() { d.readers <- c }()
		err := f(c)
		d.noteCorrupt(err)
		return err
	case <-d.closed:
		return queue.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Connect opens a database as the store's writer does, and makes it if it isn't there: to measure what the store adds to
// SQLite.
func Connect(path string) (*sqlite.Conn, error) {
	// SQLite gives its WAL the mode of the database; its contents show who talks to whom.
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
	// autocheckpoint on the writer the WAL was seen to grow without bound. When it is emptied, its file is cut to what the
	// next one will overwrite. secure_delete overwrites what is deleted: the bodies of activities.
	pragmas := []string{
		"busy_timeout=5000", "page_size=8192", "journal_mode=WAL", "cache_size=-8192", "synchronous=FULL",
		"wal_autocheckpoint=2000", fmt.Sprintf("journal_size_limit=%d", walSize), "cell_size_check=ON", "secure_delete=ON",
	}
	if readOnly {
		pragmas = []string{"busy_timeout=5000", "cache_size=-2048", "query_only=ON", "cell_size_check=ON"} // nothing is read often
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
