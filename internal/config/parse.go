package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

// ErrHelp means that help was asked for and has been written: there is nothing to do, and nothing wrong.
var ErrHelp = errors.New("help written")

// UsageError is a command line or an environment that can't be worked with.
type UsageError struct {
	Setting  string // as a flag without its dashes; "" where no one setting is at fault
	Source   string // the flag or the variable it came from, or "default"
	Value    string // as typed, with what is secret hidden
	Accepted string // what would have been right
}

// Error returns one line without control characters, whatever was typed.
func (e *UsageError) Error() string {
	if e.Setting == "" {
		return oneLine(e.Accepted)
	}
	return oneLine(fmt.Sprintf("%s %q (from %s): %s", e.Setting, e.Value, e.Source, e.Accepted))
}

// ExitCode is the code that the program shall end with.
func (e *UsageError) ExitCode() int { return 2 }

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// grammar is the command line as kong reads it.
type grammar struct {
	Help helpFlag `name:"help" short:"h" type:"help" help:"show this help"`
	Config
	Serve struct{} `cmd:"" default:"1" help:"run a node: HTTP intake, delivery pool, dashboard (also with no command)"`
	Demo  struct {
		Exit bool `name:"exit" help:"end after the summary"`
	} `cmd:"" help:"a small fediverse in one process, to look at; --exit ends it after the summary"`
	Bench       benchCommand `cmd:"" help:"measure this machine: deliveries/s, CPU and memory, beside bare loops (--short, --runs, --json)"`
	Healthcheck struct{}     `cmd:"" help:"ask the node of these settings whether it can work: exit code 0 or 1, for containers"`
	Keys        keysCommand  `cmd:"" help:"manage the private keys of a running node, over its API"`
	Migrate     struct {
		Place
	} `cmd:"" help:"move all that --store holds to another store, --to; no node may be running on either"`
	Version struct{} `cmd:"" help:"version, commit, Go version, signing back-end in use"`
}

// Parse reads the command and its settings from args, without the program's name, and from env, which is asked for one
// variable at a time. Help goes to stdout and gives ErrHelp. All else that it returns for what the user got wrong is a
// *UsageError; stderr is only for what kong itself may want to say.
func Parse(args []string, env func(string) (string, bool), stdout, stderr io.Writer) (*Config, error) {
	var g grammar
	from := sources{env: env, variables: map[string]string{}}
	options := append(mappers(), kong.Name("postrider"), kong.NoDefaultHelp(), kong.Writers(stdout, stderr),
		kong.Resolvers(&from))
	k, err := kong.New(&g, options...)
	if err != nil {
		return nil, fmt.Errorf("command line grammar: %w", err)
	}
	ctx, err := k.Parse(args)
	if err != nil {
		return nil, from.explain(err)
	}
	c := &g.Config
	command, rest, _ := strings.Cut(ctx.Command(), " ")
	c.Command, c.DemoExit, c.To = Command(command), g.Demo.Exit, g.Migrate.Place
	c.fillDefaults()
	if c.Command == Bench {
		c.Bench = g.Bench.call()
	}
	if c.Command == Keys {
		c.Keys = g.Keys.call(c, rest)
	}
	if usage := c.check(); usage != nil {
		usage.Source = from.of(ctx, usage.Setting)
		return nil, usage
	}
	return c, nil
}

// sources is the kong.Resolver that reads the environment, and remembers what it found there.
type sources struct {
	env       func(string) (string, bool)
	variables map[string]string // setting -> variable
}

// Validate implements kong.Resolver.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. It is asked for flags that were not given. Only settings can be variables, and of the
// flags of a command those that say so.
func (s *sources) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if parent.App == nil && !flag.Tag.Has("variable") || flag.Name == "help" || isForNodes(ctx, flag) {
		return nil, nil
	}
	name := variable(flag.Name)
	value, ok := s.env(name)
	if !ok || value == "" {
		return nil, nil
	}
	s.variables[flag.Name] = name
	return value, nil
}

// explain makes of kong's error the caller's.
func (s *sources) explain(err error) error {
	if errors.Is(err, ErrHelp) {
		return ErrHelp
	}
	usage, ok := errors.AsType[*UsageError](err)
	if strings.Contains(err.Error(), "PRIVATE KEY") {
		return errKeyTyped // and it says it
	}
	if !ok {
		return &UsageError{Accepted: err.Error() + " (see postrider --help)"}
	}
	if name, ok := s.variables[usage.Setting]; ok {
		usage.Source = name
	}
	return usage
}

// of tells where a setting of a parsed command line came from.
func (s *sources) of(ctx *kong.Context, setting string) string {
	if name, ok := s.variables[setting]; ok {
		return name
	}
	for _, p := range ctx.Path {
		if p.Flag != nil && p.Flag.Name == setting {
			return "--" + setting
		}
	}
	return "default"
}

// check judges what depends on more than one setting, but for the Source of its errors. Version and Healthcheck look at
// none of it: they must work in any environment, and open nothing to anybody.
func (c *Config) check() *UsageError {
	switch {
	case c.Command == Keys:
		return c.Keys.check()
	case c.Command == Version || c.Command == Healthcheck:
		return nil
	case c.Command == Migrate:
		return c.checkMigration()
	case len(c.APITokens) == 0 && !isLoopback(c.Listen):
		return &UsageError{Setting: "listen", Value: c.Listen,
			Accepted: "without api-tokens, want a loopback address such as 127.0.0.1:8080, [::1]:8080 or localhost:8080"}
	case c.Command == Serve && c.Store.IsRedis() && len(c.MasterKey) == 0:
		return &UsageError{Setting: "master-key",
			Accepted: "want 32 bytes in base64, or @FILE that holds them, for store " + c.Store.String()}
	}
	return nil
}

// checkMigration judges from where to where a store is to be moved.
func (c *Config) checkMigration() *UsageError {
	const twoStores = "want another store than the one to move; on the same Redis, want a to-redis-prefix of its own"
	switch {
	case c.To.Store.Kind == "":
		return &UsageError{Setting: "to", Accepted: "want the store to move to: " + errStore.Error()}
	case c.Store == c.To.Store && c.Store.Kind == Embedded:
		return &UsageError{Setting: "to", Value: c.To.Store.String(), Accepted: twoStores}
	case c.Store.URL.Reveal() == c.To.Store.URL.Reveal() && c.Store.IsRedis() && c.RedisPrefix == c.To.Prefix:
		return &UsageError{Setting: "to", Value: c.To.Store.String(), Accepted: twoStores}
	case c.Store.IsRedis() && len(c.MasterKey) == 0:
		return &UsageError{Setting: "master-key",
			Accepted: "want the key that private keys in " + c.Store.String() + " are sealed with"}
	}
	return nil
}

// isLoopback tells whether an address can be reached from this machine only. Of names, it knows localhost alone: any
// other may mean anything by the time it is looked up.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	addr, err := parseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
