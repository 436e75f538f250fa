package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/handlers"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue/redisq"
)

// ballast is memory that is reserved and never touched, so the machine provides none for it. The garbage collector counts
// it as heap, and lets the heap grow by as much more between two collections: the heap of a node with little pending is so
// small that it would be collected all the time.
const ballast = 16 << 20

// The pauses between tries to open a store that is unavailable.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// service is a node from its start to its end.
type service struct {
	cfg       *config.Config
	log       *slog.Logger
	listening func(address string) // called once the node can work
	hangups   <-chan os.Signal     // SIGHUPs; nil if there are none
	reread    func() (*config.Config, error)
	// nameServers are the name servers to use; without any, those of the system.
	nameServers []string

	// traces are those that the node exports; nil if it exports none.
	traces *telemetry.Traces

	files files
	front front
}

// serve runs a node that ignores SIGHUP.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, listening func(address string)) error {
	return (&service{cfg: cfg, log: log, listening: listening}).run(ctx)
}

// serveWithNames is serve with a name server of its own.
func serveWithNames(ctx context.Context, cfg *config.Config, log *slog.Logger, nameServer string, listening func(address string)) error {
	return (&service{cfg: cfg, log: log, listening: listening, nameServers: []string{nameServer}}).run(ctx)
}

// run runs the node until ctx ends. Then the node is not ready, takes no more calls and no more work, finishes the attempts
// in flight or gives them back, and closes the store.
func (s *service) run(ctx context.Context) (err error) {
	if err := s.files.load(s.cfg); err != nil {
		return err
	}
	life, end := context.WithCancel(context.Background())
	defer end()
	defer s.rereadFiles()()
	n, away := s.open(ctx, life)
	switch {
	case ctx.Err() != nil:
		return closed(n)
	case away != nil && !redisq.Temporary(away):
		return away
	}
	listener, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), closed(n))
	}
	s.front.tokens = s.files.currentTokens
	bounded := newConnections(listener, connectionsFor(descriptors(), s.cfg.Concurrency), s.log)
	server := newServer(s.log, &s.front)
	server.ConnState = bounded.note
	server.RegisterOnShutdown(end)
	s.front.answer(n, away)
	served := s.listen(server, bounded)
	if away != nil {
		if n, err = s.await(ctx, life, listener.Addr().String(), away); n == nil { // no call was accepted yet
			err = errors.Join(err, server.Close())
			<-served //nolint:errcheck // it is http.ErrServerClosed
			return err
		}
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	defer n.client.Close()
	return s.work(ctx, n, server, listener.Addr().String(), served)
}

// work runs an open node until ctx ends.
func (s *service) work(ctx context.Context, n *node, server *http.Server, address string, served <-chan error) error {
	n.server = server
	debug.FreeOSMemory() // that only the start needed
	reserve := make([]byte, ballast)
	defer runtime.KeepAlive(reserve)
	s.log.Info("node.start", "name", n.name, "version", config.BuildVersion(), "signing", n.signing, "master_keys", n.fingerprints,
		"address", address, "config", *s.cfg)
	s.listening(address)
	err := n.run(ctx, served)
	s.log.Info("node.stop", "error", err)
	return err
}

func newServer(log *slog.Logger, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          stdlog.New(telemetry.NewWriter(log, "server.log"), "", 0), // errors of clients
	}
}

// listen serves calls, by TLS if there is a certificate. The channel receives the error that ended the server.
func (s *service) listen(server *http.Server, listener net.Listener) <-chan error {
	served := make(chan error, 1)
	go func() {
		if s.files.certificate.Load() == nil {
			served <- server.Serve(listener)
			return
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.files.currentCertificate}
		served <- server.ServeTLS(listener, "", "")
	}()
	return served
}

// await opens a store that is unavailable or still loading, and makes the node, as soon as it can. It returns no node if ctx
// ends before that, and an error if waiting would not help.
func (s *service) await(ctx, life context.Context, address string, away error) (*node, error) {
	var lines telemetry.Sampler
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if skipped, ok := lines.Allow(""); ok {
			s.log.Warn("node.waiting", "address", address, "error", away, "lines_suppressed", skipped)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(pause):
		}
		n, err := s.open(ctx, life)
		switch {
		case ctx.Err() != nil:
			return nil, closed(n)
		case err == nil:
			s.front.answer(n, nil)
			return n, nil
		case !redisq.Temporary(err):
			return nil, err
		}
		away = err
		s.front.answer(nil, away)
	}
}

// closed closes the store of a node that is not needed any more, if there is one.
func closed(n *node) error {
	if n == nil {
		return nil
	}
	return n.store.Close()
}

// open opens the store and makes a node that works on it. If it returns no error, the caller closes the store.
func (s *service) open(ctx, life context.Context) (n *node, err error) {
	store, leases, err := openStoreBy(ctx, s.cfg, s.log, s.files.redis.Load)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.Close())
		}
	}()
	if err := mayServe(ctx, s.cfg, store); err != nil {
		return nil, err
	}
	sealer, err := openSealer(ctx, s.cfg, store, s.log)
	if err != nil {
		return nil, err
	}
	return s.newNode(life, store, leases, sealer)
}

// front is the handler of a node. Until the node has started, it answers that it is starting.
type front struct {
	tokens func() []handlers.Token
	api    atomic.Pointer[handlers.API]
	reason atomic.Pointer[error]
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if api := f.api.Load(); api != nil {
		api.ServeHTTP(w, r)
		return
	}
	handlers.Starting(f.tokens(), f.why).ServeHTTP(w, r)
}

// answer makes a node answer from now on or, if there is none yet, sets the reason that front gives.
func (f *front) answer(n *node, away error) {
	f.reason.Store(&away)
	if n != nil {
		f.api.Store(n.api)
	}
}

func (f *front) why() error { return fmt.Errorf("the node waits for its store: %w", *f.reason.Load()) }
