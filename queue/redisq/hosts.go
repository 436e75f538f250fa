package redisq

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// Host implements queue.Watching.
func (s *Store) Host(ctx context.Context, host string) (queue.HostStatus, error) {
	found, err := s.hostStatuses(ctx, []string{host})
	if err != nil {
		return queue.HostStatus{}, fmt.Errorf("host %s: %w", host, err)
	}
	if len(found) == 0 {
		return queue.HostStatus{Host: host, State: queue.HostHealthy}, nil
	}
	return found[0], nil
}

// hostStatuses describes those of the hosts that are known, in the order given.
func (s *Store) hostStatuses(ctx context.Context, hosts []string) ([]queue.HostStatus, error) {
	byPartition := map[*partition][]string{}
	for _, host := range hosts {
		p := s.partitionOf(host)
		byPartition[p] = append(byPartition[p], host)
	}
	byHost := map[string]queue.HostStatus{}
	for p, some := range byPartition {
		a, err := s.array(ctx, hostsScript, p, p.lanes(nil, some), some)
		if err != nil {
			return nil, err
		}
		for i, m := range a {
			if m.IsNil() {
				continue
			}
			if byHost[some[i]], err = hostStatus(some[i], m); err != nil {
				return nil, err
			}
		}
	}
	var found []queue.HostStatus
	for _, host := range hosts {
		if h, ok := byHost[host]; ok {
			found = append(found, h)
		}
	}
	return found, nil
}

// hostStatus reads what hosts.lua tells of a lane.
func hostStatus(host string, m rueidis.RedisMessage) (queue.HostStatus, error) {
	f, err := fields(m, 7)
	if err != nil {
		return queue.HostStatus{}, err
	}
	h := queue.HostStatus{
		Host: host, State: queue.HostState(f[2].text), Pending: int(f[3].number),
		OldestPendingAt: timeOf(f[5].number), RetryAt: timeOf(f[6].number),
	}
	h.Record, err = record(f[0].text, f[1].number)
	h.InFlight = min(int(f[4].number), max(1, h.Record.Breaker.Window))
	return h, err
}

// Hosts implements queue.Watching. Each page reads the names of all hosts, as they are in no order in Redis: they are
// kept only where they are needed for more than this list.
func (s *Store) Hosts(ctx context.Context, f queue.HostFilter, p queue.Page) (queue.List[queue.HostStatus], error) {
	var list queue.List[queue.HostStatus]
	after, err := parseNameCursor(p.Cursor)
	if err != nil {
		return list, fmt.Errorf("hosts: %w", err)
	}
	names, err := s.hostNames(ctx, after, strings.ToLower(f.Query))
	if err != nil {
		return list, fmt.Errorf("hosts: %w", err)
	}
	for some := range slices.Chunk(names, max(p.Limit+1, chunk/5)) {
		found, err := s.hostStatuses(ctx, some)
		if err != nil {
			return queue.List[queue.HostStatus]{}, fmt.Errorf("hosts: %w", err)
		}
		for _, h := range found {
			if f.State != "" && h.State != f.State {
				continue
			}
			if len(list.Items) == p.Limit {
				list.Next = nameCursor(list.Items[p.Limit-1].Host)
				return list, nil
			}
			list.Items = append(list.Items, h)
		}
	}
	return list, nil
}

// hostNames returns the hosts after one whose names hold a text, by name.
func (s *Store) hostNames(ctx context.Context, after, part string) ([]string, error) {
	var commands []rueidis.Completed
	for _, p := range s.parts {
		for _, set := range p.common[1:8] {
			commands = append(commands, s.client.B().Zrange().Key(set).Min("0").Max("-1").Build())
		}
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range answers {
		some, err := m.AsStrSlice()
		if err != nil {
			return nil, err
		}
		for _, name := range some {
			if name > after && strings.Contains(name, part) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil // one may have moved from set to set meanwhile
}

// nameCursor is the cursor after a name.
func nameCursor(name string) string { return "n" + base64.RawURLEncoding.EncodeToString([]byte(name)) }

func parseNameCursor(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	text, ok := strings.CutPrefix(cursor, "n")
	name, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !ok {
		return "", queue.ErrBadCursor
	}
	return string(name), nil
}

// Stats implements queue.Watching.
func (s *Store) Stats(ctx context.Context) (queue.Stats, error) {
	st := queue.Stats{Hosts: map[queue.HostState]int{}}
	commands := make([]rueidis.Completed, 0, 2*len(s.parts))
	for _, p := range s.parts {
		commands = append(commands, s.client.B().Hgetall().Key(p.Key("stats")).Build(),
			s.client.B().Zrange().Key(p.Key("pending")).Min("0").Max("0").Withscores().Build())
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return st, fmt.Errorf("stats: %w", err)
	}
	for i := range s.parts {
		totals, err := answers[2*i].AsIntMap()
		if err != nil {
			return st, fmt.Errorf("stats: %w", err)
		}
		addTotals(&st, totals)
		oldest, err := answers[2*i+1].AsZScores()
		if err != nil {
			return st, fmt.Errorf("stats: %w", err)
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
	for _, state := range []queue.HostState{
		queue.HostHealthy, queue.HostFailing, queue.HostOpen, queue.HostUnavailable, queue.HostPaused, queue.HostBlocked,
	} {
		if n := int(totals[string(state)]); n != 0 {
			st.Hosts[state] += n
		}
	}
}
