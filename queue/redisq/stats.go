package redisq

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// Stats implements queue.Watching.
func (s *reader) Stats(ctx context.Context) (st queue.Stats, err error) {
	defer wrap(&err, "stats")
	st = queue.Stats{Hosts: map[queue.HostState]int{}, Died: map[queue.Reason]int64{}}
	now, err := s.wallTime(ctx)
	if err != nil {
		return st, err
	}
	var commands []rueidis.Completed
	for _, p := range s.parts {
		commands = append(commands, s.client.B().Hgetall().Key(p.Key(rediskeys.Stats)).Build(),
			s.client.B().Zrange().Key(p.Key(rediskeys.Pending)).Min("0").Max("0").Withscores().Build())
		commands = append(commands, p.oldestDue(now)...)
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return st, err
	}
	for each := len(answers) / len(s.parts); len(answers) > 0; answers = answers[each:] {
		p := s.parts[len(s.parts)-len(answers)/each]
		totals, err := answers[0].AsIntMap()
		if err != nil {
			return st, err
		}
		p.noteLag(totals["lag"])
		addTotals(&st, totals)
		addRates(&st.PerSecond, totals, p.lag.stored(now))
		if err := p.oldest(&st.OldestPendingAt, answers[1:2]); err != nil {
			return st, err
		}
		if err := p.oldest(&st.OldestDueAt, answers[2:each]); err != nil {
			return st, err
		}
	}
	return st, nil
}

// oldestDue returns commands for the healthy lanes that are due for longest: of those that became due as time passed, and of
// those that were due at once, whose times are negative.
func (p *partition) oldestDue(now time.Time) (commands []rueidis.Completed) {
	for _, kind := range []rediskeys.Kind{rediskeys.Due0, rediskeys.Due1, rediskeys.Due2} {
		due := strconv.FormatInt(p.lag.stored(now), 10)
		commands = append(commands,
			p.client.B().Zrangebyscore().Key(p.Key(kind)).Min("(0").Max(due).Withscores().Limit(0, 1).Build(),
			p.client.B().Zrevrangebyscore().Key(p.Key(kind)).Max("(0").Min("-inf").Withscores().Limit(0, 1).Build())
	}
	return commands
}

// oldest makes at the oldest of the times that answers have as scores, if one is older.
func (p *partition) oldest(at *time.Time, answers []rueidis.RedisMessage) error {
	for _, answer := range answers {
		found, err := answer.AsZScores()
		if err != nil {
			return err
		}
		for _, member := range found {
			if t := p.lag.shown(int64(math.Abs(member.Score))); at.IsZero() || t.Before(*at) {
				*at = t
			}
		}
	}
	return nil
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
