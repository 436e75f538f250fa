package embedded

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// wallClock is a wall clock that jumps.
type wallClock struct {
	by  time.Duration
	log bytes.Buffer
}

func (w *wallClock) now() time.Time { return time.Now().Add(w.by) }

// open opens a store that goes by the clock.
func (w *wallClock) open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{
		Prompt: true, Wall: w.now, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Limits: queue.Limits{DeadRetention: 30 * 24 * time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// checkMoves checks how often the log told that the clock has moved.
func (w *wallClock) checkMoves(t *testing.T, want int) {
	t.Helper()
	if n := strings.Count(w.log.String(), "store.clock_moved"); n != want {
		t.Errorf("the clock moved %d times, want %d:\n%s", n, want, w.log.String())
	}
}

// retried stores a delivery that waits for its retry.
func retried(t *testing.T, s *Store, after time.Duration) {
	t.Helper()
	together(t, s, nothing, note(s, queue.Other, queue.Normal))
	retryAll(t, s, after)
}

func retryAll(t *testing.T, s *Store, after time.Duration) {
	t.Helper()
	st := queue.Settlement{Release: true}
	for _, d := range takeAll(t, s, 1) {
		st.Results = append(st.Results, queue.Result{ID: d.ID, Verdict: queue.Retry, After: after})
	}
	if _, err := s.Settle(bg, lease(1), st, 0); err != nil {
		t.Fatal(err)
	}
}

// isDue reports whether the delivery is due.
func isDue(t *testing.T, s *Store) bool {
	t.Helper()
	o, err := s.Due(bg, queue.Want{Lanes: 1, Suspect: 1})
	if err != nil {
		t.Fatal(err)
	}
	return len(o.Hosts) > 0
}

// TestAJumpOfTheClockMovesNothing holds that a retry comes after just as long as it would have, whatever jumps, and that a
// jump is told of once, also if it is found at the next start.
func TestAJumpOfTheClockMovesNothing(t *testing.T) {
	for _, by := range []time.Duration{2 * time.Hour, -2 * time.Hour, 100 * time.Hour, -100 * time.Hour, 100 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w, dir := &wallClock{}, t.TempDir()
			s := w.open(t, dir)
			retried(t, s, 30*time.Minute)
			w.by = by
			if _, err := s.Sweep(bg); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30*time.Minute - time.Second)
			if isDue(t, s) {
				t.Errorf("after a jump by %s it is due too early", by)
			}
			time.Sleep(time.Second)
			if !isDue(t, s) {
				t.Errorf("after a jump by %s it is due too late", by)
			}
			retryAll(t, s, 20*time.Minute)
			w.checkMoves(t, 1)
			if got := hostOf(t, s).OldestPendingAt; got.Sub(w.now()) != -30*time.Minute {
				t.Errorf("what was accepted half an hour ago is shown as of %s", got)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = w.open(t, dir)
			w.checkMoves(t, 1)
			time.Sleep(20 * time.Minute)
			if !isDue(t, s) {
				t.Errorf("after a jump by %s and a restart it is due too late", by)
			}
			w.by = 0 // somebody puts it right
			if _, err := s.Sweep(bg); err != nil {
				t.Fatal(err)
			}
			w.checkMoves(t, 2)
			if pending := hostOf(t, s).Pending; pending != 1 {
				t.Errorf("%d pending, want 1", pending)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAStopOfTheNode holds that a short stop is time that passed, and a long one, which may be a jump, a pause.
func TestAStopOfTheNode(t *testing.T) {
	for _, c := range []struct {
		stop  time.Duration // of the node
		jump  time.Duration // of the wall clock meanwhile
		moves int
		due   time.Duration // of the retry, after the start
	}{
		{9 * time.Minute, 0, 0, 11 * time.Minute},
		{0, 9 * time.Minute, 0, 11 * time.Minute},
		{time.Minute, -90 * time.Second, 0, 20 * time.Minute},
		{time.Minute, -2 * time.Hour, 1, 19 * time.Minute},
		{3 * 24 * time.Hour, 0, 1, 19 * time.Minute},
		{time.Minute, 2 * time.Hour, 1, 19 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, dir := &wallClock{}, t.TempDir()
			s := w.open(t, dir)
			retried(t, s, 20*time.Minute)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.stop)
			w.by = c.jump
			s = w.open(t, dir)
			w.checkMoves(t, c.moves)
			if _, err := s.Sweep(bg); err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.due - time.Second)
			if isDue(t, s) {
				t.Errorf("%+v: it is due too early", c)
			}
			time.Sleep(time.Second)
			if !isDue(t, s) {
				t.Errorf("%+v: it is due too late", c)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAnIdleStoreKnowsTheTime holds that a crash of a node that wrote nothing for long counts as the short stop that it is.
func TestAnIdleStoreKnowsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := &wallClock{}, t.TempDir()
		s := w.open(t, dir)
		retried(t, s, 50*time.Minute)
		for range 9 {
			next, err := s.Sweep(bg)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(next)
		}
		crashed := t.TempDir()
		copyDir(t, dir, crashed)
		time.Sleep(4 * time.Minute)
		other := w.open(t, crashed)
		w.checkMoves(t, 0)
		time.Sleep(time.Minute)
		if !isDue(t, other) {
			t.Error("it is due too late")
		}
		for _, s := range []*Store{s, other} {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestAJumpIsNoDay holds that days of failure are counted by the store's clock, which no jump moves, and shown as days of
// the wall clock.
func TestAJumpIsNoDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wallClock{}
		s := w.open(t, t.TempDir())
		together(t, s, nothing, note(s, queue.Other, queue.Normal))
		turn := func() queue.Turn {
			turns, err := s.Take(bg, []lockmgr.Lease{lease(1)}, 1)
			if err != nil || len(turns) != 1 {
				t.Fatal(turns, err)
			}
			return turns[0]
		}
		began := turn().Now
		w.by = 100 * time.Hour
		if _, err := s.Sweep(bg); err != nil {
			t.Fatal(err)
		}
		if now := turn().Now; now.Sub(began) > time.Second {
			t.Errorf("a turn is on %s, want %s", now, began)
		}
		record := queue.HostRecord{LastAnswer: began}
		record.Breaker.Days = []int32{int32(began.Unix() / 86400)}
		if _, err := s.Settle(bg, lease(1), queue.Settlement{Host: &record, Release: true}, 0); err != nil {
			t.Fatal(err)
		}
		shown := hostOf(t, s).Record
		if want := []time.Time{w.now().Truncate(24 * time.Hour).UTC()}; !slices.Equal(shown.Breaker.FailedOn(), want) || !shown.LastAnswer.Equal(w.now()) {
			t.Errorf("failed on %s, last answer at %s, want %s", shown.Breaker.FailedOn(), shown.LastAnswer, w.now())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestADamagedClockEndsNothing holds that a clock that was changed by a fault begins again, and is not believed.
func TestADamagedClockEndsNothing(t *testing.T) {
	for _, column := range []string{"clock_lag", "clock_kept"} {
		synctest.Test(t, func(t *testing.T) {
			w, dir := &wallClock{}, t.TempDir()
			s := w.open(t, dir)
			retried(t, s, 30*time.Minute)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			change(t, dir, "UPDATE meta SET "+column+" = "+column+" + (1 << 44)")
			s = w.open(t, dir)
			if _, err := s.Sweep(bg); err != nil {
				t.Fatal(err)
			}
			if pending := hostOf(t, s).Pending; pending != 1 || isDue(t, s) {
				t.Errorf("%s: %d pending, want 1 that waits", column, pending)
			}
			if !strings.Contains(w.log.String(), "store.damaged") {
				t.Errorf("%s: the log does not name the damage: %s", column, w.log.String())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
