package lockmgr

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestLocalForgets checks that a Local's memory is bounded by the leases that last, released or not.
func TestLocalForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLocal(time.Second)
		for i := range 1000 {
			leases, err := l.Acquire(t.Context(), []string{fmt.Sprintf("released%d.example", i), fmt.Sprintf("left%d.example", i)})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Release(t.Context(), leases[:1]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(l.held); n > 20 {
			t.Errorf("%d hosts are remembered, want at most those of two TTLs", n)
		}
	})
}
