package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBenchCall(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want BenchCall
	}{
		"all by default": {nil, BenchCall{Scenarios: BenchScenarios(), Runs: 1, Nodes: 1}},
		"all that can be said": {
			[]string{"--scenarios", "idle,tls", "--runs", "5", "--nodes", "3", "--store", "redis://127.0.0.1", "--short", "--json", "--plot", "a.svg"},
			BenchCall{Scenarios: []string{"idle", "tls"}, Runs: 5, Nodes: 3, Short: true, JSON: true, Plot: "a.svg"},
		},
		"as another started it": {[]string{"--short", "--role", "sink"}, BenchCall{Scenarios: BenchScenarios(), Runs: 1, Nodes: 1, Short: true, Role: "sink"}},
	} {
		c := mustParse(t, append([]string{"bench"}, row.args...))
		if diff := cmp.Diff(row.want, c.Bench); c.Command != Bench || diff != "" {
			t.Errorf("%s: command %s (-want +got)\n%s", name, c.Command, diff)
		}
	}
	for _, bad := range [][]string{{"--scenarios", "warp"}, {"--scenarios", ""}, {"--runs", "0"}, {"--runs", "many"}, {"--nodes", "0"}, {"--nodes", "2"}, {"--plot", "a.png"}} {
		if c, err := parse(t, append([]string{"bench"}, bad...)); err == nil {
			t.Errorf("%q: taken as %+v", bad, c.Bench)
		}
	}
	// Nodes of a measurement get a master key of its own, so none has to be set for Redis.
	if c := mustParse(t, []string{"bench", "--store", "redis://127.0.0.1"}); !c.Store.IsRedis() {
		t.Errorf("store %s", c.Store)
	}
}
