package app

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
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
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/signer"
)

// repository holds the files that these tests compare with the code.
var repository = os.DirFS("../..")

// The tables of the pages list what the program has, and nothing else.

func TestDocumentedSettings(t *testing.T) {
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
	for _, row := range table(t, "docs/settings.md", "setting") {
		got[row[0]] = row[1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings and defaults of --help (-) and docs/settings.md (+):\n%s", diff)
	}
}

func TestDocumentedCommands(t *testing.T) {
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
	if diff := cmp.Diff(want, firstColumn(t, "docs/settings.md", "command")); diff != "" {
		t.Errorf("commands of --help (-) and docs/settings.md (+):\n%s", diff)
	}
}

func TestDocumentedRoutes(t *testing.T) {
	var want []string
	for path, methods := range apiDocument(t).Paths {
		for method := range methods {
			want = append(want, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, firstColumn(t, "docs/api.md", "route")); diff != "" {
		t.Errorf("routes served (-) and in docs/api.md (+):\n%s", diff)
	}
}

func TestDocumentedEvents(t *testing.T) {
	get, ok := apiDocument(t).Paths["/v1/events"]["get"]
	if !ok {
		t.Fatal("the document has no GET /v1/events")
	}
	for _, parameter := range get.Parameters {
		if parameter.Name != "type" {
			continue
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(parameter.Schema.Items.Enum)), firstColumn(t, "docs/events.md", "event")); diff != "" {
			t.Errorf("events sent (-) and in docs/events.md (+):\n%s", diff)
		}
		return
	}
	t.Error("events have no types in the document")
}

// TestDocumentedOutcomes checks that the API describes the outcomes that the pool knows.
func TestDocumentedOutcomes(t *testing.T) {
	var want []string
	for _, outcome := range delivery.Outcomes {
		want = append(want, string(outcome))
	}
	if diff := cmp.Diff(want, apiDocument(t).Components.Schemas.Attempt.Properties.Outcome.Enum); diff != "" {
		t.Errorf("outcomes of the pool (-) and in the document (+):\n%s", diff)
	}
}

// operation is the part of an operation of the API that the tests read.
type operation struct {
	Parameters []struct {
		Name   string
		Schema struct {
			Items struct{ Enum []string }
		}
	}
}

// apiDocument returns the parts of the OpenAPI document that the tests read.
func apiDocument(t *testing.T) (document struct {
	Paths      map[string]map[string]operation
	Components struct {
		Schemas struct {
			Attempt struct {
				Properties struct{ Outcome struct{ Enum []string } }
			}
		}
	}
}) {
	t.Helper()
	sealer, err := signer.NewSealer(make([]byte, signer.MasterKeySize))
	if err != nil {
		t.Fatal(err)
	}
	api := handlers.New(handlers.Options{Queue: openTestStore(t), Sealer: sealer, Scrape: http.NotFoundHandler()})
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://localhost/openapi.json", nil))
	if err := json.Unmarshal(answer.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	return document
}

func TestDocumentedMetrics(t *testing.T) {
	served := slices.DeleteFunc(metricsServed(t), func(name string) bool { return !strings.HasPrefix(name, "postrider_") })
	if diff := cmp.Diff(served, firstColumn(t, "docs/operations.md", "metric")); diff != "" {
		t.Errorf("metrics served (-) and in docs/operations.md (+):\n%s", diff)
	}
	registry := prometheus.NewRegistry()
	if _, err := relay.New(relay.Options{Registry: registry}); err != nil {
		t.Fatal(err)
	}
	wantMetrics(t, registry, "docs/outbox.md")
}

// wantMetrics checks that a page lists the metrics of a registry.
func wantMetrics(t *testing.T, registry *prometheus.Registry, page string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, family := range families {
		want[family.GetName()] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), firstColumn(t, page, "metric")); diff != "" {
		t.Errorf("metrics served (-) and in %s (+):\n%s", page, diff)
	}
}

// metricsServed returns the names of all metrics of a node that has just been made, sorted. A histogram has one.
func metricsServed(t *testing.T) (names []string) {
	t.Helper()
	none := func(string) (string, bool) { return "", false }
	cfg, err := config.Parse([]string{
		"--store", "embedded:" + t.TempDir(), "--webhook-url", "http://127.0.0.1:9/", "--webhook-secret", "whsec_" + strings.Repeat("A", 32),
	}, none, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := (&service{cfg: cfg, log: slog.New(slog.DiscardHandler)}).open(t.Context(), t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.client.Close()
		if err := n.store.Close(); err != nil {
			t.Error(err)
		}
	})
	answer := httptest.NewRecorder()
	n.api.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil))
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(answer.Body.String(), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

func openTestStore(t *testing.T) *embedded.Store {
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
	text, err := fs.ReadFile(repository, file)
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
