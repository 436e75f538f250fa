package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
)

// requireProgram skips a test where there is no such program, and fails it instead if REQUIRE_SHELLS=1.
func requireProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		give := t.Skipf
		if os.Getenv("REQUIRE_SHELLS") == "1" {
			give = t.Fatalf
		}
		give("%s is needed: apt-get install %s (%v)", name, name, err)
	}
}

// runShell runs a command in a folder with the program postrider in PATH, and returns what it prints.
func runShell(t *testing.T, name string, args ...string) string {
	t.Helper()
	requireProgram(t, name)
	program := harness.Command(t.Context(), t, nil, "version") // for its path and environment
	dir := t.TempDir()
	if err := os.Symlink(program.Path, filepath.Join(dir, "postrider")); err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(dir, "alice.pem"), "")
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(program.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "TERM=dumb")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// TestShellsComplete has each shell complete words by its script.
func TestShellsComplete(t *testing.T) {
	t.Parallel()
	cases := []struct{ line, want string }{ // the last word of the line is completed, to the first that fits
		{"postrider keys rem", "remove"},
		{"postrider --log-lev", "--log-level"},
		{"postrider serve --signing op", "openssl"},
		{"postrider keys add k al", "alice.pem"},
	}
	t.Run("bash", func(t *testing.T) {
		for _, c := range cases {
			got := runShell(t, "bash", "--norc", "-c", `source <(postrider completion bash)
				COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]}-1))
				compopt() { :; } # works during a completion only
				_postrider postrider "${COMP_WORDS[COMP_CWORD]}" ""; printf '%s\n' "${COMPREPLY[@]}"`, "bash", c.line)
			if got != c.want+"\n" {
				t.Errorf("%s becomes %q", c.line, got)
			}
		}
	})
	t.Run("fish", func(t *testing.T) {
		for _, c := range cases {
			got := runShell(t, "fish", "-c", `postrider completion fish | source; complete -C $argv[1]`, c.line)
			if word, _, _ := strings.Cut(got, "\t"); strings.TrimSpace(word) != c.want || strings.Count(got, "\n") != 1 {
				t.Errorf("%s becomes %q", c.line, got)
			}
		}
	})
	t.Run("zsh", func(t *testing.T) {
		for _, c := range cases[2:] { // typed to a zsh in a terminal: the line is printed once it is completed
			got := runShell(t, "zsh", "-f", "-c", `zmodload zsh/zpty
				zpty shell zsh -f -i
				zpty -w shell 'PS1=; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -D -u; source <(postrider completion zsh)
					show() { print -r -- "<<$BUFFER>>"; exit }; zle -N show; bindkey "^X" show; print ready'
				zpty -r shell out $'*\nready*'
				zpty -w -n shell "$1"$'\t\x18'
				zpty -r shell out '*<<*>>*'; print -r -- "$out"`, "zsh", c.line)
			words := strings.Fields(c.line)
			words[len(words)-1] = c.want
			if !strings.Contains(got, "<<"+strings.Join(words, " ")) {
				t.Errorf("%s becomes %q", c.line, got)
			}
		}
	})
}

// TestManualPage checks the manual page by the strictest reader of such pages.
func TestManualPage(t *testing.T) {
	t.Parallel()
	requireProgram(t, "mandoc")
	_, page, _ := harness.RunOnce(t, nil, "man")
	cmd := exec.CommandContext(t.Context(), "mandoc", "-Tlint")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	for _, part := range []string{`\-\-retry\-base=TIME, POSTRIDER_RETRY_BASE`, "keys add", "to\\-redis\\-prefix"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
}
