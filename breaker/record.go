package breaker

import (
	"slices"
	"time"
)

// State is the state of a host's circuit breaker.
type State uint8

// The states.
const (
	Closed   State = iota // attempts are made
	Open                  // none is made until the cool-off ends
	HalfOpen              // one probe at a time is made
)

// String is the state in words: closed, open or half_open.
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	default:
		return "half_open"
	}
}

// Record is what lasts of a host's breaker between turns, across restarts and between nodes: a compact value that the
// holder of the host's lease restores a Breaker from and settles again. The zero Record is that of a host never
// reached. Records share the memory of Days, which therefore must not be modified.
type Record struct {
	State    State `json:"state,omitempty"`
	Failures int   `json:"failures,omitempty"` // consecutive host failures
	Trips    int   `json:"trips,omitempty"`    // how often it opened since the last success
	Window   int   `json:"window,omitempty"`   // attempts that may be in flight at once; 0 is 1
	// Days are the distinct UTC days (as days since the Unix epoch) with failures and no success since, the latest
	// Settings.UnavailableDays of them.
	Days []int32 `json:"days,omitempty"`
	// Failed tells that the last attempt failed.
	Failed bool `json:"failed,omitempty"`
	// LastSuccess is when the host last answered as alive, zero if it never did.
	LastSuccess time.Time `json:"last_success,omitzero"`
	// OpenedAt is when the breaker last opened, zero while it is closed.
	OpenedAt time.Time `json:"opened_at,omitzero"`
}

// Suspect tells that the host's last attempt failed or that it was never reached: such hosts share at most half of a
// node's slots.
func (r Record) Suspect() bool { return r.Failed || r.LastSuccess.IsZero() }

// Forgiven is the record as if the host had never failed.
func (r Record) Forgiven() Record { return Record{Window: 1, LastSuccess: r.LastSuccess} }

// FailureDays is on how many distinct UTC days the host failed without a success since, as far as they are kept.
func (r Record) FailureDays() int { return len(r.Days) }

// withDay returns days with the UTC day of t added, if it is new, and cut to the latest keep of them. It never writes
// to days, because other Records may share it.
func withDay(days []int32, t time.Time, keep int) []int32 {
	day := int32(t.Unix() / int64(24*time.Hour/time.Second))
	if !slices.Contains(days, day) {
		days = append(slices.Clip(days), day)
	}
	return days[max(0, len(days)-max(0, keep)):]
}
