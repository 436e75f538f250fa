package harness

import (
	"regexp"
	"strings"
	"testing"
)

const mostOwnLines = 10

// notOwn matches lines that every program in a language has: blank ones, comments and imports.
var notOwn = regexp.MustCompile(`^\s*(#|//|<\?php|import |require |use |$)`)

// CheckShort fails the test if the first program of a README takes more than ten lines of an app's own. The lines outside of
// main in Go do not count either.
func CheckShort(t *testing.T, name, program string) {
	t.Helper()
	if _, body, found := strings.Cut(program, "\nfunc main() {\n"); found {
		program, _, _ = strings.Cut(body, "\n}\n")
	}
	n := 0
	for line := range strings.Lines(program) {
		if !notOwn.MatchString(line) {
			n++
		}
	}
	if n == 0 || n > mostOwnLines {
		t.Errorf("the first program of %s has %d lines of its own, want at most %d:\n%s", name, n, mostOwnLines, program)
	}
}
