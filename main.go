// Postrider delivers ActivityPub activities: it takes one activity and a list of inboxes over HTTP, stores them durably,
// signs them, and posts them to every inbox.
//
// This file wires the parts together; docs/ARCHITECTURE.md tells what each is for.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/postrider/postrider/internal/bench"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/demo"
	"github.com/postrider/postrider/internal/keyctl"
	"github.com/postrider/postrider/signer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is the program: it ends when ctx does, and returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	cfg, err := config.Parse(args, lookup(environ), stdout, stderr)
	if errors.Is(err, config.ErrHelp) {
		return 0
	}
	if usage, ok := errors.AsType[*config.UsageError](err); ok {
		fmt.Fprintln(stderr, "postrider:", usage)
		return usage.ExitCode()
	}
	if err == nil {
		log := config.NewLogger(cfg.LogFormat, cfg.LogLevel, stderr, isTerminal(stderr))
		if cfg.Command == config.Bench {
			err = bench.Run(ctx, bench.Options{
				Config: cfg, Args: args, Environ: environ, Serve: serve, OpenStore: openStore,
				In: os.Stdin, Out: stdout, Progress: stderr, Log: log,
			})
		} else {
			err = command(ctx, cfg, environ, stdout, log)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "postrider:", err)
		return 1
	}
	return 0
}

func command(ctx context.Context, cfg *config.Config, environ []string, stdout io.Writer, log *slog.Logger) error {
	switch cfg.Command {
	case config.Keys:
		return keyctl.Run(ctx, cfg.Keys, os.Stdin, stdout)
	case config.Version:
		return writeVersion(stdout, cfg)
	case config.Healthcheck:
		return checkHealth(ctx, cfg.Listen, stdout)
	case config.Demo:
		if cfg.LogLevel >= slog.LevelInfo { // the demo's own lines tell what is to be seen
			log = slog.New(slog.DiscardHandler)
		}
		return demo.Run(ctx, demo.Options{Config: cfg, Exit: cfg.DemoExit, Serve: serve, Out: stdout, IsTTY: isTerminal(stdout), Log: log})
	}
	for _, name := range config.UnknownVariables(environ) {
		log.Warn("config.unknown_variable", "name", name)
	}
	if cfg.Command == config.Migrate {
		return migrate(ctx, cfg, log, stdout)
	}
	return serve(ctx, cfg, log, func(string) {})
}

func writeVersion(w io.Writer, cfg *config.Config) error {
	rsa, _, err := signer.OpenRSA(cfg.Signing)
	if err != nil {
		return err
	}
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	_, err = fmt.Fprintf(w, "postrider %s\ncommit %s\n%s %s/%s\nsigning %s\n", config.BuildVersion(), commit,
		runtime.Version(), runtime.GOOS, runtime.GOARCH, rsa.Name())
	return err
}

// lookup returns a function that finds a variable in what os.Environ gives.
func lookup(environ []string) func(string) (string, bool) {
	vars := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		vars[name] = value
	}
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
