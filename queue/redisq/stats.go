package redisq

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// Stats implements queue.Watching.
func (s *Store) Stats(ctx context.Context) (queue.Stats, error) {
	st, err := s.stats(ctx)
	if err != nil {
		return st, fmt.Errorf("stats: %w", err)
	}
	return st, nil
}

func (s *Store) stats(ctx context.Context) (queue.Stats, error) {
	st := queue.Stats{Hosts: map[queue.HostState]int{}, Died: map[queue.Reason]int64{}}
	commands := make([]rueidis.Completed, 0, 2*len(s.parts))
	for _, p := range s.parts {
		commands = append(commands, s.client.B().Hgetall().Key(p.Key("stats")).Build(),
			s.client.B().Zrange().Key(p.Key("pending")).Min("0").Max("0").Withscores().Build())
	}
	now, err := s.now(ctx)
	if err != nil {
		return st, err
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return st, err
	}
	for i := range s.parts {
		totals, err := answers[2*i].AsIntMap()
		if err != nil {
			return st, err
		}
		addTotals(&st, totals)
		addRates(&st.PerSecond, totals, now)
		oldest, err := answers[2*i+1].AsZScores()
		if err != nil {
			return st, err
		}
		if len(oldest) > 0 {
			if at := timeOf(int64(oldest[0].Score)); st.OldestPendingAt.IsZero() || at.Before(st.OldestPendingAt) {
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
	for _, state := range hostStates {
		if n := int(totals[string(state)]); n != 0 {
			st.Hosts[state] += n
		}
	}
	for name, n := range totals {
		if reason, ok := strings.CutPrefix(name, "died:"); ok && n > 0 {
			st.Died[queue.Reason(reason)] += n
		}
	}
}

// addRates adds what a partition did in the last minute: all of this minute, and of the minute before as much as is not
// over for a minute.
func addRates(r *queue.Rates, totals map[string]int64, now int64) {
	const minute = int64(time.Minute / time.Millisecond)
	age := now - totals["minute"]*minute // of the counts
	share := func(of int64) float64 { return float64(max(0, min(minute, of))) / float64(minute) }
	for name, rate := range map[string]*float64{"accepted": &r.Accepted, "delivered": &r.Delivered, "dead": &r.Dead} {
		this, before := float64(totals["minute_"+name]), float64(totals["before_"+name])
		*rate += (this*share(2*minute-age) + before*share(minute-age)) / time.Minute.Seconds()
	}
}
