package breaker

import (
	"slices"
	"time"
)

const day = 24 * time.Hour

// State is the state of a host's circuit breaker.
type State uint8

// The states.
const (
	Closed   State = iota // attempts are made
	Open                  // none is made until the cool-off ends
	HalfOpen              // one probe at a time is made
)

// String returns closed, open or half_open.
func (s State) String() string { return [...]string{"closed", "open", "half_open"}[min(s, HalfOpen)] }

// Record is the durable part of a host's breaker: it outlives turns and restarts and moves between nodes. The holder of
// the host's lease restores a Breaker from it and settles it again. The zero Record is that of a host that was never
// reached. Records share the memory of Days, which therefore must not be modified.
type Record struct {
	State    State `json:"state,omitempty"`
	Failures int   `json:"failures,omitempty"` // consecutive host failures
	Trips    int   `json:"trips,omitempty"`    // how often it opened since the last success
	Window   int   `json:"window,omitempty"`   // attempts that may be in flight at once; 0 is 1
	// Days are the distinct UTC days (as days since the Unix epoch) with failures and no success since, the latest
	// Settings.UnavailableDays of them.
	Days []int32 `json:"days,omitempty"`
	// Failed reports whether the last attempt failed.
	Failed bool `json:"failed,omitempty"`
	// Slow is the number of seconds that recent slow answers held a slot, see Breaker.Took. 0 is a host that answers quickly.
	Slow int `json:"slow,omitempty"`
	// LastSuccess is when the host last answered as alive, zero if it never did.
	LastSuccess time.Time `json:"last_success,omitzero"`
	// OpenedAt is when the breaker last opened, zero while it is closed.
	OpenedAt time.Time `json:"opened_at,omitzero"`
}

// Suspect reports whether the host's last attempt failed, its recent answers took seconds, or it was never reached: such
// hosts share at most half of a node's slots.
func (r Record) Suspect() bool { return r.Failed || r.Slow > 0 || r.LastSuccess.IsZero() }

// Forgiven returns the record as if the host had never failed.
func (r Record) Forgiven() Record { return Record{Window: 1, LastSuccess: r.LastSuccess} }

// Shifted returns the record with its times moved by d, and its days by d rounded to whole days.
func (r Record) Shifted(d time.Duration) Record {
	for _, at := range []*time.Time{&r.LastSuccess, &r.OpenedAt} {
		if !at.IsZero() {
			*at = at.Add(d)
		}
	}
	if days := int32(d.Round(day) / day); days != 0 {
		r.Days = slices.Clone(r.Days)
		for i := range r.Days {
			r.Days[i] += days
		}
	}
	return r
}

// FailureDays returns on how many distinct UTC days the host failed without a success since, as far as they are kept.
func (r Record) FailureDays() int { return len(r.Days) }

// FailedOn returns the beginnings of these days, the earliest first.
func (r Record) FailedOn() []time.Time {
	days := make([]time.Time, len(r.Days))
	for i, n := range r.Days {
		days[i] = time.Unix(int64(n)*int64(day/time.Second), 0).UTC()
	}
	return days
}

// withDay returns days with the UTC day of t added, if it is new, and cut to the latest keep of them. It never writes
// to days, because other Records may share it.
func withDay(days []int32, t time.Time, keep int) []int32 {
	n := int32(t.Unix() / int64(day/time.Second))
	if !slices.Contains(days, n) {
		days = append(slices.Clip(days), n)
	}
	return days[max(0, len(days)-max(0, keep)):]
}
