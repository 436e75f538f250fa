package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

// ErrHelp means that the user asked for help, and that it has been written.
var ErrHelp = errors.New("help written")

// UsageError is a command line or an environment that can't be worked with.
type UsageError struct {
	Setting  string // as a flag without its dashes; "" if no single setting is at fault
	Source   string // the flag or the variable it came from, or "default"
	Value    string // as typed, without secrets
	Accepted string // a description of the values that are accepted
}

// Error returns one line without control characters.
func (e *UsageError) Error() string {
	if e.Setting == "" {
		return oneLine(e.Accepted)
	}
	return oneLine(fmt.Sprintf("%s %q (from %s): %s", e.Setting, e.Value, e.Source, e.Accepted))
}

// ExitCode returns the exit code of the program.
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
	} `cmd:"" help:"run a small fediverse in one process, to look at"`
	Bench       BenchCall   `cmd:"" help:"measure this machine: deliveries/s, CPU and memory, beside bare loops"`
	Healthcheck struct{}    `cmd:"" help:"ask the node at --listen whether it can work: exit code 0 or 1, for containers"`
	Keys        keysCommand `cmd:"" help:"manage the private keys of a running node, over its API"`
	Relay       RelayCall   `cmd:"" help:"hand the rows of an outbox table in the app's PostgreSQL over to a node"`
	Send        SendCall    `cmd:"" help:"send an activity to one inbox without a node, and show requests and answers"`
	Backup      struct {
		File string `arg:"" placeholder:"FILE" help:"the new file"`
	} `cmd:"" help:"copy the embedded store at --store into a new file, also while a node works on it"`
	Migrate struct {
		Place
	} `cmd:"" help:"move everything from --store to another store, --to; no node may run on either"`
	Completion struct {
		Shell string `arg:"" name:"shell" enum:"bash,zsh,fish" help:"bash, zsh or fish"`
	} `cmd:"" help:"print the script by which a shell completes commands, flags and values"`
	Complete struct {
		Words []string `arg:"" optional:""` // all after the program's name, up to the cursor
	} `cmd:"" hidden:"" passthrough:""`
	Man     struct{} `cmd:"" help:"print the manual page"`
	Version struct{} `cmd:"" help:"print version, commit, Go version and signing back-end; so does --version"`
}

// Parse reads the command and its settings from args, without the program's name, and from env, which returns a variable
// of the environment. If the user asks for help, it writes that to stdout and returns ErrHelp. Any other fault of the user
// is a *UsageError. Only kong itself writes to stderr.
func Parse(args []string, env func(string) (string, bool), stdout, stderr io.Writer) (*Config, error) {
	var g grammar
	if slices.Equal(args, []string{"--version"}) {
		args = []string{string(Version)}
	}
	from := sources{env: env, variables: map[string]string{}}
	options := append(mappers(&g.secretFiles), kong.Name("postrider"), kong.NoDefaultHelp(), kong.Writers(stdout, stderr),
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
	c.Command = Command(command)
	c.DemoExit = g.Demo.Exit
	c.To = g.Migrate.Place
	c.BackupTo = g.Backup.File
	c.fillDefaults()
	c.Bench = g.Bench
	if len(c.Bench.Scenarios) == 0 {
		c.Bench.Scenarios = BenchScenarios()
	}
	if c.Command == Keys {
		c.Keys = g.Keys.call(c, rest)
	}
	c.Relay = g.Relay
	c.Relay.URL, c.Relay.Token = c.api(c.Relay.URL, c.Relay.Token)
	c.Send = g.Send
	c.Text = g.text(k.Model)
	if usage := c.check(); usage != nil {
		usage.Source = from.of(ctx, usage.Setting)
		return nil, usage
	}
	return c, nil
}

// text returns what a command prints that only describes the command line.
func (g *grammar) text(app *kong.Application) string {
	switch g.Command {
	case Complete:
		return candidates(app, g.Complete.Words)
	case Completion:
		script, _ := shells.ReadFile("shell/" + g.Completion.Shell) // kong has checked the name
		return string(script)
	case Man:
		return manual(app)
	}
	return ""
}

// sources is the kong.Resolver that reads the environment, and remembers which settings it found there.
type sources struct {
	env       func(string) (string, bool)
	variables map[string]string // setting -> variable
}

// Validate implements kong.Resolver.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. Kong calls it for flags that were not given. Settings can be variables, and flags of a
// command that have the tag variable.
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

// explain turns kong's error into that of Parse.
func (s *sources) explain(err error) error {
	if errors.Is(err, ErrHelp) {
		return ErrHelp
	}
	usage, ok := errors.AsType[*UsageError](err)
	if strings.Contains(err.Error(), "PRIVATE KEY") {
		return errKeyTyped // kong's error quotes it
	}
	if !ok {
		return &UsageError{Accepted: err.Error() + " (see postrider --help)"}
	}
	if name, ok := s.variables[usage.Setting]; ok {
		usage.Source = name
	}
	return usage
}

// of returns where a setting of a parsed command line came from.
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

// check checks settings that depend on one another. It does not set the Source of its errors. Some commands
// need no check: they must work in any environment, and listen on nothing.
func (c *Config) check() *UsageError {
	switch {
	case c.Command == Keys:
		return c.Keys.check()
	case c.Command == Relay:
		return c.Relay.check()
	case c.Command == Send:
		return c.Send.check()
	case slices.Contains([]Command{Complete, Completion, Healthcheck, Man, Version}, c.Command):
		return nil
	case c.Command == Backup && c.Store.IsRedis():
		return &UsageError{Setting: "store", Value: c.Store.String(),
			Accepted: "want embedded:DIR; to back up Redis, see docs/fleet.md"}
	case c.Command == Backup:
		return nil
	case c.Command == Migrate:
		return cmp.Or(c.checkMigration(), c.checkFiles())
	case c.Command == Bench && c.Bench.Nodes > 1 && !c.Store.IsRedis():
		return &UsageError{Setting: "store", Value: c.Store.String(), Accepted: "several nodes share a store only on Redis: want redis://… with nodes"}
	case len(c.APITokens) == 0 && !isLoopback(c.Listen):
		return &UsageError{Setting: "listen", Value: c.Listen,
			Accepted: "without api-tokens, want a loopback address such as 127.0.0.1:8080, [::1]:8080 or localhost:8080"}
	case c.Command == Serve && c.Store.IsRedis() && len(c.MasterKey) == 0:
		return &UsageError{Setting: "master-key",
			Accepted: "want 32 bytes in base64, or @FILE that holds them, for store " + c.Store.String()}
	case c.WebhookURL != "" && !c.WebhookSecret.IsSet():
		return &UsageError{Setting: "webhook-secret", Accepted: "for webhook-url " + errWebhookSecret.Error()}
	}
	return c.checkFiles()
}

// checkMigration checks the two stores of a migration.
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

// isLoopback reports whether an address can be reached from this machine only. The only name is localhost: any other one
// may be looked up as any address.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	addr, err := parseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
