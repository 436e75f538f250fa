package main_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/postrider/postrider"

// mayImport is the law: what each package may import of ours outside its tests. A package that isn't here has no place
// in the program yet; docs/ARCHITECTURE.md tells what each is for.
func mayImport() map[string][]string {
	return map[string][]string{
		".": {
			"breaker", "delivery", "handlers", "internal/bench", "internal/config", "internal/demo", "internal/keyctl", "internal/netguard", "lockmgr", "queue",
			"queue/embedded", "queue/redisq", "signer",
		},
		"handlers": {"internal/netguard", "internal/seldom", "queue", "signer"},
		"delivery": {"breaker", "internal/netguard", "internal/seldom", "lockmgr", "queue", "signer"},

		"queue":          {"breaker", "lockmgr"},
		"queue/embedded": {"breaker", "lockmgr", "queue"},
		"breaker":        nil,
		"queue/redisq":   {"breaker", "internal/rediskeys", "internal/seldom", "lockmgr", "queue"},
		"lockmgr":        {"internal/rediskeys"},
		"signer":         nil,

		"internal/config":    nil,
		"internal/netguard":  nil,
		"internal/rediskeys": nil,
		"internal/seldom":    nil,
		"internal/bench": {
			"internal/config", "internal/testinbox", "lockmgr", "queue", "queue/embedded", "queue/redisq", "signer",
		},
		"internal/demo":      {"internal/config", "internal/testinbox"},
		"internal/keyctl":    {"internal/config"},
		"examples/fediverse": {"internal/testinbox"},
		"examples/sink":      nil,

		// Nobody above names these but bench, the demo and the examples: they are for tests.
		"interop":             nil,
		"internal/simulation": nil,
		"internal/testinbox":  nil,
		"internal/testredis":  nil,
		"lockmgr/locktest":    {"lockmgr"},
		"queue/queuetest":     {"breaker", "lockmgr", "queue"},
	}
}

func TestImports(t *testing.T) {
	law := mayImport()
	code, tests := imports(t)
	for pkg, imported := range code {
		allowed, known := law[pkg]
		if !known {
			t.Errorf("package %s is new: give it a place in mayImport", pkg)
		}
		for _, other := range imported {
			if !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s; it may import %v", pkg, other, allowed)
			}
		}
	}
	for pkg := range law {
		if _, there := code[pkg]; !there {
			t.Errorf("there is no package %s any more: take it out of mayImport", pkg)
		}
	}
	// handlers and delivery never meet, not even in a test: what one tells the other goes through the queue.
	if slices.Contains(tests["handlers"], "delivery") || slices.Contains(tests["delivery"], "handlers") {
		t.Error("tests of handlers and delivery import one another")
	}
}

// Whoever looks for a package finds it on the map.
func TestArchitectureFolders(t *testing.T) {
	var listed []string
	for _, row := range table(t, "docs/ARCHITECTURE.md", "folder") {
		listed = append(listed, path.Clean(row[0]))
	}
	slices.Sort(listed)
	var there []string
	for pkg := range mayImport() {
		there = append(there, pkg)
	}
	slices.Sort(there)
	if diff := cmp.Diff(there, listed); diff != "" {
		t.Errorf("packages (-) and the folders listed (+):\n%s", diff)
	}
}

// imports returns what each package of the repository imports of the others, in its code and in its tests.
func imports(t *testing.T) (code, tests map[string][]string) {
	t.Helper()
	code, tests = map[string][]string{}, map[string][]string{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (d.Name()[0] == '.' || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		found := code
		if strings.HasSuffix(file, "_test.go") {
			found = tests
		}
		pkg := filepath.ToSlash(filepath.Dir(file))
		ours, err := importsOf(file)
		found[pkg] = append(found[pkg], ours...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return code, tests
}

// importsOf returns which of our packages a file imports, as folders; "." is the program itself.
func importsOf(file string) (ours []string, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	for _, spec := range f.Imports {
		name := strings.Trim(spec.Path.Value, `"`)
		if folder, ok := strings.CutPrefix(name+"/", module+"/"); ok {
			ours = append(ours, path.Clean(folder))
		}
	}
	return ours, nil
}
