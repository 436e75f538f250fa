package app

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
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

// TestStatesInDocs checks that the pages list the states, outcomes and reasons of the code, and no others.
func TestStatesInDocs(t *testing.T) {
	var counted []string // the states of a delivery: the store counts all and lists two
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
	for _, table := range []struct {
		page, heading string
		want          []string
	}{
		{"docs/STATES.md", "outcome", words(delivery.Outcomes)},
		{"docs/STATES.md", "reason", words(queue.Reasons)},
		{"docs/api.md", "reason", words(queue.Reasons)},
		{"docs/api.md", "state", words(queue.HostStates)},
	} {
		if diff := cmp.Diff(slices.Sorted(slices.Values(table.want)), firstColumn(t, table.page, table.heading)); diff != "" {
			t.Errorf("%ss in the code (-) and in the table of %s (+):\n%s", table.heading, table.page, diff)
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
	text, err := fs.ReadFile(repository, "docs/STATES.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFunctionsInDocs checks that the functions and scripts that docs/STATES.md names exist.
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
			if found, _ := fs.Glob(repository, path.Join("queue/redisq/script/lua/*", name)); len(found) != 1 {
				t.Errorf("%s is in %q, want one place", name, found)
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
	files, err := fs.Glob(repository, path.Join(pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, d := range parse(t, file, parser.SkipObjectResolution).Decls {
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
