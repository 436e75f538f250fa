package queuetest

import (
	"sync"
	"time"

	"github.com/postrider/postrider/queue"
)

var minuteCases = []testCase{
	{name: "lists the minutes that ended, also those without numbers", run: listsMinutes},
	{name: "adds sums and replaces levels", run: addsToMinutes},
	{name: "adds to the minute in which the middle of the time lies", run: addsToTheMiddle},
	{name: "adds what several nodes counted", run: addsMinutesTogether},
	{name: "keeps minutes over a restart", run: keepsMinutes},
	{name: "shows a minute once it ended", run: showsEndedMinutes, days: true},
	{name: "says when the next minute begins", run: saysNextMinute},
	{name: "drops old minutes", run: dropsMinutes, days: true},
}

// longAgo is over how long something was counted that belongs to a minute which has ended.
const longAgo = 20 * time.Minute

// addMinute adds to a minute, which does not end until the next call if that follows at once.
func (s *suite) addMinute(c queue.Counted) (next time.Duration) {
	s.t.Helper()
	next, err := s.AddMinute(s.t.Context(), c)
	if err != nil {
		s.t.Fatalf("AddMinute: %v", err)
	}
	return next
}

// earlyInAMinute waits for the next minute if this one ends soon.
func (s *suite) earlyInAMinute() {
	s.t.Helper()
	if next := s.addMinute(queue.Counted{}); next < 10*second {
		time.Sleep(next)
	}
}

func (s *suite) minutes(n int) []queue.Minute {
	s.t.Helper()
	minutes, err := s.Minutes(s.t.Context(), n)
	if err != nil {
		s.t.Fatalf("Minutes(%d): %v", n, err)
	}
	if len(minutes) != n {
		s.t.Fatalf("Minutes(%d) listed %d", n, len(minutes))
	}
	return minutes
}

// numbers returns those of the last minutes that have any.
func (s *suite) numbers(n int) (all []map[string]int64) {
	s.t.Helper()
	for _, m := range s.minutes(n) {
		if len(m.Numbers) > 0 {
			all = append(all, m.Numbers)
		}
	}
	return all
}

func listsMinutes(s *suite) {
	s.earlyInAMinute()
	s.addMinute(queue.Counted{Took: longAgo, Sums: map[string]int64{"a": 1}})
	minutes := s.minutes(queue.MinutesKept)
	for i, m := range minutes {
		want := minutes[0].At.Truncate(time.Minute).Add(time.Duration(i) * time.Minute)
		if !m.At.Equal(want) {
			s.t.Fatalf("minute %d began at %s, want %s", i, m.At, want)
		}
	}
	last := minutes[len(minutes)-1].At
	ago := time.Now().Add(s.b.Ahead).Sub(last)
	if least := time.Minute + queue.MinuteGrace; ago < least-2*second || ago > least+time.Minute+2*second {
		s.t.Errorf("the last minute began %s ago, want between %s and a minute more", ago, least)
	}
	s.same("numbers", []map[string]int64{{"a": 1}}, s.numbers(queue.MinutesKept))
	s.same("numbers of the last two minutes", []map[string]int64(nil), s.numbers(2))
}

func addsToMinutes(s *suite) {
	s.earlyInAMinute()
	for i := range int64(3) {
		s.addMinute(queue.Counted{
			Took: longAgo, Sums: map[string]int64{"a": 10 + i, "b:gone": 1 << 40}, Levels: map[string]int64{"c": i},
		})
	}
	s.addMinute(queue.Counted{Took: longAgo, Levels: map[string]int64{"d": 7}})
	s.same("numbers", []map[string]int64{{"a": 33, "b:gone": 3 << 40, "c": 2, "d": 7}}, s.numbers(60))
}

func addsToTheMiddle(s *suite) {
	s.earlyInAMinute()
	for n := range int64(3) {
		took := longAgo + time.Duration(n)*2*time.Minute
		s.addMinute(queue.Counted{Took: took, Sums: map[string]int64{"a": n + 1}})
	}
	s.same("numbers", []map[string]int64{{"a": 3}, {"a": 2}, {"a": 1}}, s.numbers(60))
	for _, m := range s.minutes(60) {
		ago := time.Now().Add(s.b.Ahead).Sub(m.At)
		if m.Numbers["a"] == 1 && (ago < longAgo/2-2*second || ago > longAgo/2+time.Minute+2*second) {
			s.t.Errorf("the middle of the last %s is in the minute that began %s ago", longAgo, ago)
		}
	}
}

func addsMinutesTogether(s *suite) {
	s.earlyInAMinute()
	var nodes sync.WaitGroup
	for range 8 {
		nodes.Go(func() {
			for range 5 {
				c := queue.Counted{Took: longAgo, Sums: map[string]int64{"a": 1}}
				if _, err := s.AddMinute(s.t.Context(), c); err != nil {
					s.t.Errorf("AddMinute: %v", err)
				}
			}
		})
	}
	nodes.Wait()
	s.same("numbers", []map[string]int64{{"a": 40}}, s.numbers(60))
}

func keepsMinutes(s *suite) {
	s.earlyInAMinute()
	s.addMinute(queue.Counted{Took: longAgo, Sums: map[string]int64{"a": 1}})
	s.reopen()
	s.addMinute(queue.Counted{Took: longAgo, Sums: map[string]int64{"a": 1}})
	sum := int64(0)
	for _, numbers := range s.numbers(60) { // the restart may have taken longer than the minute
		sum += numbers["a"]
	}
	s.same("sum", int64(2), sum)
}

func showsEndedMinutes(s *suite) {
	s.addMinute(queue.Counted{Sums: map[string]int64{"a": 1}})
	left := s.addMinute(queue.Counted{})
	time.Sleep(left + queue.MinuteGrace - time.Millisecond)
	s.same("numbers before", []map[string]int64(nil), s.numbers(1))
	time.Sleep(time.Millisecond)
	s.same("numbers", []map[string]int64{{"a": 1}}, s.numbers(1))
	time.Sleep(time.Minute)
	s.same("numbers a minute later", []map[string]int64(nil), s.numbers(1))
}

func saysNextMinute(s *suite) {
	next := s.addMinute(queue.Counted{})
	if next <= 0 || next > time.Minute {
		s.t.Errorf("the next minute begins in %s", next)
	}
	want := time.Now().Add(s.b.Ahead).Truncate(time.Minute)
	got := time.Now().Add(s.b.Ahead + next)
	if off := (got.Sub(want) % time.Minute); min(off, time.Minute-off) > 5*second {
		s.t.Errorf("the next minute begins at %s", got)
	}
}

func dropsMinutes(s *suite) {
	s.addMinute(queue.Counted{Sums: map[string]int64{"a": 1}})
	time.Sleep((queue.MinutesKept - 2) * time.Minute)
	s.addMinute(queue.Counted{})
	s.same("numbers", []map[string]int64{{"a": 1}}, s.numbers(queue.MinutesKept))
	time.Sleep(4 * time.Minute)
	s.addMinute(queue.Counted{})
	s.same("numbers later", []map[string]int64(nil), s.numbers(queue.MinutesKept))
}
