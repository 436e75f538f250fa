package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/handlers"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/queue/redisq"
	"github.com/postrider/postrider/signer"
)

// unused is memory that is reserved and never touched, so that it is none of the machine's. To the garbage collector it is
// part of the heap, which may grow by as much more before it is collected again: the heap of a node with little pending is
// so small that it would be collected all the time.
const unused = 16 << 20

// serve runs a node until ctx ends, then stops it: not ready, no more calls, no more work taken, what is in flight
// finished or handed back, store closed. It calls listening with the address once calls are answered.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, listening func(address string)) (err error) {
	store, leases, err := openStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := mayServe(ctx, cfg, store); err != nil {
		return err
	}
	sealer, err := openSealer(ctx, cfg, store, log)
	if err != nil {
		return err
	}
	n, err := newNode(cfg, log, store, leases, sealer)
	if err != nil {
		return err
	}
	defer n.client.Close()
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	debug.FreeOSMemory() // what only the start needed
	reserve := make([]byte, unused)
	defer runtime.KeepAlive(reserve)
	log.Info("node.start", "version", config.BuildVersion(), "signing", n.signing, "master_keys", sealer.Fingerprints(), "address", listener.Addr().String(), "config", *cfg)
	listening(listener.Addr().String())
	err = n.run(ctx, listener)
	log.Info("node.stop", "error", err)
	return err
}

// openStore opens the store, and the leases of hosts that all nodes on it share.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (queue.Queue, lockmgr.Manager, error) {
	limits := queue.Limits{
		Retention: cfg.Retention, DeadRetention: cfg.DeadLetterRetention, DeadLetters: cfg.DeadLetterCap, Lane: cfg.LaneCap,
	}
	if !cfg.Store.IsRedis() {
		leases := lockmgr.NewLocal(cfg.LeaseTTL)
		store, err := embedded.Open(cfg.Store.Dir, embedded.Options{Limits: limits, Leases: leases})
		return store, leases, err
	}
	store, err := redisq.Open(ctx, redisq.Options{
		URL: cfg.Store.URL.Reveal(), Prefix: cfg.RedisPrefix, Partitions: cfg.RedisPartitions,
		Limits: limits, Log: log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("store %s: %w", cfg.Store, err)
	}
	return store, store.Leases(cfg.LeaseTTL), nil
}

// mayServe refuses a store that is marked: what it holds is elsewhere, or not all there yet.
func mayServe(ctx context.Context, cfg *config.Config, store queue.Moving) error {
	mark, err := store.Mark(ctx)
	if err == nil && mark.Text != "" {
		err = fmt.Errorf("store %s %s (to serve it all the same: %s)", cfg.Store, mark.Text, mark.Remove)
	}
	return err
}

// openSealer returns the sealer of private keys, once it is known to open those that are stored.
func openSealer(ctx context.Context, cfg *config.Config, store queue.Keys, log *slog.Logger) (*signer.Sealer, error) {
	masters, err := masterKeys(cfg)
	if err != nil {
		return nil, err
	}
	return newSealer(ctx, cfg, store, masters, log)
}

// newSealer is openSealer with the master keys given.
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

// checkKeys tries every stored key. One that is damaged is no reason not to serve the others.
func checkKeys(ctx context.Context, store queue.Keys, sealer *signer.Sealer, log *slog.Logger) error {
	for page := (queue.Page{Limit: 500}); ; {
		stored, err := store.Keys(ctx, page)
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

// masterKeys returns those that are set or, without any, what the embedded store has in its folder.
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

// node is what serve runs.
type node struct {
	log     *slog.Logger
	client  *delivery.Client
	pool    *delivery.Pool
	server  *http.Server
	timeout time.Duration
	signing string
	store   queue.Queue
	started time.Time
}

func newNode(
	cfg *config.Config, log *slog.Logger, store queue.Queue, leases lockmgr.Manager, sealer *signer.Sealer,
) (*node, error) {
	roots, err := cfg.RootCAs()
	if err != nil {
		return nil, err
	}
	policy := netguard.NewPolicy(cfg.AllowPrivateAddresses)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		queue.NewCollector(store))
	rsa, note, err := signer.OpenRSA(cfg.Signing)
	if err != nil {
		return nil, err
	}
	if note != "" {
		log.Warn("signing.fallback", "backend", rsa.Name(), "reason", note)
	}
	client := delivery.NewClient(delivery.ClientOptions{
		ConnectTimeout: cfg.ConnectTimeout, AttemptTimeout: cfg.AttemptTimeout, Policy: policy, RootCAs: roots,
		MaxIdle: cfg.Concurrency, MaxIdlePerHost: cfg.HostConcurrency,
	})
	n := &node{log: log, client: client, timeout: cfg.ShutdownTimeout, signing: rsa.Name(), store: store, started: time.Now()}
	n.pool = delivery.NewPool(delivery.Options{
		Queue: store, Leases: lockmgr.NewKeeper(leases, cfg.LeaseTTL, log),
		Signer: signer.New(signer.Options{Store: keyStore{store}, Sealer: sealer, RSA: rsa}), Client: client, Policy: policy,
		Breaker: breaker.Settings{
			Threshold: cfg.BreakerThreshold, CoolOff: cfg.BreakerCoolOff, CoolOffMax: cfg.BreakerCoolOffMax,
			Window: cfg.HostConcurrency, UnavailableDays: cfg.UnavailableDays,
		},
		Concurrency: cfg.Concurrency, Schedule: delivery.Schedule{Base: cfg.RetryBase, MaxAttempts: cfg.MaxAttempts},
		AttemptTimeout: cfg.AttemptTimeout, ShutdownTimeout: cfg.ShutdownTimeout, AllowHTTP: cfg.AllowHTTP,
		UserAgent: cfg.UserAgent, Log: log, Metrics: delivery.NewMetrics(registry, rsa.Name()),
	})
	life, end := context.WithCancel(context.Background())
	n.server = &http.Server{
		Handler: handlers.New(handlers.Options{
			Queue: store, Sealer: sealer, Policy: policy, AllowHTTP: cfg.AllowHTTP, Tokens: tokens(cfg), DeliveryTTL: cfg.DeliveryTTL,
			Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), Ready: n.ready, Life: life, Node: n.stats,
			Version: config.BuildVersion(), Log: log,
		}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers get wrong
	}
	n.server.RegisterOnShutdown(end)
	return n, nil
}

func tokens(cfg *config.Config) []handlers.Token {
	ts := make([]handlers.Token, len(cfg.APITokens))
	for i, t := range cfg.APITokens {
		ts[i] = handlers.Token{Name: t.Name, Secret: t.Secret.Reveal()}
	}
	return ts
}

// ready says why the node can't do its work just now, or nil.
func (n *node) ready(ctx context.Context) error {
	return errors.Join(n.store.Ready(ctx), n.pool.Ready(ctx))
}

// stats tells what the node did.
func (n *node) stats() handlers.NodeStats {
	did := n.pool.Metrics.Stats()
	attempts := make(map[string]int64, len(did.Attempts))
	for outcome, count := range did.Attempts {
		attempts[string(outcome)] = count
	}
	return handlers.NodeStats{
		StartedAt: n.started, Signing: n.signing, InFlight: did.InFlight, Attempts: attempts, PerSecond: did.PerSecond,
	}
}

// run serves calls and delivers until ctx ends.
func (n *node) run(ctx context.Context, listener net.Listener) (err error) {
	poolCtx, stopPool := context.WithCancel(context.WithoutCancel(ctx))
	var pool sync.WaitGroup
	pool.Go(func() { n.pool.Run(poolCtx) })
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(listener) }()
	select {
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stopPool() // both stop together: a long call must not keep the pool from its time
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.timeout)
	defer cancel()
	if late := n.server.Shutdown(drain); late != nil {
		n.log.Warn("node.calls_cut_off", "error", errors.Join(late, n.server.Close()))
	}
	pool.Wait()
	return err
}

// keyStore shows the keys in a queue to a signer.
type keyStore struct{ keys queue.Keys }

// SealedKey implements signer.Store.
func (s keyStore) SealedKey(ctx context.Context, keyID string) ([]byte, error) {
	k, err := s.keys.Key(ctx, keyID)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, signer.ErrKeyMissing
	}
	return k.Sealed, err
}
