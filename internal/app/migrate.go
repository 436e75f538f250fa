package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/queue/redisq"
	"github.com/postrider/postrider/signer"
)

// migrate moves everything in one store to another. The destination is marked while it is filled, and the source after
// that, so that no node works on an incomplete or an outdated store. A migration that was interrupted is run again.
func migrate(ctx context.Context, cfg *config.Config, log *slog.Logger, out io.Writer) (err error) {
	if dir := cfg.Store.Dir; !cfg.Store.IsRedis() {
		if _, err := os.Stat(filepath.Join(dir, "postrider.db")); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no store in %s", dir)
		}
	}
	from, err := openEnd(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	destination := *cfg
	destination.Store = cfg.To.Store
	destination.RedisPrefix = cfg.To.Prefix
	destination.RedisPartitions = cfg.To.Partitions
	destination.MasterKey = cfg.To.MasterKey
	to, err := openEnd(ctx, &destination, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	m := &migration{from: from, to: to, out: out, log: log, reported: time.Now()}
	if err := m.openSealers(ctx, cfg, &destination); err != nil {
		return err
	}
	if err := m.run(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// end is one of the two stores.
type end struct {
	queue.Queue
	name  string                                    // without secrets
	inUse func(ctx context.Context) (string, error) // returns the nodes that work on it, "" if none is known
}

func openEnd(ctx context.Context, cfg *config.Config, log *slog.Logger) (*end, error) {
	if !cfg.Store.IsRedis() {
		store, err := embedded.Open(cfg.Store.Dir, embedded.Options{}) // its lock keeps nodes out
		return &end{store, cfg.Store.String(), func(context.Context) (string, error) { return "", nil }}, err
	}
	name := fmt.Sprintf("%s (prefix %s)", cfg.Store, cfg.RedisPrefix)
	secure, err := cfg.RedisTLS()
	if err != nil {
		return nil, err
	}
	store, err := redisq.Open(ctx, redisq.Options{
		URL: cfg.Store.URL.Reveal(), TLS: func() *tls.Config { return secure }, Prefix: cfg.RedisPrefix, Partitions: cfg.RedisPartitions, NoWakes: true, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", name, err)
	}
	return &end{store, name, store.InUse}, nil
}

// migration is one run of migrate.
type migration struct {
	from, to *end
	out      io.Writer
	log      *slog.Logger

	opener, sealer *signer.Sealer // of the private keys in from and to
	batch          []queue.Record
	weight         int // of the batch
	moved          totals
	stored         int       // records that were new
	reported       time.Time // when progress was last written
}

// totals are what was moved.
type totals struct{ keys, hosts, activities, pending, dead, receipts int }

func (t totals) records() int { return t.keys + t.hosts + t.activities + t.receipts }

// openSealers finds the master keys of both stores. A destination on Redis without any gets those of the source.
func (m *migration) openSealers(ctx context.Context, from, to *config.Config) (err error) {
	masters, err := masterKeys(from)
	if err != nil {
		return err
	}
	if m.opener, err = newSealer(ctx, from, m.from, masters, m.log); err != nil {
		return err
	}
	if len(to.MasterKey) > 0 || !to.Store.IsRedis() {
		if masters, err = masterKeys(to); err != nil {
			return err
		}
	}
	m.sealer, err = newSealer(ctx, to, m.to, masters, m.log)
	return err
}

func (m *migration) run(ctx context.Context) error {
	filling := "is being filled from " + m.from.name + " by a migration that has not ended: run that again"
	if err := m.check(ctx, m.from, ""); err != nil {
		return err
	}
	if err := m.check(ctx, m.to, filling); err != nil {
		return err
	}
	if err := m.to.SetMark(ctx, filling); err != nil {
		return err
	}
	if err := m.transfer(ctx); err != nil {
		return fmt.Errorf("%w (nothing is lost, and %s is as it was: run the same command again)", err, m.from.name)
	}
	for _, e := range []*end{m.from, m.to} { // a node may have started meanwhile
		if err := e.mustBeIdle(ctx); err != nil {
			return err
		}
	}
	if err := m.to.SetMark(ctx, ""); err != nil {
		return err
	}
	if m.moved.records() == 0 {
		return fmt.Errorf("%s holds nothing: look at store and redis-prefix", m.from.name)
	}
	if err := m.from.SetMark(ctx, "was moved to "+m.to.name+" on "+time.Now().UTC().Format(time.DateOnly)); err != nil {
		return err
	}
	return m.summarise(ctx)
}

// check refuses a store that is in use or has a mark other than the allowed one.
func (m *migration) check(ctx context.Context, e *end, allowed string) error {
	mark, err := e.Mark(ctx)
	if err != nil {
		return err
	}
	if mark.Text != "" && mark.Text != allowed {
		return fmt.Errorf("%s %s (the mark can be removed: %s)", e.name, mark.Text, mark.Remove)
	}
	return e.mustBeIdle(ctx)
}

func (e *end) mustBeIdle(ctx context.Context) error {
	nodes, err := e.inUse(ctx)
	if err == nil && nodes != "" {
		err = fmt.Errorf("%s is in use: %s; stop every node first", e.name, nodes)
	}
	return err
}

// transfer moves everything, and compares what it moved with the totals of the source.
func (m *migration) transfer(ctx context.Context) error {
	want, err := m.from.Stats(ctx)
	if err != nil {
		return err
	}
	err = m.from.Export(ctx, func(r queue.Record) error {
		if err := m.add(&r); err != nil {
			return err
		}
		if time.Since(m.reported) > 5*time.Second {
			m.reported = time.Now()
			_, _ = fmt.Fprintf(m.out, "%d of %d activities, %d of %d deliveries pending\n",
				m.moved.activities, want.Activities, m.moved.pending, want.Pending)
		}
		if len(m.batch) < 200 && m.weight < 5000 {
			return nil
		}
		return m.flush(ctx)
	})
	if err == nil {
		err = m.flush(ctx)
	}
	if err != nil {
		return err
	}
	if got := m.moved; got.activities != want.Activities || got.pending != want.Pending || got.dead != want.Dead {
		return fmt.Errorf("%s counts %d activities, %d deliveries pending and %d dead letters, but handed over %d, %d and %d",
			m.from.name, want.Activities, want.Pending, want.Dead, got.activities, got.pending, got.dead)
	}
	return nil
}

// add puts a record into the batch.
func (m *migration) add(r *queue.Record) error {
	switch {
	case r.Key != nil:
		if usable, err := m.reseal(r.Key); err != nil || !usable {
			return err
		}
		m.moved.keys++
	case r.Host != nil:
		m.moved.hosts++
	case r.Activity != nil:
		m.moved.activities++
		for _, d := range r.Activity.Deliveries {
			if d.Reason == "" {
				m.moved.pending++
			} else {
				m.moved.dead++
			}
		}
		m.weight += len(r.Activity.Deliveries) + len(r.Activity.Body)>>10
	case r.Receipt != nil:
		m.moved.receipts++
	}
	m.batch = append(m.batch, *r)
	return nil
}

// reseal encrypts a private key for the new store. It reports false for a damaged key, which can sign nothing in either
// store: without it, its deliveries wait until the key is put again.
func (m *migration) reseal(k *queue.Key) (usable bool, err error) {
	private, err := m.opener.Open(k.ID, k.Sealed)
	if errors.Is(err, signer.ErrMasterKey) {
		return false, fmt.Errorf("the master key does not open the private key %s: %w", k.ID, err)
	}
	if err != nil {
		m.log.Error("key.damaged", "key_id", k.ID, "error", err)
		return false, nil
	}
	k.Sealed, err = m.sealer.Seal(k.ID, private)
	return true, err
}

func (m *migration) flush(ctx context.Context) error {
	n, err := m.to.Import(ctx, m.batch)
	m.stored += n
	m.batch = m.batch[:0]
	m.weight = 0
	return err
}

func (m *migration) summarise(ctx context.Context) error {
	mark, err := m.from.Mark(ctx)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(m.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(t, "keys\t%d\t\nhosts\t%d\t\nactivities\t%d\t\ndeliveries pending\t%d\t\ndead letters\t%d\t\nreceipts\t%d\t\n",
		m.moved.keys, m.moved.hosts, m.moved.activities, m.moved.pending, m.moved.dead, m.moved.receipts)
	if err := t.Flush(); err != nil {
		return err
	}
	if there := m.moved.records() - m.stored; there > 0 {
		_, _ = fmt.Fprintf(m.out, "%d of these were there already and are as they were\n", there)
	}
	_, err = fmt.Fprintf(m.out, "moved %s to %s\nno node starts on the old store any more (to undo that: %s)\n",
		m.from.name, m.to.name, mark.Remove)
	return err
}
