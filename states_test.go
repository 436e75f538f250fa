package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/queue"
)

// docs/STATES.md knows the states, outcomes and reasons that the code knows, and no others.
func TestStatesInDocs(t *testing.T) {
	var counted []string // the states of a delivery, of which the store lists two and counts all
	for field := range reflect.TypeFor[queue.Counts]().Fields() {
		if name := strings.ToLower(field.Name); name != "total" {
			counted = append(counted, name)
		}
	}
	for _, listed := range []queue.DeliveryState{queue.StatePending, queue.StateDead} {
		if !slices.Contains(counted, string(listed)) {
			t.Errorf("%s is listed and not counted", listed)
		}
	}
	var breakers []string
	for _, state := range []breaker.State{breaker.Closed, breaker.Open, breaker.HalfOpen} {
		breakers = append(breakers, state.String())
	}
	for heading, want := range map[string][]string{"Deliveries": counted, "Breakers": breakers, "Hosts": words(queue.HostStates)} {
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), drawn(t, heading)); diff != "" {
			t.Errorf("%s in the code (-) and in the diagram (+):\n%s", heading, diff)
		}
	}
	for heading, want := range map[string][]string{"outcome": words(delivery.Outcomes), "reason": words(queue.Reasons)} {
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), firstColumn(t, "docs/STATES.md", heading)); diff != "" {
			t.Errorf("%ss in the code (-) and in the table (+):\n%s", heading, diff)
		}
	}
}

func words[S ~string](list []S) (texts []string) {
	for _, s := range list {
		texts = append(texts, string(s))
	}
	return texts
}

// drawn returns the states in the diagram below a heading, sorted.
func drawn(t *testing.T, heading string) []string {
	t.Helper()
	_, text, _ := strings.Cut(states(t), "\n## "+heading+"\n")
	_, text, _ = strings.Cut(text, "stateDiagram-v2\n")
	text, _, _ = strings.Cut(text, "```")
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +(\S+) --> (\S+?)(:.*)?$`).FindAllStringSubmatch(text, -1) {
		found[m[1]], found[m[2]] = true, true
	}
	delete(found, "[*]")
	return slices.Sorted(maps.Keys(found))
}

func states(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("docs/STATES.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Who looks for a function that moves something finds it where docs/STATES.md says.
func TestFunctionsInDocs(t *testing.T) {
	there := map[string]bool{}
	for pkg := range mayImport() {
		for _, name := range functions(t, pkg) {
			there[path.Base(pkg)+"."+name] = true
		}
	}
	named := regexp.MustCompile("`([a-z]+\\.[A-Za-z.]+)`").FindAllStringSubmatch(states(t), -1)
	for _, m := range named {
		if name := m[1]; strings.HasSuffix(name, ".lua") {
			if _, err := os.Stat(filepath.Join("queue", "redisq", name)); err != nil {
				t.Error(err)
			}
		} else if !there[name] {
			t.Errorf("there is no %s", name)
		}
	}
	if len(named) < 50 {
		t.Errorf("only %d functions found", len(named))
	}
}

// functions returns the functions of a package, those with a receiver as Type.name, and its constants.
func functions(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			names = append(names, declared(d)...)
		}
	}
	return names
}

func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			of := d.Recv.List[0].Type
			if pointer, ok := of.(*ast.StarExpr); ok {
				of = pointer.X
			}
			if named, ok := of.(*ast.Ident); ok {
				name = named.Name + "." + name
			}
		}
		names = append(names, name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if values, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.CONST {
				names = append(names, values.Names[0].Name)
			}
		}
	}
	return names
}
