// Package relay is the relay command: it hands the rows of an outbox table in an app's PostgreSQL over to a node. The app
// inserts a row in the transaction that also changes its own data, so what it commits is delivered, and what it rolls back is
// not.
//
// What callers may rely on:
//
//   - Complete: a row leaves the table only after the node has accepted its call, or stays with the reason why the node will
//     never accept it. Each row is handed over at last, even if processes are killed at any time.
//   - Once: each row has an idempotency key, made of its ID and time, so a node that is handed a row again within 24 hours
//     sends nothing.
//   - In order: rows with the same ordering key are handed over in the order of their IDs, and so are the rows without a key
//     among themselves, however many relays work on the table. A row that was refused does not hold back the others.
//   - Patient: while the database or the node is away, the relay tries again without end, less and less often, and reports that
//     it is not ready.
//
// How the order is kept: a generated column maps the ordering key of a row to one of 16 slots. A relay locks the rows of some
// slots in a table of these (FOR UPDATE SKIP LOCKED), so it alone works on all rows of a slot, then reads the oldest ones,
// hands them over in one batch, and deletes what was accepted in the transaction that holds the lock. So the rows of each key
// in a batch are always the oldest that are left, in order. If the lock is lost while a batch is under way, because the
// database was restarted or the relay hung, another relay may hand over the same rows meanwhile. Both batches begin with the
// same rows in the same order, so the later one of each pair is a repetition.
//
// What callers may not rely on: an order between transactions that overlap and do not lock one another, as the IDs of their
// rows do not follow the order of their commits; that nothing is sent twice if the relay was stopped for more than 24 hours
// after an answer was lost.
package relay

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// Schema is the SQL that makes the tables of the outbox. It may be run again.
//
//go:embed schema.sql
var Schema string

// Options are a Relay's. All are required, but Token and Registry.
type Options struct {
	Database string                // a PostgreSQL URL, or settings as libpq takes them (host=… dbname=…)
	URL      string                // of the node's API, without a slash at its end
	Token    string                // for the API, if it requires one
	Poll     time.Duration         // how often to look for rows that no notification announced
	Timeout  time.Duration         // how long calls under way may go on when Run's context ends
	Registry prometheus.Registerer // for the metrics; nil for none
	Log      *slog.Logger
}

// workers is the number of batches that a relay has under way: the database works for one of them while the node works for
// another.
const workers = 2

// Relay hands rows over. Make it with New.
type Relay struct {
	Options
	config  *pgx.ConnConfig
	client  *http.Client
	metrics *metrics

	mu       sync.Mutex
	database error // guarded by mu: why the database cannot be used, as seen last
	node     error // guarded by mu: the same of the node
}

var errStarting = errors.New("the relay is starting")

// New makes a relay. It does nothing until Run. The error does not hold the password of the database.
func New(o Options) (*Relay, error) {
	config, err := pgx.ParseConfig(o.Database)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	config.RuntimeParams["application_name"] = "postrider relay"
	return &Relay{
		Options: o, config: config, metrics: newMetrics(o.Registry), database: errStarting,
		client: &http.Client{
			Timeout: callTimeout,
			// A redirect must not carry the token to another server.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Install makes the tables of the outbox, unless they are there.
func (r *Relay) Install(ctx context.Context) error {
	conn, err := connect(ctx, r.config)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if _, err := conn.Exec(ctx, Schema); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return nil
}

// Run hands rows over until ctx ends. Calls that are under way then are finished within Timeout.
func (r *Relay) Run(ctx context.Context) {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(r.Timeout, cut) })
	defer stop()
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() { (&worker{Relay: r, measures: i == 0}).run(ctx, work) })
	}
	group.Wait()
	r.client.CloseIdleConnections()
}

// Ready returns why rows cannot be handed over now, or nil, and a word for it: starting, database or node.
func (r *Relay) Ready() (reason string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(r.database, errStarting):
		return "starting", r.database
	case r.database != nil:
		return "database", r.database
	case r.node != nil:
		return "node", r.node
	}
	return "", nil
}

// note remembers whether the database or the node can be used, and logs a change.
func (r *Relay) note(kept *error, name string, err error) {
	r.mu.Lock()
	before := *kept
	*kept = err
	r.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		r.Log.Warn("relay.away", "what", name, "error", err)
	case err == nil && before != nil:
		r.Log.Info("relay.back", "what", name)
	}
}
