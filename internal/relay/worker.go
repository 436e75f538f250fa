package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	connectTimeout  = 10 * time.Second
	databaseTimeout = 30 * time.Second // for one step in the database
	firstPause      = 100 * time.Millisecond
	longestPause    = 30 * time.Second
)

// worker hands rows over by one connection to the database, one batch after the other. It is used by one goroutine.
type worker struct {
	*Relay
	measures bool // updates the gauges
	conn     *pgx.Conn
	notified bool // a notification came while a query was running
	failures int  // in a row
	measured time.Time
}

// run hands rows over until ctx ends. Calls under way go on until work ends.
func (w *worker) run(ctx, work context.Context) {
	for ctx.Err() == nil {
		err := w.session(ctx, work)
		if ctx.Err() != nil {
			return
		}
		w.note(&w.database, "database", explain(err))
		w.pause(ctx, 0)
	}
}

// explain adds what to do if the tables are not there.
func explain(err error) error {
	const undefinedTable = "42P01"
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == undefinedTable {
		return fmt.Errorf("the tables of the outbox are not there (postrider relay --install=apply makes them): %w", err)
	}
	return err
}

// session connects to the database and hands rows over until the connection fails or ctx ends.
func (w *worker) session(ctx, work context.Context) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	defer closeConn(ctx, w.conn)
	for ctx.Err() == nil {
		if err := w.step(ctx, work); err != nil {
			return err
		}
	}
	return nil
}

// open makes a connection that is notified of rows.
func (w *worker) open(ctx context.Context) (err error) {
	config := w.config.Copy()
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { w.notified = true }
	if w.conn, err = connect(ctx, config); err != nil {
		return err
	}
	if _, err := w.conn.Exec(ctx, "LISTEN postrider_outbox"); err != nil {
		closeConn(ctx, w.conn)
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// step hands one batch over, or waits for rows if there are none. It returns the database's errors only.
func (w *worker) step(ctx, work context.Context) error {
	if err := w.measure(ctx); err != nil {
		return err
	}
	done, err := w.batch(work)
	if err != nil {
		return err
	}
	w.note(&w.database, "database", nil)
	switch {
	case done.away != nil:
		w.note(&w.node, "node", done.away)
		if len(done.accepted)+len(done.refused) > 0 {
			w.failures = 0
		}
		w.pause(ctx, done.retryAfter)
	case done.rows == 0:
		w.failures = 0
		return w.await(ctx)
	default:
		w.failures = 0
		w.note(&w.node, "node", nil)
	}
	return nil
}

// connect opens a connection to the database.
func connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server closes it too
}

// await waits until a notification comes, the time to poll has come, or ctx ends.
func (w *worker) await(ctx context.Context) error {
	if w.notified {
		w.notified = false
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, jitter(w.Poll))
	defer cancel()
	err := w.conn.PgConn().WaitForNotification(wait)
	w.notified = false
	if wait.Err() != nil && !w.conn.IsClosed() {
		return nil
	}
	return err
}

// pause waits for longer after each failure, and at least as long as the node asked for, or until ctx ends.
func (w *worker) pause(ctx context.Context, least time.Duration) {
	pause := min(firstPause<<min(w.failures, 16), longestPause)
	w.failures++
	select {
	case <-time.After(jitter(max(pause, least))):
	case <-ctx.Done():
	}
}

// jitter adds up to a quarter to a time, so that relays do not act in step.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }
