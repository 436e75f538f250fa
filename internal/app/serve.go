package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/handlers"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/internal/webhook"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/queue/redisq"
	"github.com/postrider/postrider/signer"
)

// openStore opens the store, and the manager of the leases that all nodes on it share.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (queue.Queue, lockmgr.Manager, error) {
	secure, err := cfg.RedisTLS()
	if err != nil {
		return nil, nil, err
	}
	return openStoreBy(ctx, cfg, log, func() *tls.Config { return secure })
}

// openStoreBy is openStore for a Redis whose TLS connections are each made with the settings that secure returns then.
func openStoreBy(ctx context.Context, cfg *config.Config, log *slog.Logger, secure func() *tls.Config) (queue.Queue, lockmgr.Manager, error) {
	limits := queue.Limits{
		Retention: cfg.Retention, DeadRetention: cfg.DeadLetterRetention, DeadLetters: cfg.DeadLetterCap, Lane: cfg.LaneCap,
		Feed: queue.FeedLimits{Retention: cfg.FeedRetention, Cap: cfg.FeedCap, Delivered: cfg.FeedDelivered},
	}
	if !cfg.Store.IsRedis() {
		leases := lockmgr.NewLocal(cfg.LeaseTTL)
		store, err := embedded.Open(cfg.Store.Dir, embedded.Options{Limits: limits, Leases: leases, Log: log})
		return store, leases, err
	}
	store, err := redisq.Open(ctx, redisq.Options{
		URL: cfg.Store.URL.Reveal(), TLS: secure, Prefix: cfg.RedisPrefix, Partitions: cfg.RedisPartitions,
		Limits: limits, Log: log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("store %s: %w", cfg.Store, err)
	}
	return store, store.Leases(cfg.LeaseTTL), nil
}

// mayServe refuses a store that is marked: its contents were moved elsewhere, or are not complete yet.
func mayServe(ctx context.Context, cfg *config.Config, store queue.Moving) error {
	mark, err := store.Mark(ctx)
	if err == nil && mark.Text != "" {
		err = fmt.Errorf("store %s %s (to serve it all the same: %s)", cfg.Store, mark.Text, mark.Remove)
	}
	return err
}

// openSealer returns the sealer of private keys, after it has opened those in the store.
func openSealer(ctx context.Context, cfg *config.Config, store queue.Keys, log *slog.Logger) (*signer.Sealer, error) {
	masters, err := masterKeys(cfg)
	if err != nil {
		return nil, err
	}
	return newSealer(ctx, cfg, store, masters, log)
}

// newSealer is openSealer with these master keys.
func newSealer(ctx context.Context, cfg *config.Config, store queue.Keys, masters [][]byte, log *slog.Logger) (*signer.Sealer, error) {
	sealer, err := signer.NewSealer(masters...)
	if err != nil {
		return nil, err
	}
	err = checkKeys(ctx, store, sealer, log)
	if errors.Is(err, signer.ErrMasterKey) {
		err = fmt.Errorf("the master key does not open the private keys in %s: %w", cfg.Store, err)
	}
	return sealer, err
}

// checkKeys decrypts every stored key. It logs a damaged key and goes on.
func checkKeys(ctx context.Context, store queue.Keys, sealer *signer.Sealer, log *slog.Logger) error {
	for page := (queue.Page{Limit: 500}); ; {
		stored, err := store.Keys(ctx, queue.KeyFilter{Pinned: true}, page)
		if err != nil {
			return err
		}
		for _, k := range stored.Items {
			err := sealer.Check(k.ID, k.Sealed)
			if errors.Is(err, signer.ErrMasterKey) {
				return fmt.Errorf("%s: %w", k.ID, err)
			}
			if err != nil {
				log.Error("key.damaged", "key_id", k.ID, "error", err)
			}
		}
		if page.Cursor = stored.Next; page.Cursor == "" {
			return nil
		}
	}
}

// masterKeys returns the master keys of the settings or, without any, those in the folder of the embedded store.
func masterKeys(cfg *config.Config) ([][]byte, error) {
	if len(cfg.MasterKey) == 0 {
		return embedded.MasterKeys(cfg.Store.Dir)
	}
	var keys [][]byte
	for _, key := range cfg.MasterKey {
		keys = append(keys, []byte(key.Reveal()))
	}
	return keys, nil
}

// node is the parts of a node that work on an open store.
type node struct {
	log          *slog.Logger
	client       *delivery.Client
	pool         *delivery.Pool
	hook         *webhook.Sender // nil without a webhook
	delivers     bool
	concurrency  int // attempts
	api          *handlers.API
	calls        *handlers.Metrics
	server       *http.Server
	timeout      time.Duration
	signing      string
	fingerprints []string // of the master keys
	store        queue.Queue
	name         string // in the fleet
	traces       *telemetry.Traces
	started      time.Time
}

// newNode makes a node. The end of life ends its streams of events.
func (s *service) newNode(life context.Context, store queue.Queue, leases lockmgr.Manager, sealer *signer.Sealer) (*node, error) {
	cfg := s.cfg
	log := s.log
	policy := netguard.NewPolicy(cfg.AllowPrivateAddresses, cfg.DenyAddresses...)
	registry := newRegistry(cfg)
	store = newMeter(store, registry)
	rsa, note, err := signer.OpenRSA(cfg.Signing)
	if err != nil {
		return nil, err
	}
	if note != "" {
		log.Warn("signing.fallback", "backend", rsa.Name(), "reason", note)
	}
	names := resolver.New(resolver.Options{
		Timeout: cfg.DNSTimeout, Servers: s.nameServers, Log: log, Observe: lookupMetrics(registry),
	})
	client := delivery.NewClient(delivery.ClientOptions{
		ConnectTimeout: cfg.ConnectTimeout, AttemptTimeout: cfg.AttemptTimeout, Policy: policy, Resolver: names,
		MaxIdle: cfg.Concurrency, MaxIdlePerHost: cfg.HostConcurrency,
	})
	client.Register(registry)
	n := &node{
		log: log, client: client, delivers: cfg.Deliver, concurrency: cfg.Concurrency, timeout: cfg.ShutdownTimeout, signing: rsa.Name(),
		fingerprints: sealer.Fingerprints(), store: store, traces: s.traces, started: time.Now(),
	}
	keys := signer.New(signer.Options{Store: keyStore{store}, Sealer: sealer, RSA: rsa})
	n.pool = delivery.NewPool(delivery.Options{
		Queue: store, Leases: lockmgr.NewKeeper(leases, cfg.LeaseTTL, log),
		Signer: keys, Client: client, Policy: policy, Names: names,
		Breaker: breaker.Settings{
			Threshold: cfg.BreakerThreshold, CoolOff: cfg.BreakerCoolOff, CoolOffMax: cfg.BreakerCoolOffMax,
			Window: cfg.HostConcurrency, UnavailableDays: cfg.UnavailableDays,
		},
		Concurrency: cfg.Concurrency, Schedule: delivery.Schedule{Base: cfg.RetryBase, MaxAttempts: cfg.MaxAttempts},
		AttemptTimeout: cfg.AttemptTimeout, ShutdownTimeout: cfg.ShutdownTimeout, AllowHTTP: cfg.AllowHTTP,
		UserAgent: cfg.UserAgent, Log: log, Metrics: delivery.NewMetrics(registry, rsa.Name()), Tracer: s.traces.Tracer(),
	})
	registry.MustRegister(newCollector(store, n.ready))
	n.calls = handlers.NewMetrics(registry)
	n.api = handlers.New(handlers.Options{
		Queue: store, Sealer: sealer, Policy: policy, AllowHTTP: cfg.AllowHTTP, Tokens: tokens(cfg), DeliveryTTL: cfg.DeliveryTTL,
		Metrics: n.calls, Scrape: promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: s.traces != nil}),
		Ready: n.ready, Life: life, Node: n.stats, Forget: keys.Forget, Tracer: s.traces.Tracer(), Version: config.BuildVersion(), Log: log,
	})
	if cfg.WebhookURL != "" {
		if n.hook, err = newWebhook(cfg, store, leases, log); err != nil {
			return nil, err
		}
		registry.MustRegister(webhookMetrics(n.hook)...)
	}
	s.files.attach(n)
	n.name = store.Join(n.info)
	return n, nil
}

// newWebhook makes the sender of the feed's entries.
func newWebhook(cfg *config.Config, feed queue.Feed, leases lockmgr.Manager, log *slog.Logger) (*webhook.Sender, error) {
	kinds := make([]queue.EventKind, len(cfg.WebhookTypes))
	for i, name := range cfg.WebhookTypes {
		kinds[i] = queue.EventKind(name)
	}
	return webhook.New(webhook.Settings{
		URL: cfg.WebhookURL, Secret: cfg.WebhookSecret.Reveal(), Kinds: kinds, Encode: handlers.EncodeFeed,
		UserAgent: "Postrider/" + config.BuildVersion(),
	}, feed, leases, cfg.LeaseTTL, log)
}

// ready returns why the node can't do its work now, or nil, and a word for it that reveals no detail.
func (n *node) ready(ctx context.Context) (reason string, err error) {
	store := n.store.Ready(ctx)
	if !n.delivers {
		return "store", store
	}
	pool := n.pool.Ready(ctx)
	reason = "store"
	if store == nil && errors.Is(pool, delivery.ErrNotRunning) {
		reason = "pool"
	} else if store == nil && errors.Is(pool, resolver.ErrAway) {
		reason = "names"
	}
	return reason, errors.Join(store, pool)
}

// stats returns what the node did since its start.
func (n *node) stats() handlers.NodeStats {
	stats := n.pool.Metrics.Stats()
	attempts := make(map[string]int64, len(stats.Attempts))
	for outcome, count := range stats.Attempts {
		attempts[string(outcome)] = count
	}
	view := handlers.NodeStats{
		StartedAt: n.started, Signing: n.signing, InFlight: stats.InFlight, Attempts: attempts, PerSecond: stats.PerSecond,
	}
	if n.delivers {
		view.Concurrency = n.concurrency
	}
	if n.hook != nil {
		view.WebhookLag = n.hook.Stats().Lag
	}
	return view
}

// info is what the nodes of the fleet learn of this one.
func (n *node) info() queue.NodeInfo {
	stats := n.stats()
	return queue.NodeInfo{Version: config.BuildVersion(), StartedAt: n.started, InFlight: stats.InFlight, Concurrency: stats.Concurrency}
}

// run delivers until ctx ends or the server does, which served reports, and then stops both.
func (n *node) run(ctx context.Context, served <-chan error) (err error) {
	poolCtx, stopPool := context.WithCancel(context.WithoutCancel(ctx))
	var pool sync.WaitGroup
	if n.delivers {
		pool.Go(func() { n.pool.Run(poolCtx) })
		if n.hook != nil {
			pool.Go(func() { n.hook.Run(poolCtx) })
		}
	}
	pool.Go(func() { warn(poolCtx, n.store, n.unauthorized, n.log) })
	past := newRecorder(n.store, n.counts)
	pool.Go(func() { past.run(poolCtx) })
	select {
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stopPool() // both stop together: a long call must not shorten the pool's time to stop
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.timeout)
	defer cancel()
	if late := n.server.Shutdown(drain); late != nil {
		n.log.Warn("node.calls_cut_off", "error", errors.Join(late, n.server.Close()))
	}
	pool.Wait()
	_, _ = past.add(context.WithoutCancel(ctx)) // what it counted since the last minute; if that fails, it is lost
	n.flush(drain)
	return err
}

// flushTime is the most that a stopping node waits for the collector of its traces, and the least that it may.
const (
	flushTime  = 5 * time.Second
	leastFlush = time.Second
)

// flush exports the last spans, within the time that is left to stop.
func (n *node) flush(drain context.Context) {
	until, _ := drain.Deadline()
	left := min(flushTime, max(leastFlush, time.Until(until)))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(drain), left)
	defer cancel()
	if err := n.traces.Close(ctx); err != nil {
		n.log.Warn("traces.not_flushed", "error", err)
	}
}

// keyStore is the signer's view of the keys in a queue.
type keyStore struct{ keys queue.Keys }

// SealedKey implements signer.Store.
func (s keyStore) SealedKey(ctx context.Context, keyID, pin string) ([]byte, error) {
	k, err := s.keys.Key(ctx, keyID, pin)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, signer.ErrKeyMissing
	}
	return k.Sealed, err
}
