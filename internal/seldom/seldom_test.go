package seldom_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/internal/seldom"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g seldom.Gate
		expect := func(key string, left int, open bool) {
			t.Helper()
			if gotLeft, got := g.Open(key); got != open || gotLeft != left {
				t.Errorf("%s: %d, %t, want %d, %t", key, gotLeft, got, left, open)
			}
		}
		expect("a", 0, true)
		for range 5 {
			expect("a", 0, false)
		}
		expect("b", 0, true)
		time.Sleep(seldom.Every - 1)
		expect("a", 0, false)
		time.Sleep(time.Nanosecond)
		expect("a", 6, true)
		time.Sleep(seldom.Every)
		expect("a", 0, true)
	})
}
