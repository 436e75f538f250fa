package rediskeys_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/rediskeys"
)

// Data that is stored is found by these names, so they may never change.
func TestNamesAreStable(t *testing.T) {
	s := rediskeys.Scheme{Prefix: "postrider", Partitions: 64}
	p := s.Partition(s.PartitionOf("mastodon.example"))
	got := []string{p.Key(rediskeys.Stats), p.Of(rediskeys.Lane, "mastodon.example:8443"), s.Channel()}
	want := []string{"postrider:{p32}:stats", "postrider:{p32}:h:mastodon.example:8443", "postrider:wake"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys are other than they were (-want +got):\n%s", diff)
	}
}

func TestSpreads(t *testing.T) {
	s := rediskeys.Scheme{Prefix: "p", Partitions: 16}
	const names = 16_000
	count := make([]int, s.Partitions)
	for i := range names {
		count[s.PartitionOf(fmt.Sprintf("host%d.example", i))]++
	}
	for p, n := range count {
		if n < names/s.Partitions*8/10 || n > names/s.Partitions*12/10 {
			t.Errorf("partition %d has %d of %d names", p, n, names)
		}
	}
	if p := (rediskeys.Scheme{Prefix: "p"}).PartitionOf("host"); p != 0 {
		t.Errorf("without partitions a name is in partition %d", p)
	}
}
