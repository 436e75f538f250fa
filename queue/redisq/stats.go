package redisq

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// Stats implements queue.Watching.
func (s *reader) Stats(ctx context.Context) (st queue.Stats, err error) {
	defer wrap(&err, "stats")
	st = queue.Stats{Hosts: map[queue.HostState]int{}, Died: map[queue.Reason]int64{}}
	commands := make([]rueidis.Completed, 0, 2*len(s.parts))
	for _, p := range s.parts {
		commands = append(commands, s.client.B().Hgetall().Key(p.Key(rediskeys.Stats)).Build(),
			s.client.B().Zrange().Key(p.Key(rediskeys.Pending)).Min("0").Max("0").Withscores().Build())
	}
	now, err := s.wallTime(ctx)
	if err != nil {
		return st, err
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return st, err
	}
	for i, p := range s.parts {
		totals, err := answers[2*i].AsIntMap()
		if err != nil {
			return st, err
		}
		p.noteLag(totals["lag"])
		addTotals(&st, totals)
		addRates(&st.PerSecond, totals, p.lag.stored(now))
		oldest, err := answers[2*i+1].AsZScores()
		if err != nil {
			return st, err
		}
		if len(oldest) > 0 {
			if at := p.lag.shown(int64(oldest[0].Score)); st.OldestPendingAt.IsZero() || at.Before(st.OldestPendingAt) {
				st.OldestPendingAt = at
			}
		}
	}
	return st, nil
}

func addTotals(st *queue.Stats, totals map[string]int64) {
	st.Activities += int(totals["activities"])
	st.Pending += int(totals["pending"])
	st.Dead += int(totals["dead"])
	st.Delivered += totals["delivered"]
	st.Dropped += totals["dropped"]
	for _, state := range queue.HostStates {
		if n := int(totals[string(state)]); n != 0 {
			st.Hosts[state] += n
		}
	}
	for kind := range st.Answers {
		st.Answers[kind] += int(totals["answered:"+strconv.Itoa(kind)])
	}
	for name, n := range totals {
		if reason, ok := strings.CutPrefix(name, "died:"); ok && n > 0 {
			st.Died[queue.Reason(reason)] += n
		}
	}
}

// addRates adds what a partition did in the last minute.
func addRates(r *queue.Rates, totals map[string]int64, now int64) {
	for name, sum := range map[string]*float64{"accepted": &r.Accepted, "delivered": &r.Delivered, "dead": &r.Dead} {
		rate := queue.Rate{Minute: totals["minute"], This: totals["minute_"+name], Before: totals["before_"+name]}
		*sum += rate.PerSecond(now)
	}
}
