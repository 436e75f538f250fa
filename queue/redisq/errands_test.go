package redisq

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestErrands checks that all that were started are waited for, also while others are started.
func TestErrands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e errands
		e.Wait()
		var ended atomic.Int64
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				e.Go(func() {
					time.Sleep(time.Second)
					ended.Add(1)
				})
				e.Wait()
			})
		}
		callers.Wait()
		if e.Wait(); ended.Load() != 100 {
			t.Errorf("%d of 100 had ended", ended.Load())
		}
	})
}
