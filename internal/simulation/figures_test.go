package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// figures are the summary of a run.
type figures struct {
	requests   map[kind]int
	hosts      map[kind]int
	deadByDay  []int // requests to hosts that are dead from the beginning
	dead       []int // requests to each of them
	received   int
	repeats    int // deliveries that arrived again
	lost       int // attempts whose results never became durable
	late       int // settlements refused
	duplicates int
	superseded int // Creates that a tombstone ended, and dead letters that it kept from being retried
	delays     []time.Duration
	recoveries []time.Duration
	goroutines int
	backlog    int
	steps      int
}

func (f *figures) init() { f.requests, f.hosts = map[kind]int{}, map[kind]int{} }

func (f *figures) request(h *host, at time.Duration) {
	f.requests[h.kind]++
	if h.kind != dead {
		return
	}
	for day := int(at / (24 * time.Hour)); len(f.deadByDay) <= day; {
		f.deadByDay = append(f.deadByDay, 0)
	}
	f.deadByDay[at/(24*time.Hour)]++
}

func (f *figures) arrived(p *pair) {
	f.received++
	if p.host.kind == healthy && p.served() && overlap(p.host.holds, p.accepted, p.arrived) == 0 && p.revived.IsZero() {
		f.delays = append(f.delays, p.arrived.Sub(p.accepted))
	}
}

// at returns the value below which a share of the values is.
func at[T cmp.Ordered](vs []T, share float64) (v T) {
	if len(vs) == 0 {
		return v
	}
	vs = slices.Clone(vs)
	slices.Sort(vs)
	return vs[min(len(vs)-1, int(share*float64(len(vs))))]
}

func mean(ds []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range ds {
		sum += d
	}
	return sum / time.Duration(max(1, len(ds)))
}

func (f *figures) String() string {
	var b strings.Builder
	total := 0
	for _, n := range f.requests {
		total += n
	}
	fmt.Fprintf(&b, "%d steps, %d requests, %d arrived (%d again), %.2f requests for each; %d results lost, %d settled too late\n",
		f.steps, total, f.received, f.repeats, float64(total)/float64(max(1, f.received)), f.lost, f.late)
	fmt.Fprintf(&b, "%d duplicates, %d superseded\n", f.duplicates, f.superseded)
	fmt.Fprintf(&b, "requests by kind of host: %v\n", f.requests)
	fmt.Fprintf(&b, "requests to a dead host: median %d, most %d; by day %v\n", at(f.dead, 0.5), at(f.dead, 1), f.deadByDay)
	fmt.Fprintf(&b, "time to the first success of a host that recovered: median %s, p99 %s, of %d\n",
		at(f.recoveries, 0.5).Round(time.Second), at(f.recoveries, 0.99).Round(time.Second), len(f.recoveries))
	fmt.Fprintf(&b, "delay to healthy hosts: mean %s, median %s, p99 %s\n", mean(f.delays).Round(time.Millisecond),
		at(f.delays, 0.5).Round(time.Millisecond), at(f.delays, 0.99).Round(time.Millisecond))
	fmt.Fprintf(&b, "most pending %d, most goroutines %d", f.backlog, f.goroutines)
	return b.String()
}
