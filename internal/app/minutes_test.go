package app

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
)

// pastOf is a store whose additions are counted, and which can be away.
type pastOf struct {
	queue.Queue
	away  atomic.Bool
	added atomic.Int64
}

func (s *pastOf) AddMinute(ctx context.Context, c queue.Counted) (time.Duration, error) {
	if s.away.Load() {
		return 0, errors.New("away")
	}
	s.added.Add(1)
	return s.Queue.AddMinute(ctx, c)
}

// recording runs a test with a recorder of a new store, which counts what the counter says.
func recording(t *testing.T, test func(t *testing.T, s *pastOf, count *atomic.Int64, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		store, err := embedded.Open(t.TempDir(), embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := &pastOf{Queue: store}
		var count atomic.Int64
		r := newRecorder(s, func() map[string]int64 { return map[string]int64{"sum": count.Load()} })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.run(ctx)
		}()
		test(t, s, &count, func() {
			cancel()
			<-done
			if _, err := r.add(t.Context()); err != nil {
				t.Error(err)
			}
		})
		cancel()
		<-done
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// sums returns what was counted in each of the last minutes.
func (s *pastOf) sums(t *testing.T, n int) (sums []int64) {
	t.Helper()
	minutes, err := s.Minutes(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range minutes {
		sums = append(sums, m.Numbers["sum"])
	}
	return sums
}

// TestRecordsMinutes checks that what a node counts is in the minute in which it happened, also what it counted before
// it stops.
func TestRecordsMinutes(t *testing.T) {
	recording(t, func(t *testing.T, s *pastOf, count *atomic.Int64, stop func()) {
		time.Sleep(20 * time.Second)
		for n := range int64(5) {
			count.Add(n)
			time.Sleep(30 * time.Second)
			count.Add(n)
			time.Sleep(30 * time.Second)
		}
		count.Add(7)
		stop()
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]int64{0, 2, 4, 6, 8, 7}, s.sums(t, 6)); diff != "" {
			t.Errorf("sums (-want +got):\n%s", diff)
		}
	})
}

// TestRecordsAfterAnOutage checks that what was counted while the store was away is added once it is back.
func TestRecordsAfterAnOutage(t *testing.T) {
	recording(t, func(t *testing.T, s *pastOf, count *atomic.Int64, _ func()) {
		time.Sleep(10 * time.Second)
		count.Add(1)
		s.away.Store(true)
		time.Sleep(3 * time.Minute)
		count.Add(2)
		s.away.Store(false)
		time.Sleep(3 * time.Minute)
		sum := int64(0)
		for _, n := range s.sums(t, 7) {
			sum += n
		}
		if sum != 3 {
			t.Errorf("the sum is %d, want 3", sum)
		}
	})
}

// TestIdleNodeRecordsNothing checks that a node which counts nothing writes nothing while nothing is pending, and else
// the levels before they no longer hold.
func TestIdleNodeRecordsNothing(t *testing.T) {
	recording(t, func(t *testing.T, s *pastOf, _ *atomic.Int64, _ func()) {
		time.Sleep(24 * time.Hour)
		if n := s.added.Load(); n != 1 {
			t.Errorf("a node without work wrote %d times", n)
		}
		_, err := s.Enqueue(t.Context(), &queue.Submission{
			Activity: queue.Activity{ID: "018f0000-0000-7000-8000-000000000001", Body: []byte("{}")}, TTL: 72 * time.Hour,
			Recipients: []queue.Recipient{{Inbox: "https://a.example/inbox", Host: "a.example"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if n := s.added.Load(); n < 12 || n > 16 {
			t.Errorf("a node with something pending wrote %d times in 2 hours", n)
		}
		minutes, err := s.Minutes(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		gap := time.Duration(0)
		for _, m := range minutes {
			gap += time.Minute
			if _, ok := m.Numbers[queue.LevelPending]; ok {
				gap = 0
			}
			if gap >= queue.LevelsHold {
				t.Errorf("no level was written for %s", gap)
			}
		}
	})
}
