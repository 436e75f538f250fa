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
	if err := writeHelp(ctx.Stdout, ctx.Model); err != nil {
		return fmt.Errorf("write help: %w", err)
	}
	return ErrHelp
}

// writeHelp lists commands and settings, one line each.
func writeHelp(w io.Writer, app *kong.Application) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(t, "Usage: %s [command] [flags]\n\nCommands:\n", app.Name)
	for _, command := range app.Leaves(true) {
		name := command.Path()
		for _, argument := range command.Positional {
			name += " " + argument.Summary()
		}
		_, _ = fmt.Fprintf(t, "  %s\t%s\n", name, command.Help)
	}
	_, _ = fmt.Fprint(t, "\nSettings, as a flag (which wins) or as a variable of the environment:\n")
	for _, flag := range flags(app) {
		_, _ = fmt.Fprintf(t, "  %s\t%s\t%s (default %s)\n", flag.Summary(), variable(flag.Name), flag.Help, shownDefault(flag))
	}
	_, _ = fmt.Fprint(t, "\nTimes are such as 90s or 72h. @FILE reads a value from a file.\n")
	return t.Flush() // all that was written before is still in t
}

// flags returns those that are settings: migrate's after those that all have.
func flags(app *kong.Application) []*kong.Flag {
	all := slices.Clone(app.Flags)
	for _, command := range app.Children {
		if command.Name == string(Migrate) {
			all = append(all, command.Flags...)
		}
	}
	return slices.DeleteFunc(all, func(f *kong.Flag) bool { return f.Name == "help" })
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
// most likely misspelt, so worth a warning. They are no error, since Kubernetes puts variables of this form
// (POSTRIDER_PORT, POSTRIDER_SERVICE_HOST) beside a service of that name; those are left out.
func UnknownVariables(environ []string) []string {
	known := map[string]bool{}
	for f := range settings() {
		known[variable(f.Tag.Get("name"))] = true
	}
	for f := range reflect.TypeFor[keysCommand]().Fields() {
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
