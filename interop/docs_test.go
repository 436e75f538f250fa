package interop

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FEDERATION.md says which verifiers are used, in which version, and their wrong verdicts.

func TestFederationVerifiers(t *testing.T) {
	versions := pinned(t)
	var want [][]string
	for _, v := range verifiers() {
		want = append(want, []string{v.name, versions[v.name], strings.Join(v.schemes, ", ")})
	}
	var got [][]string
	for _, row := range table(t, "verifier") {
		got = append(got, row[:3])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verifiers asked (-) and in FEDERATION.md (+):\n%s", diff)
	}
}

func TestFederationQuirks(t *testing.T) {
	var want [][]string
	for _, q := range append(refusals(), blindSpots()...) {
		want = append(want, []string{q.verifier, q.scheme, q.what, q.why})
	}
	got := table(t, "misjudged by")
	slices.SortFunc(want, slices.Compare)
	slices.SortFunc(got, slices.Compare)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("quirks asserted (-) and in FEDERATION.md (+):\n%s", diff)
	}
}

// pinned returns the versions of the npm packages, which have to be exact, and of the Go modules.
func pinned(t *testing.T) map[string]string {
	t.Helper()
	var list struct{ Dependencies map[string]string }
	if err := json.Unmarshal([]byte(read(t, "testdata/package.json")), &list); err != nil {
		t.Fatal(err)
	}
	for name, version := range list.Dependencies {
		if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
			t.Errorf("%s is not pinned: %s", name, version)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v(\S+)`).FindAllStringSubmatch(read(t, "../go.mod"), -1) {
		list.Dependencies[m[1]] = m[2]
	}
	return list.Dependencies
}

// The lock file has the hash of every package, and npm's settings say where packages come from.
func TestLockFile(t *testing.T) {
	var lock struct {
		Packages map[string]struct{ Version, Integrity, Resolved string }
	}
	if err := json.Unmarshal([]byte(read(t, "testdata/package-lock.json")), &lock); err != nil {
		t.Fatal(err)
	}
	delete(lock.Packages, "") // the project itself
	if len(lock.Packages) < 20 {
		t.Errorf("only %d packages", len(lock.Packages))
	}
	for name, p := range lock.Packages {
		if !strings.HasPrefix(p.Integrity, "sha512-") || p.Resolved != "" {
			t.Errorf("%s %s: integrity %q, resolved %q: npm install with omit-lockfile-registry-resolved=true", name, p.Version, p.Integrity, p.Resolved)
		}
	}
}

// table returns the rows of FEDERATION.md's table whose first column has this heading: links as their text, and without
// back-quotes.
func table(t *testing.T, heading string) (rows [][]string) {
	t.Helper()
	_, rest, found := strings.Cut(read(t, "../FEDERATION.md"), "\n| "+heading+" |")
	if !found {
		t.Fatalf("FEDERATION.md has no table that begins with %q", heading)
	}
	plain := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.ReplaceAll(rest, "`", ""), "$1")
	for _, line := range strings.Split(plain, "\n")[2:] { // after the headings and the rule
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
