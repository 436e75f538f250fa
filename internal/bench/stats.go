package bench

import (
	"math"
	"slices"
	"time"
)

// percentile returns the value that p percent of the values don't exceed (nearest rank), or NaN without values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median returns the middle of the values or, of an even number, the mean of the two in the middle. It is NaN without
// values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// figures are measured values by name, such as "deliveries_per_second".
type figures map[string]float64

// ratio sets name to a/b, unless that is no number.
func (f figures) ratio(name string, a, b float64) {
	if r := a / b; !math.IsNaN(r) && !math.IsInf(r, 0) {
		f[name] = r
	}
}

// medians returns the median of each figure over the runs that have it.
func medians(runs []figures) figures {
	all := map[string][]float64{}
	for _, run := range runs {
		for name, value := range run {
			all[name] = append(all[name], value)
		}
	}
	m := figures{}
	for name, values := range all {
		m[name] = median(values)
	}
	return m
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// millis is d in milliseconds.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
