package queue

import (
	"context"
	"strconv"
	"time"
)

// Recent is the recent past of the whole store, minute by minute. It is for charts, not for accounts: what a node
// counted in its last minute is lost if the node dies, and a call that is repeated because its answer was lost may
// count twice.
//
// A minute is one of UTC by the store's wall clock. Unlike all other times of a store, minutes do not move with that
// clock when it jumps, and a stop leaves a gap. Moving leaves them behind.
type Recent interface {
	// AddMinute adds what a node counted to the minute in which the middle of Counted.Took lies, and returns the time
	// until the next minute begins. A node calls it shortly after each minute, and when it stops.
	AddMinute(ctx context.Context, c Counted) (next time.Duration, err error)
	// Minutes returns the last n minutes (1 to MinutesKept) that ended at least MinuteGrace ago, the oldest first.
	// Those to which nothing was added have no numbers.
	Minutes(ctx context.Context, n int) ([]Minute, error)
}

const (
	// MinutesKept is how many minutes a store keeps.
	MinutesKept = 26 * 60
	// MinuteGrace is how long nodes have to add what they counted in a minute.
	MinuteGrace = 5 * time.Second
)

// Counted is what a node counted. A store does not read names; no name is in both maps.
type Counted struct {
	Took   time.Duration    // over how long it was counted, until now
	Sums   map[string]int64 // are added to what other nodes counted in the minute
	Levels map[string]int64 // replace what any node wrote in the minute
}

// Minute is what all nodes counted in a minute.
type Minute struct {
	At      time.Time        // when it began
	Numbers map[string]int64 // sums and levels
}

// The names of sums and levels. A node that counted nothing, and knows the levels that it wrote last to be true, need
// not write them for LevelsHold; so a minute without levels has those of the one before.
const (
	SumActivities = "activities" // accepted
	SumDeliveries = "deliveries" // accepted
	SumAttempts   = "attempts:"  // with an outcome: attempts that ended
	sumArrived    = "arrived:"   // deliveries that arrived, see SumArrived

	LevelPending = "pending" // deliveries
	LevelDied    = "died:"   // with a Reason: dead letters made since the store was made
	LevelHosts   = "hosts:"  // with a HostState: how many hosts are in it
)

// LevelsHold is how long levels hold that are not written again.
const LevelsHold = 10 * time.Minute

// LatencyBounds are the upper bounds of the buckets in which arrived deliveries are counted, by the time from the 202
// for the activity to the 2xx of the inbox. Behind the last one is a bucket for longer times.
var LatencyBounds = [...]time.Duration{
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 5 * time.Minute, 30 * time.Minute,
	time.Hour, 4 * time.Hour, 12 * time.Hour, 24 * time.Hour, 72 * time.Hour,
}

// SumArrived returns the name of the sum of the arrived deliveries in a bucket, from 0 to len(LatencyBounds).
func SumArrived(bucket int) string {
	if bucket == len(LatencyBounds) {
		return sumArrived + "later"
	}
	return sumArrived + strconv.FormatInt(LatencyBounds[bucket].Milliseconds(), 10)
}

// Minute returns when the minute began to which what was counted belongs, if the wall clock says now.
func (c *Counted) Minute(now time.Time) time.Time { return now.Add(-c.Took / 2).Truncate(time.Minute) }

// NextMinute returns how long after now the next minute begins.
func NextMinute(now time.Time) time.Duration {
	return now.Truncate(time.Minute).Add(time.Minute).Sub(now)
}

// NewMinutes returns the n minutes that Recent.Minutes lists if the wall clock says now, without numbers.
func NewMinutes(now time.Time, n int) []Minute {
	end := now.Add(-MinuteGrace).Truncate(time.Minute)
	minutes := make([]Minute, n)
	for i := range minutes {
		minutes[i].At = end.Add(time.Duration(i-n) * time.Minute)
	}
	return minutes
}
