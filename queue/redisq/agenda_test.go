package redisq

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var allServed = []bool{true, true, true, true}

func TestAgenda(t *testing.T) {
	a := newAgenda(4)
	a.hear(0, true)
	a.hear(1, true)
	a.hear(2, true)
	check := func(now time.Duration, want ...int) {
		t.Helper()
		if diff := cmp.Diff(want, a.due(now, allServed, true)); diff != "" {
			t.Errorf("due at %s (-want +got):\n%s", now, diff)
		}
	}
	check(0, 0, 1, 2, 3)
	check(time.Hour, 3) // its wakes are not heard, and nobody knows of the others
	a.put(0, 2*time.Second)
	a.put(1, time.Minute)
	a.put(1, time.Second)
	a.put(1, time.Minute) // the earlier counts
	if next := a.next([]bool{true, true, true, false}); next != time.Second {
		t.Errorf("the next is due at %s", next)
	}
	check(time.Second, 1, 3)
	a.begin(3)
	a.hear(1, true) // again: it may have missed something
	check(2*time.Second, 3, 0, 1)
	if diff := cmp.Diff([]int(nil), a.due(time.Hour, make([]bool, 4), true)); diff != "" {
		t.Errorf("due though not served: %s", diff)
	}
}

// TestWakeWhileAsked checks that a wake is not forgotten which comes after a partition was asked, and before its answer.
func TestWakeWhileAsked(t *testing.T) {
	a := newAgenda(1)
	a.hear(0, true)
	a.due(0, allServed[:1], true)
	a.put(0, time.Second) // the wake
	a.put(0, time.Minute) // the answer
	if got := a.due(time.Second, allServed[:1], true); len(got) != 1 {
		t.Error("the wake was forgotten")
	}
}

// TestSuspectsOnTheAgenda checks that a partition with suspects which were not wanted is asked again once they are, and not before.
func TestSuspectsOnTheAgenda(t *testing.T) {
	a := newAgenda(1)
	a.hear(0, true)
	a.due(0, allServed[:1], true)
	a.put(0, time.Minute)
	a.putSuspects(0)
	if next := a.next(allServed[:1]); next != time.Minute {
		t.Errorf("the next is due at %s", next)
	}
	for i, c := range []struct {
		suspects bool
		want     int
	}{{false, 0}, {true, 1}, {true, 0}} {
		if got := a.due(time.Second, allServed[:1], c.suspects); len(got) != c.want {
			t.Errorf("look %d asks %v", i, got)
		}
	}
}
