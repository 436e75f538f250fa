package breaker

import (
	"math/rand/v2"
	"time"
)

// Settings are a fleet's rules for all its hosts. They may change between turns: a Record fits any of them.
type Settings struct {
	// Threshold is how many host failures in a row open the breaker. Less than 1 counts as 1.
	Threshold int
	// CoolOff is how long it stays open the first time. It doubles at each failed probe up to CoolOffMax, and each
	// time up to a tenth is added at random. A CoolOffMax below CoolOff ends the doubling before it begins.
	CoolOff, CoolOffMax time.Duration
	// Window is the most attempts in flight to one host. Less than 1 counts as 1.
	Window int
	// UnavailableDays is on how many distinct UTC days a host has to fail, without a success, to be unavailable. 0 is
	// never.
	UnavailableDays int
	// Jitter gives random numbers in [0,1). It must be safe for concurrent use; nil is math/rand/v2's.
	Jitter func() float64
	// Now tells the time that Records hold and days are counted by: that of the fleet, so that a node whose clock is wrong
	// counts the same days as the others. It must be safe for concurrent use; nil is time.Now.
	Now func() time.Time
}

// Unavailable tells that the host failed on so many days, without a success, that it should be given up.
func (s Settings) Unavailable(r Record) bool {
	return s.UnavailableDays > 0 && r.FailureDays() >= s.UnavailableDays
}

// Restore makes the Breaker for one turn of the holder of the host's lease. A record that is not closed means that the
// cool-off is over, because a lane has no turn before its wait ends: the next attempt is the probe.
//
// A host without failures costs less than a microsecond to restore, any other some tens.
func (s Settings) Restore(r Record) *Breaker {
	s.Threshold, s.Window = max(1, s.Threshold), max(1, s.Window)
	b := &Breaker{settings: s, record: r}
	b.machine = newMachine(r, s.Threshold, b.changed)
	return b
}

// coolOff is how long the breaker stays open the given time (1, 2, …) in a row. The random part never reaches the gap
// that comes next, so the gaps grow strictly until one is CoolOffMax.
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
