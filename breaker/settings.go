package breaker

import (
	"math/rand/v2"
	"time"
)

// Settings are a fleet's rules for all its hosts. They may change between turns: a Record fits any of them.
type Settings struct {
	// Threshold is the number of consecutive host failures that open the breaker. Less than 1 counts as 1.
	Threshold int
	// CoolOff is how long it stays open the first time. It doubles at each failed probe up to CoolOffMax, and each
	// time up to a tenth is added at random. A CoolOffMax below CoolOff ends the doubling before it begins.
	CoolOff, CoolOffMax time.Duration
	// Window is the maximum of attempts in flight to one host. Less than 1 counts as 1.
	Window int
	// UnavailableDays is the number of distinct UTC days with failures, and no success between them, after which a host is
	// unavailable. 0 is never.
	UnavailableDays int
	// Jitter returns random numbers in [0,1). It must be safe for concurrent use; nil is math/rand/v2's.
	Jitter func() float64
	// Now returns the fleet's time, by which Records are dated and days are counted: a node whose clock is wrong counts the
	// same days as the others. It must be safe for concurrent use; nil is time.Now.
	Now func() time.Time
}

// Unavailable reports whether the host failed on so many days, without a success, that it counts as unavailable.
func (s Settings) Unavailable(r Record) bool {
	return s.UnavailableDays > 0 && r.FailureDays() >= s.UnavailableDays
}

// Restore makes the Breaker for one turn of the holder of the host's lease. If the record is not closed, the next attempt
// is the probe: a lane has no turn before its wait ends, so the cool-off has passed.
//
// A host without failures costs less than a microsecond to restore, any other some tens.
func (s Settings) Restore(r Record) *Breaker {
	s.Threshold = max(1, s.Threshold)
	s.Window = max(1, s.Window)
	b := &Breaker{settings: s, record: r}
	b.machine = newMachine(r, s.Threshold, b.stateChanged)
	return b
}

// coolOff returns how long the breaker stays open when it opens for the trip-th time in a row, counted from 1. The random
// part never reaches the next gap, so the gaps grow strictly until one is CoolOffMax.
func (s Settings) coolOff(trip int) time.Duration {
	gap := s.CoolOff
	for n := 1; n < trip && gap < s.CoolOffMax; n++ {
		gap = min(2*gap, s.CoolOffMax)
	}
	spread := gap / 10
	if gap < s.CoolOffMax {
		spread = min(spread, s.CoolOffMax-gap)
	}
	return gap + time.Duration(s.jitter()*float64(spread))
}

func (s Settings) jitter() float64 {
	if s.Jitter == nil {
		return rand.Float64()
	}
	return s.Jitter()
}
