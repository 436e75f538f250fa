package redisq

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
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

// hostStates are the states of hosts. Their first letters are what names.lua knows them by.
var hostStates = []queue.HostState{
	queue.HostHealthy, queue.HostFailing, queue.HostOpen, queue.HostUnavailable, queue.HostPaused, queue.HostBlocked,
}

// Hosts implements queue.Watching.
func (s *Store) Hosts(ctx context.Context, f queue.HostFilter, p queue.Page) (queue.List[queue.HostStatus], error) {
	list, err := s.hosts(ctx, f, p)
	if err != nil {
		return queue.List[queue.HostStatus]{}, fmt.Errorf("hosts: %w", err)
	}
	return list, nil
}

func (s *Store) hosts(ctx context.Context, f queue.HostFilter, p queue.Page) (list queue.List[queue.HostStatus], err error) {
	after, err := parseNameCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	query, wanted := strings.ToLower(f.Query), func(h queue.HostStatus) bool { return f.State == "" || f.State == h.State }
	for more := true; more; {
		var names []string
		if names, after, more, err = s.hostNames(ctx, f, after, p.Limit+1); err != nil {
			return list, err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, query) })
		for some := range slices.Chunk(names, max(p.Limit+1-len(list.Items), 1)) {
			found, err := s.hostStatuses(ctx, some)
			if err != nil {
				return list, err
			}
			for _, h := range found {
				if !wanted(h) { // it has changed meanwhile
					continue
				}
				if len(list.Items) == p.Limit {
					list.Next = nameCursor(list.Items[p.Limit-1].Host)
					return list, nil
				}
				list.Items = append(list.Items, h)
			}
		}
	}
	return list, nil
}

// hostNames returns names of hosts after one, in their order: about as many as wanted. It returns too after which name
// to go on, and whether there may be more.
func (s *Store) hostNames(ctx context.Context, f queue.HostFilter, after string, want int) (names []string, last string, more bool, err error) {
	if f.Query != "" {
		want = chunk // most may be left out
	}
	states := hostStates
	if f.State != "" {
		states = []queue.HostState{f.State}
	}
	args := []string{after, strconv.Itoa(min(want, max(20, 2*want/len(s.parts))))}
	for _, state := range states {
		args = append(args, string(state[:1]))
	}
	answers := make([][]rueidis.RedisMessage, len(s.parts))
	err = s.each(func(p *partition) (err error) {
		answers[p.N], err = s.array(ctx, namesScript, p, nil, args)
		return err
	})
	end := "" // what comes from here on may not be here
	for _, m := range slices.Concat(answers...) {
		some, err := m.AsStrSlice()
		if err != nil {
			return nil, "", false, err
		}
		if some[0] != "" && (end == "" || some[0] < end) {
			end = some[0]
		}
		names = append(names, some[1:]...)
	}
	if err != nil {
		return nil, "", false, err
	}
	if end != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return name >= end })
	}
	slices.Sort(names)
	if len(names) > 0 {
		last = names[len(names)-1]
	}
	return slices.Compact(names), last, end != "", nil // one may have been in two states meanwhile
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
