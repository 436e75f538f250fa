package telemetry_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/internal/telemetry"
)

func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s telemetry.Sampler
		expect := func(key string, skipped int, ok bool) {
			t.Helper()
			if gotSkipped, got := s.Allow(key); got != ok || gotSkipped != skipped {
				t.Errorf("%s: %d, %t, want %d, %t", key, gotSkipped, got, skipped, ok)
			}
		}
		expect("a", 0, true)
		for range 5 {
			expect("a", 0, false)
		}
		expect("b", 0, true)
		time.Sleep(telemetry.Interval - 1)
		expect("a", 0, false)
		time.Sleep(time.Nanosecond)
		expect("a", 6, true)
		time.Sleep(telemetry.Interval)
		expect("a", 0, true)
	})
}

// TestSamplerIsBounded checks that a sampler lets only so many keys through in an interval, and remembers no more.
func TestSamplerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s telemetry.Sampler
		passed := func(prefix string) (n int) {
			for i := range 3000 {
				if _, ok := s.Allow(prefix + strconv.Itoa(i)); ok {
					n++
				}
			}
			return n
		}
		for _, prefix := range []string{"a", "b"} {
			first := passed(prefix)
			again := passed(prefix)
			if first != 1000 || again != 0 {
				t.Errorf("%d and then %d lines passed, want 1000 and none", first, again)
			}
			time.Sleep(telemetry.Interval)
		}
	})
}
