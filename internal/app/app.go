// Package app is the program: it reads the settings, runs the command that they name, and connects the parts of a node.
// docs/ARCHITECTURE.md describes the parts.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
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
	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/signer"
)

// Main runs the program with the arguments and environment of the process, and exits with its code. It uses the given name
// servers or, without any, those of the system.
func Main(nameServers ...string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	p := Program{Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, NameServers: nameServers}
	os.Exit(p.Run(ctx))
}

// Program is one run of the program.
type Program struct {
	Args    []string // without the program's name
	Environ []string // as os.Environ returns it
	Stdout  io.Writer
	Stderr  io.Writer
	// NameServers are the addresses of the name servers to use. Without any it uses those of the system.
	NameServers []string
}

// Run runs the program until it is done or ctx ends, and returns the exit code. It hides the memory of the process before
// it reads any secret.
func (p Program) Run(ctx context.Context) int {
	shown := hideMemory()
	cfg, err := config.Parse(p.Args, lookup(p.Environ), p.Stdout, p.Stderr)
	if errors.Is(err, config.ErrHelp) {
		return 0
	}
	if usage, ok := errors.AsType[*config.UsageError](err); ok {
		fmt.Fprintln(p.Stderr, "postrider:", usage)
		return usage.ExitCode()
	}
	if err == nil {
		log := config.NewLogger(cfg.LogFormat, cfg.LogLevel, p.Stderr, isTerminal(p.Stderr))
		stdlog.SetFlags(0)
		stdlog.SetOutput(telemetry.NewWriter(log, "library.log"))
		if shown != nil {
			log.Warn("process.dumpable", "error", shown)
		}
		err = p.command(ctx, cfg, log)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, "postrider:", err)
		return 1
	}
	return 0
}

// command runs the command of the settings.
func (p Program) command(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	switch cfg.Command {
	case config.Keys:
		return keyctl.Run(ctx, cfg.Keys, os.Stdin, p.Stdout)
	case config.Send:
		return p.send(ctx, cfg, os.Stdin)
	case config.Complete, config.Completion, config.Man:
		_, err := io.WriteString(p.Stdout, cfg.Text)
		return err
	case config.Version:
		return writeVersion(p.Stdout, cfg)
	case config.Healthcheck:
		return checkHealth(ctx, cfg, p.Stdout)
	case config.Backup:
		return embedded.Backup(ctx, cfg.Store.Dir, cfg.BackupTo)
	case config.Bench:
		return bench.Run(ctx, bench.Options{
			Config: cfg, Args: p.Args, Environ: p.Environ, Serve: serve, OpenStore: openStore,
			In: os.Stdin, Out: p.Stdout, Progress: p.Stderr, Log: log,
		})
	case config.Demo:
		if cfg.LogLevel >= slog.LevelInfo { // the demo prints its own lines
			log = slog.New(slog.DiscardHandler)
		}
		return demo.Run(ctx, demo.Options{
			Config: cfg, Exit: cfg.DemoExit, Serve: serveWithNames, Out: p.Stdout, IsTTY: isTerminal(p.Stdout), Log: log,
		})
	}
	for _, name := range config.UnknownVariables(p.Environ) {
		log.Warn("config.unknown_variable", "name", name)
	}
	for _, f := range cfg.ExposedFiles() {
		log.Warn("config.file_readable", "file", f.Name, "mode", f.Mode.String(), "advice", "let only its owner read it: it holds a secret")
	}
	switch cfg.Command {
	case config.Migrate:
		return migrate(ctx, cfg, log, p.Stdout)
	case config.Relay:
		return runRelay(ctx, cfg, log, p.Stdout)
	}
	return p.serve(ctx, cfg, log)
}

// serve runs a node that reads its files again at SIGHUP.
func (p Program) serve(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	reread := func() (*config.Config, error) { return config.Parse(p.Args, lookup(p.Environ), io.Discard, io.Discard) }
	s := &service{
		cfg: cfg, log: log, listening: func(string) {}, hangups: hangups, reread: reread, nameServers: p.NameServers,
		traces: telemetry.OpenTraces(lookup(p.Environ), config.BuildVersion(), log),
	}
	return s.run(ctx)
}

func writeVersion(w io.Writer, cfg *config.Config) error {
	rsa, _, err := signer.OpenRSA(cfg.Signing)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "postrider %s\ncommit %s\n%s %s/%s\nsigning %s\n", config.BuildVersion(), revision(),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, rsa.Name())
	return err
}

// revision returns the commit that the program was built from, or "unknown".
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
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
