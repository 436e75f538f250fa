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
	_, _ = fmt.Fprintf(w, "\n%s COMMAND --help shows the flags of a command, with examples.\n", app.Name)
	_, _ = fmt.Fprint(w, "\nSettings, as a flag (which wins) or as an environment variable:\n")
	writeFlags(w, app, settingsOf(app))
}

// settingsOf returns all flags that can be variables. The help of those that only some commands have begins with these.
func settingsOf(app *kong.Application) []*kong.Flag {
	all := flagsOf(app, app.Node)
	own := len(all)
	commands := map[string]string{}
	for _, command := range app.Children {
		for _, flag := range command.Flags {
			switch {
			case !flag.Tag.Has("variable"):
			case commands[flag.Name] == "":
				commands[flag.Name] = command.Name
				all = append(all, flag)
			default:
				commands[flag.Name] += ", " + command.Name
			}
		}
	}
	for i, flag := range all[own:] {
		copied := *flag.Value
		copied.Help = commands[flag.Name] + ": " + flag.Help
		all[own+i] = &kong.Flag{Value: &copied, PlaceHolder: flag.PlaceHolder, Group: &kong.Group{Key: "Single commands"}}
	}
	return all
}

// writeCommandHelp describes a command, and lists its arguments, its flags and the settings that it uses.
func writeCommandHelp(w io.Writer, app *kong.Application, command *kong.Node) {
	_, _ = fmt.Fprintf(w, "Usage: %s %s [flags]\n\n%s\n", app.Name, commandLine(command), command.Help)
	if len(command.Children) > 0 {
		_, _ = fmt.Fprintln(w)
		writeCommands(w, command.Leaves(true))
	}
	if len(command.Positional) > 0 {
		_, _ = fmt.Fprint(w, "\nArguments:\n")
	}
	for _, argument := range command.Positional {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", argument.Summary(), argument.Help)
	}
	if flags := flagsOf(app, command); len(flags) > 0 {
		_, _ = fmt.Fprint(w, "\nFlags, and the environment variables that they win over:\n")
		writeFlags(w, app, flags)
	}
	if lines := examples[command.Path()]; len(lines) > 0 {
		_, _ = fmt.Fprintf(w, "\nExamples:\n  %s\n", strings.Join(lines, "\n  "))
	}
}

// flagsOf returns the flags that a command has or uses, and all settings of nodes if it is none.
func flagsOf(app *kong.Application, command *kong.Node) (all []*kong.Flag) {
	root := Command("")
	for ; command != app.Node; command = command.Parent {
		all = append(all, command.Flags...)
		root = Command(command.Name)
	}
	group := &kong.Group{}
	for _, flag := range app.Flags {
		if flag.Group != nil {
			group = flag.Group // it begins here
		}
		flag.Group = group
		if root.uses(flag.Name) {
			all = append(all, flag)
		}
	}
	return slices.DeleteFunc(all, func(flag *kong.Flag) bool { return flag.Name == "help" || flag.Hidden })
}

// usedBy lists the settings of each command that does not use all. One that ends in - stands for all that begin so.
var usedBy = map[Command][]string{
	Backup:      {"store"},
	Healthcheck: {"listen", "tls-cert-file"},
	Keys:        {"listen", "api-tokens"},
	Relay:       {"listen", "api-tokens", "shutdown-timeout", "log-"},
	Send: {
		"attempt-timeout", "connect-timeout", "dns-timeout", "allow-private-addresses", "deny-addresses", "allow-http", "ca-file",
		"user-agent", "signing",
	},
	Migrate:  {"store", "redis-", "master-key", "log-"},
	Version:  {"signing"},
	Complete: nil, Completion: nil, Man: nil,
}

// uses reports whether a command uses a setting.
func (c Command) uses(setting string) bool {
	some, limited := usedBy[c]
	return !limited || slices.ContainsFunc(some, func(name string) bool {
		return name == setting || strings.HasSuffix(name, "-") && strings.HasPrefix(setting, name)
	})
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

// writeFlags lists flags, one line each, with the variables of those that have one, under the names of their groups.
func writeFlags(w io.Writer, app *kong.Application, flags []*kong.Flag) {
	group := ""
	for _, flag := range flags {
		if flag.Group != nil && flag.Group.Key != group {
			group = flag.Group.Key
			_, _ = fmt.Fprintf(w, "\n%s:\n", group)
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s%s\n", flag.Summary(), variableOf(app, flag), flag.Help, shownDefault(app, flag))
	}
}

// variableOf returns the name of a flag's variable, "" if it has none.
func variableOf(app *kong.Application, flag *kong.Flag) string {
	if flag.Tag.Has("variable") || slices.Contains(app.Flags, flag) {
		return variable(flag.Name)
	}
	return ""
}

// shownDefault returns what help says of a flag's default. That of a switch which is no setting needs no words.
func shownDefault(app *kong.Application, flag *kong.Flag) string {
	value := cmp.Or(flag.Default, flag.Tag.Get("shown"))
	switch {
	case flag.Required:
		return " (required)"
	case value == "" && variableOf(app, flag) == "":
		return ""
	}
	return " (default " + cmp.Or(value, "none") + ")"
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
	for _, command := range []reflect.Type{reflect.TypeFor[RelayCall](), reflect.TypeFor[Place]()} { // keys has two of relay's
		for f := range command.Fields() {
			if _, ok := f.Tag.Lookup("variable"); ok {
				known[variable(f.Tag.Get("name"))] = true
			}
		}
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
