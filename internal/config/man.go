package config

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// manual returns the manual page in the man macros of roff.
func manual(app *kong.Application) string {
	var m page
	m.macro("TH POSTRIDER 1 "+buildDate().Format(time.DateOnly), "Postrider "+BuildVersion(), "User Commands")
	m.macro("SH", "NAME")
	m.text("postrider - delivers ActivityPub activities")
	m.macro("SH", "SYNOPSIS")
	m.macro("B", app.Name)
	m.text("[command] [flags]")
	m.macro("SH", "DESCRIPTION")
	m.text("An app hands one activity and a list of inboxes over. Postrider stores them durably, signs them, and posts the " +
		"activity to each inbox. Without a command it runs a node.")
	m.macro("SH", "COMMANDS")
	for _, command := range app.Leaves(true) {
		m.item(commandLine(command), command.Help+".")
	}
	m.macro("SH", "OPTIONS")
	m.text("Each setting is a flag and an environment variable; the flag wins. Times are Go durations, such as 90s or 72h. " +
		"@FILE reads a value from a file.")
	m.flags(app, settingsOf(app))
	for _, command := range app.Leaves(true) {
		own := slices.DeleteFunc(slices.Clone(command.Flags), func(f *kong.Flag) bool { return f.Hidden || f.Tag.Has("variable") })
		if len(own) > 0 {
			m.macro("SS", "Only "+command.Path())
		}
		m.flags(app, own)
	}
	m.macro("SH", "EXIT STATUS")
	m.text("0 for success, 1 for a failure, 2 for arguments or settings that cannot be worked with.")
	m.macro("SH", "EXAMPLES")
	m.macro("nf")
	for _, command := range app.Leaves(true) {
		for _, line := range examples[command.Path()] {
			m.line(line)
		}
	}
	m.macro("fi")
	m.macro("SH", "SEE ALSO")
	m.text("https://github.com/postrider/postrider/tree/main/docs")
	return m.String()
}

// buildDate returns when the source of this build was committed, today if that is not known.
func buildDate() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); err == nil && s.Key == "vcs.time" {
				return at
			}
		}
	}
	return time.Now()
}

// page is a page in roff.
type page struct{ strings.Builder }

func (p *page) macro(name string, arguments ...string) {
	p.WriteString("." + name)
	for _, a := range arguments {
		p.WriteString(` "` + quoteRoff(a) + `"`)
	}
	p.WriteByte('\n')
}

// text writes text, a few words a line.
func (p *page) text(s string) {
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && len(line)+len(word) > 76 {
			p.line(line)
			line = ""
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	p.line(line)
}

// line writes one line. The zero width before it keeps a dot from making a macro of it.
func (p *page) line(s string) { p.WriteString(`\&` + quoteRoff(s) + "\n") }

func (p *page) item(name, text string) {
	p.macro("TP")
	p.macro("B", name)
	p.text(text)
}

func (p *page) flags(app *kong.Application, flags []*kong.Flag) {
	group := ""
	for _, flag := range flags {
		if flag.Group != nil && flag.Group.Key != group {
			group = flag.Group.Key
			p.macro("SS", group)
		}
		name := flag.Summary()
		if v := variableOf(app, flag); v != "" {
			name += ", " + v
		}
		p.item(name, flag.Help+shownDefault(app, flag)+".")
	}
}

// quoteRoff escapes text, of which nothing is markup.
func quoteRoff(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
