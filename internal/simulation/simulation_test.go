package simulation

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay this seed only")
	seedsFlag = flag.Int("seeds", defaultSeeds, "how many seeds to run, from 1 on")
	traceFlag = flag.String("trace", "", "write every step of the seed replayed to this file")
)

// TestMain makes garbage collection rare: the worlds need little memory and much CPU.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// small is a short world.
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
			requireKept(t, simulate(t, c), c)
		})
	}
}

// requireKept fails the test if a promise was broken, and logs how to replay it.
func requireKept(t *testing.T, r report, c config) {
	t.Helper()
	t.Logf("seed %d: trace %016x in %s\n%s", c.seed, r.hash, r.took.Round(time.Millisecond), &r.figures)
	if len(r.violations) > 0 {
		t.Errorf("seed %d breaks promises (go test ./internal/simulation -run TestSeeds -seed=%d):\n%s",
			c.seed, c.seed, strings.Join(r.violations, "\n"))
	}
}
