package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/redis/rueidis"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue/embedded"
)

// inserts is the role that only writes rows, in the way of the store: the baseline of intake. Its callers are its own
// goroutines or, as the minimum of an intake over HTTP, clients.
type inserts struct {
	o       *Options
	at      location
	db      *sqlite.Conn   // nil with Redis
	redis   rueidis.Client // nil with SQLite
	waiting chan row       // to be inserted into db
	group   sync.WaitGroup // the goroutine that inserts them
	server  *http.Server
	served  atomic.Int64
}

// row is a row that a caller waits for.
type row struct {
	value string
	done  chan error
}

// rows says what to write: a number of rows with a value each, by a number of callers (0: all rows at once).
type rows struct {
	Rows, Callers int
	Value         string
}

func (w *inserts) commands() commands {
	return commands{"start": command(w.start), "insert": command(w.insert), "serve": command(w.serve)}
}

func (w *inserts) start(_ context.Context, at location) (_ any, err error) {
	w.at = at
	if w.o.Config.Store.IsRedis() {
		w.redis, err = connectRedis(w.o.Config)
		return nil, err
	}
	if w.db, err = embedded.Connect(filepath.Join(at.Dir, "bare.db")); err != nil {
		return nil, err
	}
	err = sqlitex.ExecuteScript(w.db, `CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, activity INTEGER NOT NULL,
		lane INTEGER NOT NULL, value TEXT NOT NULL, due INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT`, nil)
	w.waiting = make(chan row, callers)
	w.group.Go(w.insertGroups)
	return nil, err
}

func (w *inserts) stop() (err error) {
	if w.server != nil {
		err = w.server.Close()
	}
	if w.redis != nil {
		w.redis.Close()
	}
	if w.db == nil {
		return err
	}
	close(w.waiting)
	w.group.Wait()
	return errors.Join(err, w.db.Close())
}

// insert writes rows and returns the time that took.
func (w *inserts) insert(ctx context.Context, r rows) (_ any, err error) {
	began := time.Now()
	switch {
	case r.Callers > 0:
		err = w.insertByCallers(ctx, r)
	case w.redis != nil:
		err = w.pipeline(ctx, r)
	default:
		err = w.transaction(func(insert func(string) error) (err error) {
			for i := 0; i < r.Rows && err == nil; i++ {
				err = insert(r.Value)
			}
			return err
		})
	}
	return time.Since(began), err
}

// transaction inserts the rows of f in one transaction.
func (w *inserts) transaction(f func(insert func(value string) error) error) error {
	if err := sqlitex.Execute(w.db, "BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	insert := w.db.Prep("INSERT INTO bare (activity, lane, value, due, expires) VALUES (?, ?, ?, ?, ?)")
	err := f(func(value string) error {
		now := time.Now().UnixMilli()
		for i, column := range []int64{1, 2, 0, now, now} {
			insert.BindInt64(i+1, column)
		}
		insert.BindText(3, value)
		if _, err := insert.Step(); err != nil {
			return err
		}
		return insert.Reset()
	})
	if err != nil {
		return err
	}
	return sqlitex.Execute(w.db, "COMMIT", nil)
}

// insertGroups inserts rows. One transaction takes all rows that wait.
func (w *inserts) insertGroups() {
	for first := range w.waiting {
		group := []row{first}
		for len(w.waiting) > 0 {
			group = append(group, <-w.waiting)
		}
		err := w.transaction(func(insert func(string) error) (err error) {
			for i := 0; i < len(group) && err == nil; i++ {
				err = insert(group[i].value)
			}
			return err
		})
		for _, r := range group {
			r.done <- err
		}
	}
}

// put writes one row and returns once it is durable. It is safe for concurrent use.
func (w *inserts) put(ctx context.Context, i int, value string) error {
	if w.redis != nil {
		return w.redis.Do(ctx, w.redis.B().Set().Key(w.key(i)).Value(value).Build()).Error()
	}
	done := make(chan error, 1)
	w.waiting <- row{value, done}
	return <-done
}

// insertByCallers inserts rows by callers that each wait until their row is durable.
func (w *inserts) insertByCallers(ctx context.Context, r rows) error {
	var callers sync.WaitGroup
	errs := make([]error, r.Callers)
	for c := range r.Callers {
		callers.Go(func() {
			for i := range share(r, c) {
				errs[c] = errors.Join(errs[c], w.put(ctx, c+i*r.Callers, r.Value))
			}
		})
	}
	callers.Wait()
	return errors.Join(errs...)
}

// share returns how many of the rows caller c inserts.
func share(r rows, c int) int {
	n := r.Rows / r.Callers
	if c < r.Rows%r.Callers {
		n++
	}
	return n
}

func (w *inserts) key(i int) string { return fmt.Sprintf("%s:bare:%d", w.at.Prefix, i) }

// pipeline sets as many keys as there are rows without waiting in between.
func (w *inserts) pipeline(ctx context.Context, r rows) error {
	sets := make(rueidis.Commands, r.Rows)
	for i := range sets {
		sets[i] = w.redis.B().Set().Key(w.key(i)).Value(r.Value).Build()
	}
	for _, result := range w.redis.DoMulti(ctx, sets...) {
		if err := result.Error(); err != nil {
			return err
		}
	}
	return nil
}

// serve accepts calls as a node does, but only writes a row for each, with the body as it came. It returns the address.
func (w *inserts) serve(ctx context.Context, _ struct{}) (any, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := chi.NewRouter()
	mux.Post("/v1/activities", w.accept)
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = w.server.Serve(listener) }() // until stop
	return listener.Addr().String(), nil
}

func (w *inserts) accept(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = w.put(r.Context(), int(w.served.Add(1)), string(body))
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(rw, `{"accepted":1,"duplicates":0,"rejected":[],"url":"/v1/activities/00000000-0000-0000-0000-000000000000"}`)
}
