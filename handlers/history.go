package handlers

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

const (
	historyMinutes = 60   // by default
	mostMinutes    = 1500 // 25 hours
	fineMinutes    = 180  // up to which there is a step for each minute
	coarseStep     = 10   // minutes in a step where there are more
)

// pastView shows the recent past of the store, for charts.
type pastView struct {
	StepSeconds int        `json:"step_seconds" doc:"how long a step is: 60, or 600 for more than 180 minutes"`
	Items       []stepView `json:"items" nullable:"false" doc:"one for each step, the oldest first"`
}

// stepView shows what happened in one step.
type stepView struct {
	At         string           `json:"at" format:"date-time" doc:"when it began"`
	Activities int64            `json:"activities" doc:"accepted"`
	Accepted   int64            `json:"accepted" doc:"deliveries"`
	Delivered  int64            `json:"delivered" doc:"deliveries"`
	Dead       int64            `json:"dead" doc:"deliveries that became dead letters"`
	Died       map[string]int64 `json:"died" nullable:"false" doc:"these by reason; reasons without any are left out"`
	Attempts   map[string]int64 `json:"attempts" nullable:"false" doc:"attempts that ended, by outcome"`
	Pending    int64            `json:"pending" doc:"deliveries, at the end of the step"`
	Hosts      map[string]int64 `json:"hosts" nullable:"false" doc:"how many hosts were in these states, at the end of the step"`

	Latency *latencyView `json:"latency_ms,omitempty" doc:"from the 202 to the 2xx; absent if nothing was delivered"`
}

// latencyView shows quantiles, in ms.
type latencyView struct {
	P50 int64 `json:"p50"`
	P95 int64 `json:"p95"`
}

// shownStates are the states of hosts whose numbers are in the history.
var shownStates = []queue.HostState{queue.HostRefusing, queue.HostOpen, queue.HostUnavailable}

// statsHistory is GET /v1/stats/history.
func (s *server) statsHistory(r *http.Request, _ []byte) (reply, error) {
	q := queryOf(r)
	n := q.number("minutes", historyMinutes, mostMinutes)
	if q.err != nil {
		return reply{}, q.err
	}
	step := 1
	if n > fineMinutes {
		step = coarseStep
		n = (n + step - 1) / step * step
	}
	before := int(queue.LevelsHold / time.Minute) // for the levels that the first step begins with
	minutes, err := s.Queue.Minutes(r.Context(), n+before)
	if err != nil {
		return reply{}, err
	}
	return reply{Status: http.StatusOK, Body: pastOf(minutes, before, step)}, nil
}

// pastOf makes steps of minutes, of which the first ones only say how the levels were before.
func pastOf(minutes []queue.Minute, before, step int) pastView {
	v := pastView{StepSeconds: 60 * step, Items: []stepView{}}
	levels := levels{}
	for _, m := range minutes[:before] {
		levels.take(m.Numbers)
	}
	for part := range slices.Chunk(minutes[before:], step) {
		v.Items = append(v.Items, levels.step(part))
	}
	return v
}

// levels are the levels that were read last.
type levels map[string]int64

// take takes in the levels of a minute, and returns how many dead letters were made since those before, by reason.
func (l levels) take(numbers map[string]int64) (died map[string]int64) {
	died = map[string]int64{}
	for name, n := range numbers {
		reason, isDied := strings.CutPrefix(name, queue.LevelDied)
		if isDied && len(l) > 0 && n > l[name] {
			died[reason] = n - l[name]
		}
	}
	for name, n := range numbers {
		if isLevel(name) {
			l[name] = n
		}
	}
	return died
}

func isLevel(name string) bool {
	return name == queue.LevelPending || strings.HasPrefix(name, queue.LevelDied) ||
		strings.HasPrefix(name, queue.LevelHosts)
}

// step adds up the minutes of a step.
func (l levels) step(minutes []queue.Minute) stepView {
	sums := map[string]int64{}
	died := map[string]int64{}
	dead := int64(0)
	for _, m := range minutes {
		for name, n := range m.Numbers {
			sums[name] += n
		}
		for reason, n := range l.take(m.Numbers) {
			died[reason] += n
			dead += n
		}
	}
	v := stepView{
		At: stamp(minutes[0].At), Activities: sums[queue.SumActivities], Accepted: sums[queue.SumDeliveries],
		Delivered: sums[queue.SumAttempts+"delivered"], Dead: dead, Died: died, Attempts: map[string]int64{},
		Pending: l[queue.LevelPending], Hosts: map[string]int64{}, Latency: latencyOf(sums),
	}
	for _, o := range outcomes {
		v.Attempts[string(o)] = sums[queue.SumAttempts+string(o)]
	}
	for _, state := range shownStates {
		v.Hosts[string(state)] = l[queue.LevelHosts+string(state)]
	}
	return v
}

// latencyOf returns the quantiles of what arrived, nil if nothing did.
func latencyOf(sums map[string]int64) *latencyView {
	var buckets [len(queue.LatencyBounds) + 1]int64
	all := int64(0)
	for i := range buckets {
		buckets[i] = sums[queue.SumArrived(i)]
		all += buckets[i]
	}
	if all == 0 {
		return nil
	}
	return &latencyView{P50: quantile(buckets[:], .5*float64(all)), P95: quantile(buckets[:], .95*float64(all))}
}

// quantile returns within how many ms so many arrived, if they are spread evenly over each bucket. Of those in the last
// bucket, which has no end, it only knows where that begins.
func quantile(buckets []int64, rank float64) int64 {
	from := 0.
	for i, to := range queue.LatencyBounds {
		n := float64(buckets[i])
		if n > 0 && rank <= n {
			return int64(from + (float64(to.Milliseconds())-from)*rank/n)
		}
		rank -= n
		from = float64(to.Milliseconds())
	}
	return int64(from)
}
