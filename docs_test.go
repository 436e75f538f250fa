package main_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/handlers"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/signer"
)

// The README's tables say what the program says.

func TestReadmeSettings(t *testing.T) {
	var help strings.Builder
	none := func(string) (string, bool) { return "", false }
	if _, err := config.Parse([]string{"--help"}, none, &help, &help); !errors.Is(err, config.ErrHelp) {
		t.Fatal(err)
	}
	want := map[string]string{} // setting: default
	for _, m := range regexp.MustCompile(`(?m)^ +--([a-z-]+)\S* +POSTRIDER_\S+ .*\(default (.*)\)$`).FindAllStringSubmatch(help.String(), -1) {
		want[m[1]] = m[2]
	}
	if len(want) < 20 {
		t.Fatalf("only %d settings found in --help", len(want))
	}
	got := map[string]string{}
	for _, row := range table(t, "README.md", "setting") {
		got[row[0]] = row[1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings and defaults of --help (-) and README (+):\n%s", diff)
	}
}

func TestReadmeCommands(t *testing.T) {
	var help strings.Builder
	none := func(string) (string, bool) { return "", false }
	if _, err := config.Parse([]string{"--help"}, none, &help, &help); !errors.Is(err, config.ErrHelp) {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(help.String(), "\nCommands:\n")
	commands, _, _ = strings.Cut(commands, "\n\n")
	var want []string
	for line := range strings.SplitSeq(commands, "\n") {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		for _, argument := range regexp.MustCompile("<[a-z-]+>").FindAllString(name, -1) {
			typed := strings.ToUpper(strings.ReplaceAll(strings.Trim(argument, "<>"), "-", "_"))
			name = strings.ReplaceAll(name, argument, typed)
		}
		want = append(want, name)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, firstColumn(t, "README.md", "command")); diff != "" {
		t.Errorf("commands of --help (-) and README (+):\n%s", diff)
	}
}

func TestReadmeRoutes(t *testing.T) {
	sealer, err := signer.NewSealer(make([]byte, signer.MasterKeySize))
	if err != nil {
		t.Fatal(err)
	}
	api := handlers.New(handlers.Options{Queue: openStore(t), Sealer: sealer, Metrics: http.NotFoundHandler()})
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	var want []string
	for path, methods := range document.Paths {
		for method := range methods {
			want = append(want, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, firstColumn(t, "README.md", "route")); diff != "" {
		t.Errorf("routes served (-) and in README (+):\n%s", diff)
	}
}

func TestReadmeMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(queue.NewCollector(openStore(t)))
	delivery.NewMetrics(registry, "go")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, family := range families {
		want[family.GetName()] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), firstColumn(t, "README.md", "metric")); diff != "" {
		t.Errorf("metrics served (-) and in README (+):\n%s", diff)
	}
}

func openStore(t *testing.T) *embedded.Store {
	t.Helper()
	store, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// firstColumn returns the first column of the table that begins with a heading, sorted.
func firstColumn(t *testing.T, file, heading string) []string {
	t.Helper()
	var cells []string
	for _, row := range table(t, file, heading) {
		cells = append(cells, row[0])
	}
	slices.Sort(cells)
	return cells
}

// table returns the rows of the one table of a file whose first column has this heading, without back-quotes.
func table(t *testing.T, file, heading string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n| "+heading+" |")
	if !found {
		t.Fatalf("%s has no table that begins with %q", file, heading)
	}
	for _, line := range strings.Split(rest, "\n")[2:] { // after the headings and the rule
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), "`", ""), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}
