package lockmgr_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/lockmgr/locktest"
)

func TestLocal(t *testing.T) {
	locktest.Run(t, func(_ *testing.T, ttl time.Duration) lockmgr.Manager {
		return lockmgr.NewLocal(ttl)
	}, locktest.Options{Wrap: synctest.Test})
}

func BenchmarkLocal(b *testing.B) {
	m := lockmgr.NewLocal(time.Minute)
	hosts := make([]string, 64)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host%d.example", i)
	}
	for b.Loop() {
		leases, err := m.Acquire(b.Context(), hosts)
		if err != nil || len(leases) != len(hosts) {
			b.Fatalf("acquired %d of %d hosts, %v", len(leases), len(hosts), err)
		}
		if err := m.Release(b.Context(), leases); err != nil {
			b.Fatal(err)
		}
	}
}
