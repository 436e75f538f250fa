package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/queue/redisq"
)

// inserts is the role that only writes, as the store does it but nothing else: what intake is measured against.
type inserts struct {
	o     *Options
	at    place
	db    *sqlite.Conn   // one of these is there
	redis rueidis.Client // the other is nil
}

// rows says what to write: so many rows with a value each, by so many callers (none: all in one go).
type rows struct {
	Rows, Callers int
	Value         string
}

func (w *inserts) commands() commands {
	return commands{"start": command(w.start), "insert": command(w.insert)}
}

func (w *inserts) start(_ context.Context, at place) (_ any, err error) {
	w.at = at
	if w.o.Config.Store.IsRedis() {
		w.redis, err = redisq.Connect(w.o.Config.Store.URL.Reveal())
		return nil, err
	}
	if w.db, err = embedded.Connect(filepath.Join(at.Dir, "bare.db")); err != nil {
		return nil, err
	}
	return nil, sqlitex.ExecuteScript(w.db, `CREATE TABLE bare (id INTEGER PRIMARY KEY, activity INTEGER NOT NULL, lane INTEGER NOT NULL,
		value TEXT NOT NULL, due INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT`, nil)
}

func (w *inserts) stop() error {
	if w.redis != nil {
		w.redis.Close()
	}
	if w.db == nil {
		return nil
	}
	return w.db.Close()
}

// insert writes rows and returns how long it took.
func (w *inserts) insert(ctx context.Context, r rows) (_ any, err error) {
	began := time.Now()
	switch {
	case w.redis != nil && r.Callers == 0:
		err = w.pipeline(ctx, r)
	case w.redis != nil:
		err = w.setByCallers(ctx, r)
	case r.Callers == 0:
		err = w.transaction(r.Rows, r.Value)
	default:
		err = w.insertByCallers(r)
	}
	return time.Since(began), err
}

// transaction inserts so many rows in one transaction.
func (w *inserts) transaction(n int, value string) error {
	if err := sqlitex.Execute(w.db, "BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	insert := w.db.Prep("INSERT INTO bare (activity, lane, value, due, expires) VALUES (?, ?, ?, ?, ?)")
	for range n {
		now := time.Now().UnixMilli()
		for i, column := range []int64{1, 2, 0, now, now} {
			insert.BindInt64(i+1, column)
		}
		insert.BindText(3, value)
		if _, err := insert.Step(); err != nil {
			return err
		}
		if err := insert.Reset(); err != nil {
			return err
		}
	}
	return sqlitex.Execute(w.db, "COMMIT", nil)
}

// insertByCallers has callers that each wait until their row is durable. One transaction takes all that wait.
func (w *inserts) insertByCallers(r rows) error {
	waiting := make(chan chan error, r.Callers)
	var callers sync.WaitGroup
	errs := make([]error, r.Callers)
	for c := range r.Callers {
		callers.Go(func() {
			for range share(r, c) {
				done := make(chan error, 1)
				waiting <- done
				errs[c] = errors.Join(errs[c], <-done)
			}
		})
	}
	go func() { callers.Wait(); close(waiting) }() // ends before the loop below does
	for first := range waiting {
		group := []chan error{first}
		for len(waiting) > 0 {
			group = append(group, <-waiting)
		}
		err := w.transaction(len(group), r.Value)
		for _, done := range group {
			done <- err
		}
	}
	return errors.Join(errs...)
}

// share is how many of the rows are caller c's.
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

func (w *inserts) setByCallers(ctx context.Context, r rows) error {
	var callers sync.WaitGroup
	errs := make([]error, r.Callers)
	for c := range r.Callers {
		callers.Go(func() {
			for i := range share(r, c) {
				err := w.redis.Do(ctx, w.redis.B().Set().Key(w.key(c+i*r.Callers)).Value(r.Value).Build()).Error()
				errs[c] = errors.Join(errs[c], err)
			}
		})
	}
	callers.Wait()
	return errors.Join(errs...)
}
