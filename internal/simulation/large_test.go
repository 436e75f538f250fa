//go:build !race

package simulation

import (
	"flag"
	"testing"
	"time"
)

// The race detector would find nothing here that it doesn't find in the small worlds, and make it ten times as slow.

var hostsFlag = flag.Int("hosts", 300, "hosts of the large world")

// TestReplay shows that a seed's every step is the same each time, where turns that begin at once need not compete for
// slots: that is decided by Go's scheduler.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		c := small(seed)
		c.roomy = true
		first, second := simulate(t, c), simulate(t, c)
		if first.hash != second.hash || first.steps != second.steps {
			t.Errorf("seed %d: %d steps %016x, and then %d steps %016x", seed, first.steps, first.hash, second.steps, second.hash)
		}
	}
}

// TestLarge runs a large world, and measures what the dead cost the living: the same posts while those are well are
// the comparison.
func TestLarge(t *testing.T) {
	t.Parallel()
	c := config{seed: 1, hosts: *hostsFlag, days: 30, posts: 60, lease: 5 * time.Minute, roomy: true, calm: true}
	with := simulate(t, c)
	requireKept(t, with, c)
	c.living = true
	without := simulate(t, c)
	requireKept(t, without, c)
	a, b := mean(with.figures.delays), mean(without.figures.delays)
	t.Logf("mean delay to healthy hosts: %s, and %s without the dead", a, b)
	if float64(a) > 1.1*float64(b) {
		t.Errorf("the mean delay to healthy hosts is %s, and %s without the dead: more than a tenth more", a, b)
	}
}
