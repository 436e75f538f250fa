package simulation

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay this seed only")
	seedsFlag = flag.Int("seeds", defaultSeeds, "how many seeds to run, from 1 on")
	hostsFlag = flag.Int("hosts", defaultHosts, "hosts of the large world")
	traceFlag = flag.String("trace", "", "write every step of the seed replayed to this file")
)

// small is a world that is over soon.
func small(seed uint64) config {
	r := dice(seed, "small")
	return config{seed: seed, hosts: 24 + r.IntN(30), days: 30, posts: 20 + r.IntN(30), lease: 5 * time.Minute}
}

// TestSeeds runs worlds of 30 days. A seed that fails can be replayed.
func TestSeeds(t *testing.T) {
	first, n := uint64(1), *seedsFlag
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c := small(seed)
			if *traceFlag != "" {
				f, err := os.Create(*traceFlag)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				c.trace = f
			}
			judge(t, simulate(t, c), c)
		})
	}
}

// judge fails the test if a promise was broken, and tells how to see it again.
func judge(t *testing.T, r report, c config) {
	t.Helper()
	t.Logf("seed %d: trace %016x in %s\n%s", c.seed, r.hash, r.took.Round(time.Millisecond), &r.figures)
	if len(r.violations) > 0 {
		t.Errorf("seed %d breaks promises (go test ./internal/simulation -run TestSeeds -seed=%d):\n%s",
			c.seed, c.seed, strings.Join(r.violations, "\n"))
	}
}

// TestReplay shows that a seed's every step is the same each time.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= replays; seed++ {
		first, second := simulate(t, small(seed)), simulate(t, small(seed))
		if first.hash != second.hash || first.steps != second.steps {
			t.Errorf("seed %d: %d steps %016x, and then %d steps %016x", seed, first.steps, first.hash, second.steps, second.hash)
		}
	}
}

// TestLarge runs a large world, and measures what the dead cost the living: the same posts while those are well are
// the comparison.
func TestLarge(t *testing.T) {
	c := config{seed: 1, hosts: *hostsFlag, days: 30, posts: 60, lease: 5 * time.Minute, roomy: true, calm: true}
	with := simulate(t, c)
	judge(t, with, c)
	c.living = true
	without := simulate(t, c)
	judge(t, without, c)
	a, b := mean(with.figures.delays), mean(without.figures.delays)
	t.Logf("mean delay to healthy hosts: %s, and %s without the dead", a, b)
	if float64(a) > 1.1*float64(b) {
		t.Errorf("the mean delay to healthy hosts is %s, and %s without the dead: more than a tenth more", a, b)
	}
}
