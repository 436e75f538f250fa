package app

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/postrider/postrider"

// mayImport lists all packages of the repository, and which of them each may import outside its tests.
// docs/ARCHITECTURE.md describes them.
func mayImport() map[string][]string {
	return map[string][]string{
		".": {"internal/app"},
		"internal/app": {
			"breaker", "delivery", "handlers", "internal/bench", "internal/config", "internal/demo", "internal/keyctl", "internal/netguard", "internal/relay", "internal/resolver", "internal/telemetry", "internal/webhook", "lockmgr",
			"queue", "queue/embedded", "queue/redisq", "signer",
		},
		"handlers": {"internal/netguard", "internal/printable", "internal/telemetry", "queue", "signer"},
		"delivery": {"breaker", "internal/netguard", "internal/printable", "internal/resolver", "internal/telemetry", "lockmgr", "queue", "signer"},

		"queue":               {"breaker", "lockmgr"},
		"queue/embedded":      {"breaker", "lockmgr", "queue"},
		"breaker":             nil,
		"queue/redisq":        {"breaker", "internal/rediskeys", "internal/telemetry", "lockmgr", "queue", "queue/redisq/script"},
		"queue/redisq/script": {"queue"},
		"lockmgr":             {"internal/rediskeys"},
		"signer":              nil,

		"internal/config":    nil,
		"internal/netguard":  nil,
		"internal/printable": nil,
		"internal/relay":     nil,
		"internal/rediskeys": nil,
		"internal/resolver":  nil,
		"internal/telemetry": {"internal/printable"},
		"internal/webhook":   {"lockmgr", "queue"},
		"internal/bench": {
			"internal/config", "internal/testinbox", "lockmgr", "queue", "queue/embedded", "queue/redisq", "signer",
		},
		"internal/demo":      {"internal/config", "internal/testinbox", "kits/go/client"},
		"internal/keyctl":    {"internal/config", "internal/printable", "kits/go/client"},
		"kits/go/client":     nil,
		"examples/fediverse": {"internal/testinbox", "kits/go/client"},
		"examples/sink":      nil,

		// These are for tests. Of the packages above only bench, the demo and the examples import them.
		"e2e":                   nil,
		"e2e/harness":           {"internal/app"},
		"interop":               nil,
		"kits":                  nil,
		"kits/typescript":       nil,
		"internal/simulation":   nil,
		"internal/testcert":     nil,
		"internal/testdns":      nil,
		"internal/testinbox":    nil,
		"internal/testpostgres": nil,
		"internal/testredis":    nil,
		"lockmgr/locktest":      {"lockmgr"},
		"queue/queuetest":       {"breaker", "lockmgr", "queue"},
	}
}

func TestImports(t *testing.T) {
	rules := mayImport()
	code, tests := imports(t)
	for pkg, imported := range code {
		allowed, known := rules[pkg]
		if !known {
			t.Errorf("package %s is new: add it to mayImport", pkg)
		}
		for _, other := range imported {
			if !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s; it may import %v", pkg, other, allowed)
			}
		}
	}
	for pkg := range rules {
		if _, there := code[pkg]; !there {
			t.Errorf("there is no package %s any more: take it out of mayImport", pkg)
		}
	}
	// handlers and delivery never import each other, not even in a test: they communicate through the queue.
	if slices.Contains(tests["handlers"], "delivery") || slices.Contains(tests["delivery"], "handlers") {
		t.Error("tests of handlers and delivery import one another")
	}
}

const (
	mostLayers = 8
	mostEdges  = 60
)

// TestGraphSize checks that the graph of imports stays one that a reader can keep in mind. It looks at the packages of ours
// that the program links, and at their code without tests: the layers are the packages on the longest chain of imports, the
// program and the last one included; an edge is one package that imports another, in however many files.
func TestGraphSize(t *testing.T) {
	code, _ := imports(t)
	depths := map[string]int{}
	edges := 0
	var depth func(pkg string) int
	depth = func(pkg string) int {
		if known, seen := depths[pkg]; seen {
			return known
		}
		deepest := 0
		imported := slices.Compact(slices.Sorted(slices.Values(code[pkg])))
		for _, other := range imported {
			deepest = max(deepest, depth(other))
		}
		edges += len(imported)
		depths[pkg] = deepest + 1
		return deepest + 1
	}
	layers := depth(".")
	if layers > mostLayers || edges > mostEdges {
		t.Errorf("%d layers, at most %d are allowed; %d edges, at most %d are allowed", layers, mostLayers, edges, mostEdges)
	}
	if len(depths) < 15 {
		t.Errorf("only %d packages found", len(depths))
	}
	t.Logf("%d packages, %d layers, %d edges", len(depths), layers, edges)
}

// TestArchitectureFolders checks that docs/ARCHITECTURE.md lists all packages, and no others.
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
	err := fs.WalkDir(repository, ".", func(file string, d fs.DirEntry, err error) error {
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
		pkg := path.Dir(file)
		found[pkg] = append(found[pkg], importsOf(t, file)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return code, tests
}

// importsOf returns which of our packages a file imports, as folders; "." is the program itself.
func importsOf(t *testing.T, file string) (ours []string) {
	t.Helper()
	for _, spec := range parse(t, file, parser.ImportsOnly).Imports {
		name := strings.Trim(spec.Path.Value, `"`)
		if folder, ok := strings.CutPrefix(name+"/", module+"/"); ok {
			ours = append(ours, path.Clean(folder))
		}
	}
	return ours
}

func parse(t *testing.T, file string, mode parser.Mode) *ast.File {
	t.Helper()
	text, err := fs.ReadFile(repository, file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, text, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
