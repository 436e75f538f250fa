package app

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// The files in deploy/ name metrics and settings that the program has.

// rules is the part of deploy/prometheus/rules.yml that the tests read.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

// ruleTests is the part of deploy/prometheus/rules_test.yml that the tests read.
type ruleTests struct {
	Tests []struct {
		AlertRuleTest []struct {
			Alertname string
			ExpAlerts []any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func TestAlertsNameMetrics(t *testing.T) {
	served := metricsServed(t)
	alerts := readYAML[rules](t, "deploy/prometheus/rules.yml").Groups[0].Rules
	if len(alerts) < 6 {
		t.Errorf("only %d alerts found", len(alerts))
	}
	for _, a := range alerts {
		wantServed(t, a.Alert, a.Expr, served)
		if a.Labels["severity"] == "" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s has no severity, summary or description", a.Alert)
		}
	}
}

// TestDocumentedAlerts checks that the page lists the alerts.
func TestDocumentedAlerts(t *testing.T) {
	var alerts []string
	for _, a := range readYAML[rules](t, "deploy/prometheus/rules.yml").Groups[0].Rules {
		alerts = append(alerts, a.Alert)
	}
	slices.Sort(alerts)
	if diff := cmp.Diff(alerts, firstColumn(t, "docs/operations.md", "alert")); diff != "" {
		t.Errorf("alerts in rules.yml (-) and in docs/operations.md (+):\n%s", diff)
	}
}

// TestAlerts checks that each alert fires in a test of rules_test.yml, and that promtool finds that these tests pass.
func TestAlerts(t *testing.T) {
	var fires []string
	for _, test := range readYAML[ruleTests](t, "deploy/prometheus/rules_test.yml").Tests {
		for _, a := range test.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires = append(fires, a.Alertname)
			}
		}
	}
	for _, a := range readYAML[rules](t, "deploy/prometheus/rules.yml").Groups[0].Rules {
		if !slices.Contains(fires, a.Alert) {
			t.Errorf("%s fires in no test", a.Alert)
		}
	}
	requirePromtool(t)
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		command := exec.CommandContext(t.Context(), "promtool", args...)
		command.Dir = "../../deploy/prometheus"
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// requirePromtool skips the test where there is no promtool, and fails it instead if REQUIRE_PROMETHEUS=1.
func requirePromtool(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		give := t.Skipf
		if os.Getenv("REQUIRE_PROMETHEUS") == "1" {
			give = t.Fatalf
		}
		give("promtool is needed: apt-get install prometheus (%v)", err)
	}
}

// ofOthers are metrics that Prometheus itself makes.
var ofOthers = []string{"up"}

// wantServed checks that a node serves all metrics that an expression names.
func wantServed(t *testing.T, where, expr string, served []string) {
	t.Helper()
	names := regexp.MustCompile(`\b((?:postrider|process|go)_[a-z_]+|up)\b`).FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s names no metric: %s", where, expr)
	}
	for _, name := range names {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if !slices.Contains(served, name) && !slices.Contains(served, base) && !slices.Contains(ofOthers, name) {
			t.Errorf("%s: no node serves %s", where, name)
		}
	}
}

// readYAML reads a file of one document.
func readYAML[T any](t *testing.T, file string) (document T) {
	t.Helper()
	text, err := fs.ReadFile(repository, file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&document); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return document
}

// board is the part of a Grafana dashboard that the tests read.
type board struct {
	Panels []struct {
		Title   string
		Type    string
		GridPos struct{ H, W, X, Y int } `yaml:"gridPos"`
		Targets []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

// TestGrafana checks that a node serves every metric that the dashboard names, that Prometheus understands its expressions, and
// that no panel covers another.
func TestGrafana(t *testing.T) {
	served := metricsServed(t)
	dashboard := readYAML[board](t, "deploy/grafana/postrider.json") // JSON is YAML
	for _, v := range dashboard.Templating.List {
		if v.Definition != "" {
			wantServed(t, v.Name, v.Definition, served)
		}
	}
	known := strings.NewReplacer("$job", "postrider", "$__rate_interval", "5m")
	taken := map[[2]int]string{}
	var expressions []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			wantServed(t, p.Title, target.Expr, served)
			expressions = append(expressions, known.Replace(target.Expr))
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, there := taken[at]; there {
					t.Fatalf("%q covers %q", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
	if len(expressions) < 20 || len(taken) < 20*24 {
		t.Errorf("only %d expressions and %d squares found", len(expressions), len(taken))
	}
	wantExpressions(t, expressions)
}

// wantExpressions checks that promtool takes expressions.
func wantExpressions(t *testing.T, expressions []string) {
	t.Helper()
	requirePromtool(t)
	var records []map[string]string
	for i, expr := range expressions {
		records = append(records, map[string]string{"record": fmt.Sprintf("panel:%d", i), "expr": expr})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "board", "rules": records}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
