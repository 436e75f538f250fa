package breaker

import (
	"encoding/json"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func TestFailureDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rules
		s.Threshold, s.UnavailableDays = 1000, 3
		r := Record{}
		fail := func(wantDays int, unavailable bool) {
			t.Helper()
			b := s.Restore(r)
			attempt(t, b, Failed)
			r = b.Record()
			if got := r.FailureDays(); got != wantDays || s.Unavailable(r) != unavailable {
				t.Errorf("at %v: %d failure days, unavailable %v, want %d, %v",
					time.Now().UTC(), got, s.Unavailable(r), wantDays, unavailable)
			}
		}
		time.Sleep(24*time.Hour - time.Second) // a second before midnight UTC
		fail(1, false)
		fail(1, false)
		time.Sleep(time.Second) // midnight
		fail(2, false)
		time.Sleep(24*time.Hour - 1)
		fail(2, false)
		time.Sleep(10 * 24 * time.Hour) // days without an attempt don't count
		if got := s.Restore(r).Record().FailureDays(); got != 2 {
			t.Errorf("waiting made it %d failure days", got)
		}
		fail(3, true)
		time.Sleep(24 * time.Hour)
		kept := r
		fail(3, true) // bounded
		if kept.Days[0] == r.Days[0] {
			t.Error("the oldest day was kept, not the latest")
		}
		if kept.Days[0] != 10957 {
			t.Errorf("an earlier record changed: %v", kept.Days)
		}
		s.UnavailableDays = 0
		if s.Unavailable(r) {
			t.Error("unavailable although the setting is off")
		}
		s.UnavailableDays = 3
		b := s.Restore(r)
		attempt(t, b, Slow)
		if got := b.Record().FailureDays(); got != 0 || s.Unavailable(b.Record()) {
			t.Errorf("%d failure days after a success", got)
		}
	})
}

func TestRecordsDoNotShareWrites(t *testing.T) {
	days := make([]int32, 1, 8) // room to append in place
	r := Record{Days: days}
	one, other := rules.Restore(r), rules.Restore(r)
	attempt(t, one, Failed)
	if got := days[:2][1]; got != 0 {
		t.Errorf("wrote %d into the caller's memory", got)
	}
	if got := other.Record().FailureDays(); got != 1 {
		t.Errorf("the other breaker has %d days", got)
	}
}

func TestRecordJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		r    Record
		want string
	}{
		{Record{}, `{}`},
		{Record{Window: 8, LastSuccess: at}, `{"window":8,"last_success":"2026-01-02T03:04:05Z"}`},
		{Record{State: Open, Failures: 3, Trips: 1, Window: 1, Days: []int32{5, 6}, Failed: true, OpenedAt: at},
			`{"state":1,"failures":3,"trips":1,"window":1,"days":[5,6],"failed":true,"opened_at":"2026-01-02T03:04:05Z"}`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.r)
		if err != nil || string(got) != tt.want {
			t.Errorf("got %s, %v, want %s", got, err, tt.want)
		}
	}
}

// TestTimesSurviveJSON runs on the real clock, whose times carry a monotonic reading until it is cut off.
func TestTimesSurviveJSON(t *testing.T) {
	b := rules.Restore(Record{})
	for _, v := range []Verdict{Alive, Failed, Failed, Failed} {
		attempt(t, b, v)
	}
	if r := b.Record(); r.LastSuccess.IsZero() || r.OpenedAt.IsZero() || !reflect.DeepEqual(r, overJSON(t, r)) {
		t.Errorf("%+v came back as %+v", r, overJSON(t, r))
	}
}

func TestSuspect(t *testing.T) {
	b := rules.Restore(Record{})
	if !b.Record().Suspect() {
		t.Error("a host never reached is not suspect")
	}
	attempt(t, b, Alive)
	if b.Record().Suspect() {
		t.Error("a host that answered is suspect")
	}
	attempt(t, b, Failed)
	if !b.Record().Suspect() {
		t.Error("a host that failed is not suspect")
	}
}

func TestFailedOn(t *testing.T) {
	day := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	s := rules
	at := day.Add(23*time.Hour + 59*time.Minute)
	s.Now = func() time.Time { return at }
	b := s.Restore(Record{})
	for range 3 {
		attempt(t, b, Failed)
		at = at.Add(30 * time.Second)
	}
	if got, want := b.Record().FailedOn(), []time.Time{day, day.AddDate(0, 0, 1)}; !reflect.DeepEqual(got, want) {
		t.Errorf("failed on %v, want %v", got, want)
	}
}

func TestStateString(t *testing.T) {
	for s, want := range map[State]string{Closed: "closed", Open: "open", HalfOpen: "half_open"} {
		if got := s.String(); got != want {
			t.Errorf("State(%d) = %q, want %q", s, got, want)
		}
	}
}

func TestForgiven(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	r := Record{
		State: Open, Failures: 12, Trips: 3, Window: 4, Days: []int32{1, 2}, Failed: true, LastSuccess: at, OpenedAt: at.Add(time.Hour),
	}
	if want := (Record{Window: 1, LastSuccess: at}); !reflect.DeepEqual(r.Forgiven(), want) {
		t.Errorf("forgiven: %+v, want %+v", r.Forgiven(), want)
	}
}
