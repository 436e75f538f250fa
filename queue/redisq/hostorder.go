package redisq

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// glimpse is what it takes to choose among hosts.
type glimpse struct {
	host    string
	state   queue.HostState
	changed time.Time
	pending int
	oldest  time.Time // the oldest delivery pending, if it is of interest
}

func (g *glimpse) rank(by queue.HostSort) queue.HostRank {
	if by == queue.ByOldest {
		return queue.HostRank{Number: g.oldest.UnixMilli(), Host: g.host}
	}
	return queue.HostRank{Number: -int64(g.pending), Host: g.host}
}

// hostsByOrder lists hosts for which something is pending, not by name. It looks at all of these, some at a time.
func (s *reader) hostsByOrder(ctx context.Context, f queue.HostFilter, p queue.Page) (list queue.List[queue.HostStatus], err error) {
	after, err := queue.ParseHostRank(p.Cursor, f.Sort)
	if err != nil {
		return list, err
	}
	names, err := s.busyHosts(ctx)
	if err != nil {
		return list, err
	}
	query := strings.ToLower(f.Query)
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, query) })
	var ranks []queue.HostRank
	err = s.glance(ctx, names, f.Sort == queue.ByOldest, func(g *glimpse) {
		r := g.rank(f.Sort)
		if g.pending > 0 && (f.State == "" || f.State == g.state) && !g.changed.Before(f.ChangedSince) && after.Compare(r) < 0 {
			ranks = append(ranks, r)
		}
	})
	if err != nil {
		return list, err
	}
	slices.SortFunc(ranks, queue.HostRank.Compare)
	if len(ranks) > p.Limit {
		ranks = ranks[:p.Limit]
		list.Next = ranks[p.Limit-1].Cursor(f.Sort)
	}
	names = names[:0]
	for _, r := range ranks {
		names = append(names, r.Host)
	}
	list.Items, err = s.hostStatuses(ctx, names)
	return list, err
}

// changedSince returns those of the hosts whose state changed at a time or later.
func (s *reader) changedSince(ctx context.Context, names []string, since time.Time) (changed []string, err error) {
	err = s.glance(ctx, names, false, func(g *glimpse) {
		if !g.changed.Before(since) {
			changed = append(changed, g.host)
		}
	})
	slices.Sort(changed)
	return changed, err
}

// glance calls next for those of the hosts that are known, in no order.
func (s *reader) glance(ctx context.Context, hosts []string, byOldest bool, next func(*glimpse)) error {
	keysOf := (*partition).heads
	if byOldest {
		keysOf = (*partition).lanes
	}
	for p, all := range s.byPartition(hosts) {
		for some := range slices.Chunk(all, chunk) {
			var answers []rueidis.RedisMessage
			err := p.run(ctx, script.Glance, keysOf(p, nil, some), append([]string{flag(byOldest)}, some...), &answers)
			if err != nil {
				return err
			}
			for i, m := range answers {
				if m.IsNil() {
					continue
				}
				g := glimpse{host: some[i]}
				var state string
				var changed, oldest int64
				if err := scan(m, &state, &changed, &g.pending, &oldest); err != nil {
					return err
				}
				g.state = queue.HostState(state)
				g.changed = p.lag.shown(changed)
				g.oldest = p.lag.shown(oldest)
				next(&g)
			}
		}
	}
	return nil
}

// busyHosts returns the hosts for which something may be pending: those whose lanes are due at some time, are paused or
// blocked, or wait for a key.
func (s *reader) busyHosts(ctx context.Context) (names []string, err error) {
	for _, state := range []queue.HostState{queue.HostPaused, queue.HostBlocked} {
		for after, more := "", true; more; {
			var some []string
			if some, after, more, err = s.hostNames(ctx, queue.HostFilter{State: state}, after, chunk); err != nil {
				return nil, err
			}
			names = append(names, some...)
		}
	}
	all, err := fromEach(s.conn, func(p *partition) ([]string, error) { return p.laneNames(ctx) })
	names = slices.Concat(names, slices.Concat(all...))
	slices.Sort(names)
	return slices.Compact(names), err
}

// laneNames returns the hosts whose lanes are due at some time, or wait for a key, in a partition.
func (p *partition) laneNames(ctx context.Context) (names []string, err error) {
	for _, due := range []rediskeys.Kind{rediskeys.Due0, rediskeys.Due1, rediskeys.Due2, rediskeys.Due3, rediskeys.Due4, rediskeys.Due5} {
		if err := p.members(ctx, due, func(z rueidis.ZScore) { names = append(names, z.Member) }); err != nil {
			return nil, err
		}
	}
	var pages []string
	err = errors.Join(p.members(ctx, rediskeys.Parked, func(z rueidis.ZScore) {
		names = append(names, z.Member[min(len(z.Member), len(nameHash(""))):])
	}), p.members(ctx, rediskeys.Later, func(z rueidis.ZScore) { pages = append(pages, z.Member) }))
	for some := range slices.Chunk(pages, chunk) {
		var texts []string
		err = errors.Join(err, p.read(ctx, p.client.B().Hmget().Key(p.Key(rediskeys.LaterPages)).Field(some...).Build(), &texts))
		for _, text := range texts {
			for line := range strings.Lines(text) {
				const before = 9 // bytes before a host: when it is due, and in which set
				names = append(names, strings.TrimSuffix(line[min(len(line), before):], "\n"))
			}
		}
	}
	return names, err
}

// members calls next for all members of a sorted set, which it reads a page at a time.
func (p *partition) members(ctx context.Context, kind rediskeys.Kind, next func(rueidis.ZScore)) error {
	for first := int64(0); ; first += chunk {
		var page []rueidis.ZScore
		err := p.read(ctx, p.client.B().Zrange().Key(p.Key(kind)).Min(strconv.FormatInt(first, 10)).
			Max(strconv.FormatInt(first+chunk-1, 10)).Withscores().Build(), &page)
		if err != nil {
			return err
		}
		for _, z := range page {
			next(z)
		}
		if len(page) < chunk {
			return nil
		}
	}
}
