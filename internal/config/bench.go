package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// BenchCall is the arguments of the command Bench.
type BenchCall struct {
	Scenarios []string // some of BenchScenarios, by default all
	Runs      int      // the number of runs; medians are shown
	Short     bool     // measure less of everything
	Tiny      bool     // measure as little as possible, for tests
	JSON      bool
	Plot      string // a file to draw to as SVG; "" for none
	Role      string // of a process that another one started
}

// BenchScenarios returns the names of the scenarios, in the order in which they are measured.
func BenchScenarios() []string {
	return []string{"keepalive", "connections", "tls", "slow", "dead", "backlog", "fanout", "intake", "idle"}
}

// benchCommand is the command line of Bench.
type benchCommand struct {
	Scenarios []string `name:"scenarios" type:"scenarios" placeholder:"NAMES" help:"what to measure"`
	Runs      int      `name:"runs" min:"1" max:"100" default:"1" placeholder:"N" help:"how many times; shows medians"`
	Short     bool     `name:"short" help:"measure less"`
	JSON      bool     `name:"json" help:"print JSON"`
	Plot      string   `name:"plot" type:"svg" placeholder:"FILE" help:"draw a picture to this file"`
	Tiny      bool     `name:"tiny" hidden:""`
	Role      string   `name:"role" hidden:""`
}

func (b *benchCommand) call() BenchCall {
	if len(b.Scenarios) == 0 {
		b.Scenarios = BenchScenarios()
	}
	return BenchCall{Scenarios: b.Scenarios, Runs: b.Runs, Short: b.Short, Tiny: b.Tiny, JSON: b.JSON, Plot: b.Plot, Role: b.Role}
}

func scenarios(_ *kong.Tag, raw string) ([]string, error) {
	names := strings.Split(raw, ",")
	for _, name := range names {
		if !slices.Contains(BenchScenarios(), name) {
			return nil, errors.New("want some of " + strings.Join(BenchScenarios(), ","))
		}
	}
	return names, nil
}

func svgFile(_ *kong.Tag, raw string) (string, error) {
	if !strings.HasSuffix(raw, ".svg") {
		return "", errors.New("want the name of a file that ends in .svg")
	}
	return raw, nil
}
