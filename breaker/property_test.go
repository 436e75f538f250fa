package breaker

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// anyRules makes settings small enough that their bounds are often reached.
func anyRules(rnd *rand.Rand) Settings {
	return Settings{
		Threshold: 1 + rnd.IntN(12), Window: 1 + rnd.IntN(16), UnavailableDays: 1 + rnd.IntN(4),
		CoolOff: time.Minute, CoolOffMax: time.Hour, Jitter: still,
	}
}

// anyVerdict is a failure half the time.
func anyVerdict(rnd *rand.Rand) Verdict {
	return []Verdict{Failed, Failed, Failed, TimedOut, TimedOut, Alive, Alive, Slow, Throttled, Overloaded, Abandoned}[rnd.IntN(11)]
}

// TestThresholdIsNeverExceeded starts and ends attempts in any order and checks, against a count of its own, that
// failures in a row plus attempts in flight never pass the threshold, which is why nothing is in flight when it opens.
func TestThresholdIsNeverExceeded(t *testing.T) {
	for seed := range uint64(1000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := anyRules(rnd)
		b := s.Restore(Record{Window: rnd.IntN(20)})
		var inFlight []Permit
		failures, opened := 0, false
		for range 200 {
			if p, ok := b.Allow(); rnd.IntN(2) == 0 && ok {
				inFlight = append(inFlight, p)
			} else {
				p.Done(Abandoned)
			}
			if len(inFlight) > s.Window || len(inFlight)+failures > s.Threshold || opened && len(inFlight) > 0 {
				t.Fatalf("seed %d: %d in flight, %d failures, opened %v, %+v", seed, len(inFlight), failures, opened, s)
			}
			if len(inFlight) == 0 || rnd.IntN(2) == 0 {
				continue
			}
			i, v := rnd.IntN(len(inFlight)), anyVerdict(rnd)
			inFlight[i].Done(v)
			inFlight = append(inFlight[:i], inFlight[i+1:]...)
			switch v {
			case Failed, TimedOut:
				failures++
			case Alive, Slow:
				failures = 0
			}
			_, opened = b.Opened()
			if opened != (failures == s.Threshold) {
				t.Fatalf("seed %d: opened %v after %d failures of %d", seed, opened, failures, s.Threshold)
			}
		}
	}
}

// TestRestoredIsTheSame runs the same attempts through one breaker that is only restored where a turn has to end, and
// through one that goes by JSON to another node whenever nothing is in flight.
func TestRestoredIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(250) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			s := anyRules(rnd)
			stays, moves := s.Restore(Record{}), s.Restore(Record{})
			for range 60 {
				batch(t, rnd, stays, moves)
				stays, moves = nextTurn(t, s, stays, moves, rnd.IntN(2) == 0)
				time.Sleep(time.Duration(rnd.Int64N(int64(5 * time.Hour))))
			}
		}
	})
}

// batch makes a few attempts on both breakers at once, ends them in any order and compares the two after each step.
func batch(t *testing.T, rnd *rand.Rand, one, two *Breaker) {
	t.Helper()
	var permits [][2]Permit
	for range 1 + rnd.IntN(6) {
		p, ok := one.Allow()
		q, ok2 := two.Allow()
		if ok != ok2 {
			t.Fatalf("allowed %v and %v", ok, ok2)
		}
		permits = append(permits, [2]Permit{p, q})
	}
	rnd.Shuffle(len(permits), func(i, j int) { permits[i], permits[j] = permits[j], permits[i] })
	for _, p := range permits {
		v := anyVerdict(rnd)
		p[0].Done(v)
		p[1].Done(v)
		if r1, r2 := one.Record(), two.Record(); !reflect.DeepEqual(r1, r2) || one.Limit() != two.Limit() {
			t.Fatalf("after %v: limits %d and %d, records:\n%s", v, one.Limit(), two.Limit(), cmp.Diff(r1, r2))
		}
		w1, o1 := one.Opened()
		if w2, o2 := two.Opened(); w1 != w2 || o1 != o2 {
			t.Fatalf("opened %v %v and %v %v", w1, o1, w2, o2)
		}
	}
}

// nextTurn restarts both turns after a breaker opened, which ends a turn; otherwise, if move is set, only the second.
func nextTurn(t *testing.T, s Settings, one, two *Breaker, move bool) (*Breaker, *Breaker) {
	t.Helper()
	if _, opened := one.Opened(); opened {
		return s.Restore(one.Record()), s.Restore(overJSON(t, two.Record()))
	}
	if move {
		two = s.Restore(overJSON(t, two.Record()))
	}
	return one, two
}

func overJSON(t *testing.T, r Record) (back Record) {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// FuzzRestore checks that no record and no settings exclude a host: an attempt is always allowed, one success always
// brings the breaker to closed, and failures always to open.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{}`), 10, 8, 7)
	f.Add([]byte(`{"state":1,"failures":12,"trips":3,"window":8,"days":[20000,20001],"failed":true}`), 10, 8, 7)
	f.Add([]byte(`{"failures":12,"window":-3}`), 5, 1, -1)
	f.Add([]byte(`{}`), 0, 0, 0)
	f.Add([]byte(`{"state":9,"failures":-1,"trips":-1}`), 0, 0, 0)
	f.Fuzz(func(t *testing.T, data []byte, threshold, window, days int) {
		var r Record
		if json.Unmarshal(data, &r) != nil {
			return
		}
		s := Settings{Threshold: threshold, Window: window, UnavailableDays: days, CoolOff: time.Minute, CoolOffMax: time.Hour}
		b := s.Restore(r)
		if n := b.Limit(); n < 1 || n > max(1, threshold) || n > max(1, window) {
			t.Errorf("Limit() = %d", n)
		}
		attempt(t, b, Alive)
		if got := b.Record(); got.State != Closed || got.Failures != 0 || got.Trips != 0 || got.Days != nil {
			t.Errorf("after a success: %+v", got)
		}
		b = s.Restore(r)
		for range min(1000, max(1, threshold)) {
			if p, ok := b.Allow(); ok {
				p.Done(Failed)
			}
		}
		if wait, yes := b.Opened(); threshold <= 1000 && (!yes || wait < time.Minute) {
			t.Errorf("after failures: open %v, waits %v", yes, wait)
		}
		if got := b.Record().FailureDays(); got > max(0, days) {
			t.Errorf("%d days kept", got)
		}
	})
}
