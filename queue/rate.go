package queue

const minute = 60_000 // in ms

// Rate counts what happens in this minute and in the one before, by the caller's clock in ms. Its zero value is ready.
type Rate struct{ Minute, This, Before int64 }

// Add counts n more. Where the clock was set back, they count for the latest minute.
func (r *Rate) Add(ms, n int64) {
	switch m := ms / minute; {
	case m > r.Minute+1:
		*r = Rate{Minute: m, This: n}
	case m == r.Minute+1:
		*r = Rate{Minute: m, This: n, Before: r.This}
	default:
		r.This += n
	}
}

// PerSecond returns the mean of the last minute: all of this minute, and as much of the one before as makes it a whole one.
func (r *Rate) PerSecond(ms int64) float64 {
	age := float64(ms-r.Minute*minute) / minute // of this minute, in minutes
	share := func(of float64) float64 { return max(0, min(1, of)) }
	return (float64(r.This)*share(2-age) + float64(r.Before)*share(1-age)) / 60
}
