package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCandidates checks what a word becomes, in an environment where each variable has a bad value.
func TestCandidates(t *testing.T) {
	bad := func(string) (string, bool) { return "rubbish", true }
	for line, want := range map[string]string{
		"ke":                               "keys",
		"keys ":                            "list add remove reseal",
		"keys re":                          "remove reseal",
		"--signing ":                       "auto go openssl",
		"--signing = o":                    "openssl", // as bash divides it
		"--signing =":                      "auto go openssl",
		"--signing=o":                      "--signing=openssl",
		"serve --log-le":                   "--log-level",
		"serve --log-level debug --log-fo": "--log-format",
		"serve --deliver --sig":            "--signing", // a switch has no value
		"serve --deliver=":                 "--deliver=true --deliver=false",
		"relay --install ":                 "print apply",
		"migrate --to red":                 "redis:// rediss:// redis+unix:/// redis+cluster:// redis+sentinel://",
		"backup --":                        "--store --help",
		"backup ":                          ":files",
		"keys add ":                        "", // a URL
		"keys add k ":                      ":files",
		"--ca-file ":                       ":files",
		"completion ":                      "bash zsh fish",
		"completion bash ":                 "",
		"complet":                          "completion", // its hidden kin is for the scripts
		"--help":                           "--help",
		"nonsense --more=x ke":             "keys",
	} {
		c, err := Parse(append([]string{"complete"}, strings.Split(line, " ")...), bad, nil, nil)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		var got []string
		for l := range strings.Lines(c.Text) {
			word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			got = append(got, word)
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

// TestExamples checks that each command has examples in its help, and that each of these is a valid command line.
func TestExamples(t *testing.T) {
	for path, lines := range examples {
		if help := helpOf(t, append(strings.Fields(path), "--help")...); !strings.Contains(help, "\n  "+lines[0]+"\n") {
			t.Errorf("the help of %s lacks its examples:\n%s", path, help)
		}
		for _, line := range lines {
			_, arguments, _ := strings.Cut(line, "postrider ")
			arguments = strings.NewReplacer(" > ", "|", ")", "|", " | ", "|", "'Postrider (+https://app.example/)'", "Postrider",
				"@/etc/postrider/master.key", strings.Repeat("A", 43)+"=").Replace(arguments)
			arguments, _, _ = strings.Cut(arguments, "|")
			if c, err := parse(t, strings.Fields(arguments)); err != nil || !strings.HasPrefix(path, string(c.Command)) {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	app := commandsOf(t)
	for _, path := range app {
		if len(examples[path]) == 0 {
			t.Errorf("%s has no examples", path)
		}
	}
}

// commandsOf returns the paths of all commands that help lists.
func commandsOf(t *testing.T) (paths []string) {
	t.Helper()
	_, list, _ := strings.Cut(helpOf(t, "--help"), "Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		path, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		path, _, _ = strings.Cut(path, " <")
		paths = append(paths, path)
	}
	return paths
}
