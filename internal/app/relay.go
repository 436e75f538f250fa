package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/relay"
)

// runRelay runs the relay until ctx ends, or prints or installs the tables of the outbox.
func runRelay(ctx context.Context, cfg *config.Config, log *slog.Logger, out io.Writer) error {
	if cfg.Relay.Install == "print" {
		_, err := io.WriteString(out, relay.Schema)
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r, err := relay.New(relay.Options{
		Database: cfg.Relay.Database.Reveal(), URL: cfg.Relay.URL, Token: cfg.Relay.Token.Reveal(), Poll: cfg.Relay.Poll,
		Timeout: cfg.ShutdownTimeout, Registry: registry, Log: log,
	})
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	if cfg.Relay.Install == "apply" {
		if err := r.Install(ctx); err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		_, err := fmt.Fprintln(out, "the tables of the outbox are there")
		return err
	}
	listener, err := net.Listen("tcp", cfg.Relay.Listen)
	if err != nil {
		return fmt.Errorf("relay: listen: %w", err)
	}
	server := newServer(log, r.Handler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))
	return relayUntil(ctx, r, server, listener, log)
}

// relayUntil hands rows over until ctx ends or the server fails.
func relayUntil(ctx context.Context, r *relay.Relay, server *http.Server, listener net.Listener, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(listener)
		cancel()
	}()
	log.Info("relay.start", "version", config.BuildVersion(), "address", listener.Addr().String(), "node", r.URL)
	r.Run(ctx)
	log.Info("relay.stop")
	drain, end := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer end()
	late := server.Shutdown(drain)
	if late != nil {
		late = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("relay: serve: %w", err)
	}
	return late
}
