package config

import (
	"cmp"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

// helpFlag is --help. Kong's own one ends the process.
type helpFlag bool

// BeforeReset implements kong's hook: it runs once the arguments are read and before the environment is, so that help
// works in spite of a bad variable.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	t := tabwriter.NewWriter(ctx.Stdout, 0, 0, 2, ' ', 0)
	if command := namedCommand(ctx); command != nil {
		writeCommandHelp(t, ctx.Model, command)
	} else {
		writeHelp(t, ctx.Model)
	}
	_, _ = fmt.Fprint(t, "\nTimes are Go durations, such as 90s or 72h. @FILE reads a value from a file.\n")
	if err := t.Flush(); err != nil { // all that was written before is still in t
		return fmt.Errorf("write help: %w", err)
	}
	return ErrHelp
}

// namedCommand returns the command among the arguments, or nil if there is none.
func namedCommand(ctx *kong.Context) (command *kong.Node) {
	for _, p := range ctx.Path {
		if p.Command != nil && p.Command != p.Parent { // kong gives the default command itself as the parent
			command = p.Command
		}
	}
	return command
}

// writeHelp lists commands and settings, one line each.
func writeHelp(w io.Writer, app *kong.Application) {
	_, _ = fmt.Fprintf(w, "Usage: %s [command] [flags]\n\n", app.Name)
	writeCommands(w, app.Leaves(true))
	_, _ = fmt.Fprint(w, "\nSettings, as a flag (which wins) or as an environment variable:\n")
	all := slices.Clone(app.Flags)
	for _, command := range app.Children {
		for _, flag := range command.Flags {
			if flag.Tag.Has("variable") && command.Name != string(Keys) { // those of keys are relay's too
				all = append(all, flag)
			}
		}
	}
	writeFlags(w, app, all)
}

// writeCommandHelp describes a command, and lists its flags and the settings that it uses.
func writeCommandHelp(w io.Writer, app *kong.Application, command *kong.Node) {
	_, _ = fmt.Fprintf(w, "Usage: %s %s [flags]\n\n%s\n\n", app.Name, commandLine(command), command.Help)
	if len(command.Children) > 0 {
		writeCommands(w, command.Leaves(true))
		_, _ = fmt.Fprintln(w)
	}
	_, _ = fmt.Fprint(w, "Flags, and the environment variables that they win over:\n")
	var all []*kong.Flag
	root := command
	for ; root.Parent != app.Node; root = root.Parent {
		all = append(all, root.Flags...)
	}
	all = append(all, root.Flags...)
	for _, flag := range app.Flags {
		if Command(root.Name).uses(flag.Name) {
			all = append(all, flag)
		}
	}
	writeFlags(w, app, all)
}

// uses reports whether a command uses a setting.
func (c Command) uses(setting string) bool {
	switch c {
	case Backup:
		return setting == "store"
	case Healthcheck:
		return setting == "listen" || setting == "tls-cert-file"
	case Keys:
		return setting == "listen" || setting == "api-tokens"
	case Relay:
		return setting == "listen" || setting == "api-tokens" || setting == "shutdown-timeout" || strings.HasPrefix(setting, "log-")
	case Send:
		return slices.Contains([]string{
			"attempt-timeout", "connect-timeout", "dns-timeout", "allow-private-addresses", "deny-addresses", "allow-http", "ca-file",
			"user-agent", "signing",
		}, setting)
	case Migrate:
		return setting == "store" || strings.HasPrefix(setting, "redis-") || setting == "master-key" ||
			strings.HasPrefix(setting, "log-")
	case Version:
		return setting == "signing"
	}
	return true
}

func writeCommands(w io.Writer, commands []*kong.Node) {
	_, _ = fmt.Fprintln(w, "Commands:")
	for _, command := range commands {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", commandLine(command), command.Help)
	}
}

// commandLine returns a command with its arguments.
func commandLine(command *kong.Node) string {
	line := command.Path()
	for _, argument := range command.Positional {
		line += " " + argument.Summary()
	}
	return line
}

// writeFlags lists flags, one line each, with the variables of those that have one.
func writeFlags(w io.Writer, app *kong.Application, flags []*kong.Flag) {
	for _, flag := range flags {
		if flag.Name == "help" || flag.Hidden {
			continue
		}
		name := ""
		if flag.Tag.Has("variable") || slices.Contains(app.Flags, flag) {
			name = variable(flag.Name)
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s (default %s)\n", flag.Summary(), name, flag.Help, shownDefault(flag))
	}
}

func shownDefault(flag *kong.Flag) string {
	return cmp.Or(flag.Default, flag.Tag.Get("shown"), "none")
}

const variablePrefix = "POSTRIDER_"

// variable returns the name of a setting's variable.
func variable(setting string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// UnknownVariables returns the names in environ, which is of os.Environ's form, that look like settings and are none:
// most likely misspelt, so worth a warning. They are no error, since Kubernetes sets variables of this form
// (POSTRIDER_PORT, POSTRIDER_SERVICE_HOST) for a service of that name; those are left out.
func UnknownVariables(environ []string) []string {
	known := map[string]bool{}
	for f := range settings() {
		known[variable(f.Tag.Get("name"))] = true
	}
	for f := range reflect.TypeFor[RelayCall]().Fields() { // keys has two of these
		if _, ok := f.Tag.Lookup("variable"); ok {
			known[variable(f.Tag.Get("name"))] = true
		}
	}
	for f := range reflect.TypeFor[Place]().Fields() {
		known[variable(f.Tag.Get("name"))] = true
	}
	var unknown []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, variablePrefix)
		kubernetes := rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_")
		if ours && !known[name] && !kubernetes {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// settings yields the fields of Config that are settings.
func settings() func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for f := range reflect.TypeFor[Config]().Fields() {
			if f.Tag.Get("name") != "" && !yield(f) {
				return
			}
		}
	}
}
