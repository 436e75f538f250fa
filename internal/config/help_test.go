package config

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--retry-base=2s", "--help"}} {
		help := helpOf(t, args...)
		for _, s := range published {
			checkHelpLine(t, help, s.name)
		}
		checkHelpLine(t, help, "to-redis-prefix")
	}
}

// TestHelpOfCommands checks that the help of a command lists the flags that it uses, and no others.
func TestHelpOfCommands(t *testing.T) {
	var settings []string
	for _, s := range published {
		settings = append(settings, s.name)
	}
	for command, want := range map[string][]string{
		"serve":       settings,
		"demo":        append([]string{"exit"}, settings...),
		"bench":       append([]string{"scenarios", "runs", "nodes", "short", "json", "plot"}, settings...),
		"healthcheck": {"listen", "tls-cert-file"},
		"keys":        {"url", "token", "listen", "api-tokens"},
		"keys list":   {"json", "url", "token", "listen", "api-tokens"},
		"keys add":    {"url", "token", "listen", "api-tokens"},
		"backup":      {"store"},
		"migrate": {
			"to", "to-redis-prefix", "to-redis-partitions", "to-master-key", "store", "redis-ca-file", "redis-cert-file",
			"redis-key-file", "redis-prefix", "redis-partitions", "master-key", "log-level", "log-format",
		},
		"version": {"signing"},
	} {
		help := helpOf(t, append(strings.Fields(command), "--help")...)
		var got []string
		for _, m := range regexp.MustCompile(`(?m)^  --([a-z-]+)`).FindAllStringSubmatch(help, -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got); diff != "" {
			t.Errorf("flags in the help of %s (-want +got):\n%s", command, diff)
		}
		if !strings.HasPrefix(help, "Usage: postrider "+command) {
			t.Errorf("help of %s begins otherwise:\n%s", command, help)
		}
	}
}

// helpOf returns the help that arguments ask for, in an environment where each variable has a bad value.
func helpOf(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	bad := func(string) (string, bool) { return "rubbish", true }
	if _, err := Parse(args, bad, &out, &errs); !errors.Is(err, ErrHelp) {
		t.Fatalf("%q: %v", args, err)
	}
	if errs.Len() > 0 {
		t.Errorf("%q wrote to stderr: %s", args, &errs)
	}
	return out.String()
}

// checkHelpLine requires a line of help with the flag, the variable and a default.
func checkHelpLine(t *testing.T, help, name string) {
	t.Helper()
	for line := range strings.Lines(help) {
		if strings.HasPrefix(line, "  --"+name+"=") || strings.HasPrefix(line, "  --"+name+" ") {
			if !strings.Contains(line, variable(name)) || !strings.Contains(line, "(default ") {
				t.Errorf("help of %s lacks variable or default: %s", name, line)
			}
			return
		}
	}
	t.Errorf("no help for %s in:\n%s", name, help)
}
