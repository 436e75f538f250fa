package breaker

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// still has no jitter, so that cool-offs are exact.
func still() float64 { return 0 }

var rules = Settings{
	Threshold: 3, CoolOff: time.Minute, CoolOffMax: time.Hour, Window: 4, UnavailableDays: 7, Jitter: still,
}

// attempt makes one attempt with the verdict, which must be allowed.
func attempt(t *testing.T, b *Breaker, v Verdict) {
	t.Helper()
	p, ok := b.Allow()
	if !ok {
		t.Fatalf("attempt not allowed, record %+v", b.Record())
	}
	p.Done(v)
}

// times repeats a verdict.
func times(n int, v Verdict) []Verdict {
	s := make([]Verdict, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func TestVerdicts(t *testing.T) {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a bubble's clock begins
	const today = 10957
	good := Record{Window: 2, LastSuccess: start}
	open := Record{State: Open, Failures: 5, Trips: 2, Window: 4, Days: []int32{10956}, Failed: true, OpenedAt: start.Add(-time.Hour)}
	probing := open
	probing.State = HalfOpen
	back := Record{Window: 1, LastSuccess: start}

	tests := []struct {
		name      string
		from      Record
		verdicts  []Verdict
		want      Record
		limit     int
		coolOff   time.Duration // 0: did not open
		recovered bool
	}{
		{name: "never reached", limit: 1},
		{name: "first success", verdicts: []Verdict{Alive}, want: good, limit: 2},
		{name: "window grows to its end", verdicts: times(9, Alive), want: Record{Window: 4, LastSuccess: start}, limit: 3},
		{name: "slow halves and is a success", from: Record{Window: 4, Failures: 1, Failed: true, Days: []int32{1}}, verdicts: []Verdict{Slow}, want: good, limit: 2},
		{name: "slow never ends the window", verdicts: times(3, Slow), want: back, limit: 1},
		{name: "throttled halves only", from: Record{Window: 4, Failures: 1, Failed: true}, verdicts: []Verdict{Throttled}, want: Record{Window: 2, Failures: 1, Failed: true}, limit: 2},
		{name: "throttled never opens", verdicts: times(9, Throttled), want: Record{Window: 1}, limit: 1},
		{name: "overloaded counts the day only", from: Record{Window: 4, LastSuccess: start}, verdicts: times(9, Overloaded),
			want: Record{Window: 1, Days: []int32{today}, LastSuccess: start}, limit: 1},
		{name: "success forgets overload", verdicts: []Verdict{Overloaded, Alive}, want: good, limit: 2},
		{name: "abandoned leaves no trace", verdicts: times(9, Abandoned), limit: 1},
		{name: "unknown verdict leaves no trace", from: good, verdicts: []Verdict{77}, want: good, limit: 2},
		{name: "failure keeps the window", from: Record{Window: 4}, verdicts: []Verdict{Failed}, want: Record{Window: 4, Failures: 1, Failed: true, Days: []int32{today}}, limit: 2},
		{name: "time-out halves the window", from: Record{Window: 4}, verdicts: []Verdict{TimedOut}, want: Record{Window: 2, Failures: 1, Failed: true, Days: []int32{today}}, limit: 2},
		{name: "success forgets failures", verdicts: []Verdict{Failed, Failed, Alive, Failed, Failed}, want: Record{Window: 2, Failures: 2, Failed: true, Days: []int32{today}, LastSuccess: start}, limit: 1},
		{name: "neutral verdicts don't break a row", verdicts: []Verdict{Failed, Throttled, Failed, Abandoned, Failed},
			want: Record{State: Open, Failures: 3, Trips: 1, Window: 1, Failed: true, Days: []int32{today}, OpenedAt: start}, coolOff: time.Minute},
		{name: "opens at the threshold", from: good, verdicts: times(3, Failed),
			want: Record{State: Open, Failures: 3, Trips: 1, Window: 2, Failed: true, Days: []int32{today}, LastSuccess: start, OpenedAt: start}, coolOff: time.Minute},
		{name: "opens over turns", from: Record{Failures: 2, Failed: true}, verdicts: []Verdict{TimedOut},
			want: Record{State: Open, Failures: 3, Trips: 1, Window: 1, Failed: true, Days: []int32{today}, OpenedAt: start}, coolOff: time.Minute},
		{name: "cool-off over", from: open, want: probing, limit: 1},
		{name: "probe succeeds", from: open, verdicts: []Verdict{Alive}, want: back, limit: 1, recovered: true},
		{name: "slow probe succeeds", from: open, verdicts: []Verdict{Slow}, want: back, limit: 1, recovered: true},
		{name: "window grows after recovery", from: open, verdicts: []Verdict{Alive, Alive}, want: good, limit: 2, recovered: true},
		{name: "probe fails", from: open, verdicts: []Verdict{Failed},
			want: Record{State: Open, Failures: 6, Trips: 3, Window: 4, Failed: true, Days: []int32{10956, today}, OpenedAt: start}, coolOff: 4 * time.Minute},
		{name: "half-open probe fails", from: probing, verdicts: []Verdict{TimedOut},
			want: Record{State: Open, Failures: 6, Trips: 3, Window: 2, Failed: true, Days: []int32{10956, today}, OpenedAt: start}, coolOff: 4 * time.Minute},
		{name: "probe abandoned", from: open, verdicts: times(3, Abandoned), want: probing, limit: 1},
		{name: "probe repeated after a throttle", from: open, verdicts: []Verdict{Throttled, Throttled, Alive}, want: back, limit: 1, recovered: true},
		{name: "opens again after recovery", from: open, verdicts: []Verdict{Alive, Failed, Failed, Failed},
			want: Record{State: Open, Failures: 3, Trips: 1, Window: 1, Failed: true, Days: []int32{today}, LastSuccess: start, OpenedAt: start}, coolOff: time.Minute},
		{name: "threshold lowered meanwhile", from: Record{Failures: 9, Window: 4, Failed: true}, want: Record{Failures: 9, Window: 4, Failed: true}, limit: 1},
		{name: "window lowered meanwhile", from: Record{Window: 100}, want: Record{Window: 100}, limit: 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := rules.Restore(tt.from)
				for _, v := range tt.verdicts {
					attempt(t, b, v)
				}
				if diff := cmp.Diff(tt.want, b.Record()); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
				if got := b.Limit(); got != tt.limit {
					t.Errorf("Limit() = %d, want %d", got, tt.limit)
				}
				if got, yes := b.Opened(); got != tt.coolOff || yes != (tt.coolOff > 0) {
					t.Errorf("Opened() = %v, %v, want %v", got, yes, tt.coolOff)
				}
				if got := b.Recovered(); got != tt.recovered {
					t.Errorf("Recovered() = %v, want %v", got, tt.recovered)
				}
			})
		})
	}
}

func TestAllowHoldsToLimit(t *testing.T) {
	tests := []struct {
		name string
		from Record
		want int
	}{
		{"never reached", Record{}, 1},
		{"window", Record{Window: 2}, 2},
		{"threshold", Record{Window: 4}, 3},
		{"threshold less failures", Record{Window: 4, Failures: 1}, 2},
		{"probe after open", Record{State: Open, Window: 4}, 1},
		{"probe half-open", Record{State: HalfOpen, Window: 4}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := rules.Restore(tt.from)
			got := 0
			for _, ok := b.Allow(); ok; _, ok = b.Allow() {
				got++
			}
			if got != tt.want {
				t.Errorf("allowed %d at once, want %d", got, tt.want)
			}
		})
	}
}

func TestWindowShrinksBelowInFlight(t *testing.T) {
	s := rules
	s.Threshold = 100
	b := s.Restore(Record{Window: 4})
	var permits []Permit
	for range 4 {
		p, _ := b.Allow()
		permits = append(permits, p)
	}
	permits[0].Done(Throttled) // window 2, three in flight
	for _, p := range permits[1:3] {
		if _, ok := b.Allow(); ok {
			t.Fatal("allowed above the window")
		}
		p.Done(Abandoned)
	}
	if _, ok := b.Allow(); !ok {
		t.Error("not allowed below the window")
	}
}

func TestOpenStaysOpenWithinTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rules
		s.Jitter = nil
		b := s.Restore(Record{State: Open})
		attempt(t, b, Failed)
		first, _ := b.Opened()
		time.Sleep(1000 * time.Hour) // the lane waits, not the breaker
		if _, ok := b.Allow(); ok {
			t.Error("allowed in the turn in which it opened")
		}
		if again, yes := b.Opened(); !yes || again != first {
			t.Errorf("Opened() = %v, %v, want %v again", again, yes, first)
		}
	})
}

func TestPermitCountsOnce(t *testing.T) {
	b := rules.Restore(Record{Window: 2})
	first, _ := b.Allow()
	second, _ := b.Allow()
	for range 5 {
		first.Done(Failed)
	}
	first.Done(Alive)
	if got := b.Record().Failures; got != 1 {
		t.Errorf("%d failures counted, want 1", got)
	}
	if _, ok := b.Allow(); !ok {
		t.Error("the place given back is not free")
	}
	if _, ok := b.Allow(); ok {
		t.Error("a place was freed twice")
	}
	second.Done(Abandoned)
	Permit{}.Done(Failed) // harmless
}

func TestProbeNeverGivenBack(t *testing.T) {
	b := rules.Restore(Record{State: Open, Trips: 1, Failures: 3})
	if _, ok := b.Allow(); !ok {
		t.Fatal("no probe")
	}
	if _, ok := b.Allow(); ok {
		t.Fatal("a second probe")
	}
	attempt(t, rules.Restore(b.Record()), Alive) // the next turn probes again
}

func TestPanicGivesPermitBack(t *testing.T) {
	b := rules.Restore(Record{State: Open})
	func() {
		defer func() { _ = recover() }()
		p, _ := b.Allow()
		defer p.Done(Abandoned)
		panic("attempt")
	}()
	attempt(t, b, Alive)
}

// TestConcurrent overlaps attempts of many goroutines: with answers in between the window holds, with none the
// threshold does, to the very attempt.
func TestConcurrent(t *testing.T) {
	s := Settings{Threshold: 5, Window: 4, CoolOff: time.Minute, UnavailableDays: 7}
	tests := []struct {
		name     string
		from     Record
		verdicts []Verdict
		most     int // in flight
		opens    int // after so many attempts; 0 is never
	}{
		{"mixed", Record{}, []Verdict{Alive, Failed, Alive, Alive, Throttled, Abandoned, Slow, Alive}, 4, 0},
		{"failing", Record{Window: 4}, []Verdict{Failed}, 4, 5},
		{"probing", Record{State: Open, Failures: 5, Trips: 1, Window: 4}, []Verdict{Failed}, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := s
			if tt.opens == 0 {
				s.Threshold = 1 << 20
			}
			b := s.Restore(tt.from)
			most, made := overlap(b, tt.verdicts)
			if most > tt.most {
				t.Errorf("%d in flight, at most %d wanted", most, tt.most)
			}
			if _, yes := b.Opened(); yes != (tt.opens > 0) || yes && made != tt.opens {
				t.Errorf("opened %v after %d attempts, want %d", yes, made, tt.opens)
			}
			left := 0
			for _, ok := b.Allow(); ok; _, ok = b.Allow() {
				left++
			}
			if left != b.Limit() {
				t.Errorf("%d places are free at the end, want %d", left, b.Limit())
			}
		})
	}
}

// overlap makes attempts from many goroutines at once, with the verdicts in turn, and returns how many were in flight
// at most and how many were made.
func overlap(b *Breaker, verdicts []Verdict) (most, made int) {
	var flying, peak, count atomic.Int32
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 16 {
		wg.Go(func() {
			<-start
			for range 500 {
				runtime.Gosched()
				p, ok := b.Allow()
				if !ok {
					continue
				}
				n := flying.Add(1)
				for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
				}
				runtime.Gosched()
				_ = b.Limit()
				_ = b.Record()
				_ = b.Recovered()
				flying.Add(-1)
				p.Done(verdicts[int(count.Add(1))%len(verdicts)])
				p.Done(Failed)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(peak.Load()), int(count.Load())
}

// A host is suspect while its answers hold slots for seconds on average, and not for longer.
func TestSlowAnswersMakeSuspect(t *testing.T) {
	const quick = slowAfter - 1
	tests := []struct {
		name string
		took []time.Duration
		want int
	}{
		{"quick", []time.Duration{0, quick}, 0},
		{"slow", []time.Duration{slowAfter}, 2},
		{"slow, then quick", []time.Duration{slowAfter, quick}, 1},
		{"slow, then quick for long enough", []time.Duration{slowAfter, quick, quick, quick}, 0},
		{"quick now and then", []time.Duration{9 * time.Second, quick, quick, 3 * time.Second}, 10},
		{"as slow as can be", []time.Duration{30 * time.Second, time.Hour}, maxSlow},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := rules.Restore(Record{})
			attempt(t, b, Alive)
			for _, d := range tt.took {
				b.Took(d)
			}
			r := b.Record()
			if r.Slow != tt.want || r.Suspect() != (tt.want > 0) {
				t.Errorf("slow %d, suspect %t, want %d", r.Slow, r.Suspect(), tt.want)
			}
			if r.Forgiven().Suspect() {
				t.Error("a host that was reset is suspect")
			}
		})
	}
}
