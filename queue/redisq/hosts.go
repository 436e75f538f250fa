package redisq

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Host implements queue.Watching.
func (s *reader) Host(ctx context.Context, host string) (_ queue.HostStatus, err error) {
	defer wrap(&err, "host "+host)
	found, err := s.hostStatuses(ctx, []string{host})
	if err != nil || len(found) == 0 {
		return queue.HostStatus{Host: host, State: queue.HostHealthy}, err
	}
	return found[0], nil
}

// hostStatuses describes those of the hosts that are known, in the order given.
func (s *reader) hostStatuses(ctx context.Context, hosts []string) ([]queue.HostStatus, error) {
	byHost := map[string]queue.HostStatus{}
	for p, some := range s.byPartition(hosts) {
		var a []rueidis.RedisMessage
		if err := p.run(ctx, script.Hosts, p.lanes(nil, some), some, &a); err != nil {
			return nil, err
		}
		for i, m := range a {
			if m.IsNil() {
				continue
			}
			h, err := p.hostStatus(some[i], m)
			if err != nil {
				return nil, err
			}
			byHost[some[i]] = h
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
func (p *partition) hostStatus(host string, m rueidis.RedisMessage) (h queue.HostStatus, err error) {
	var text, state string
	var epoch, oldest, retry, changed int64
	var orders []rueidis.RedisMessage
	h.Host = host
	if err := scan(m, &text, &epoch, &state, &h.Pending, &h.InFlight, &oldest, &retry, &changed, &orders); err != nil {
		return h, err
	}
	if h.Orders, err = p.readOrders(orders); err != nil {
		return h, err
	}
	h.State = queue.HostState(state)
	h.OldestPendingAt = p.lag.shown(oldest)
	h.RetryAt = p.lag.shown(retry)
	h.ChangedAt = p.lag.shown(changed)
	if h.Record, err = record(text, epoch); err != nil {
		h.Record = queue.HostRecord{Epoch: epoch} // the next turn says that it is damaged
	}
	h.Record = p.lag.shownRecord(h.Record)
	h.InFlight = min(h.InFlight, max(1, h.Record.Breaker.Window))
	return h, nil
}

// Hosts implements queue.Watching.
func (s *reader) Hosts(ctx context.Context, f queue.HostFilter, p queue.Page) (list queue.List[queue.HostStatus], err error) {
	defer wrap(&err, "hosts")
	if f.Sort != queue.ByName {
		return s.hostsByOrder(ctx, f, p)
	}
	after, err := queue.ParseNameCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	query := strings.ToLower(f.Query)
	for more := true; more; {
		var names []string
		if names, after, more, err = s.hostNames(ctx, f, after, p.Limit+1); err != nil {
			return list, err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, query) })
		if !f.ChangedSince.IsZero() {
			if names, err = s.changedSince(ctx, names, f.ChangedSince); err != nil {
				return list, err
			}
		}
		for some := range slices.Chunk(names, max(p.Limit+1-len(list.Items), 1)) {
			found, err := s.hostStatuses(ctx, some)
			if err != nil {
				return list, err
			}
			for _, h := range found {
				if f.State != "" && f.State != h.State { // it has changed meanwhile
					continue
				}
				if len(list.Items) == p.Limit {
					list.Next = queue.NameCursor(list.Items[p.Limit-1].Host)
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
func (s *reader) hostNames(ctx context.Context, f queue.HostFilter, after string, want int) (names []string, last string, more bool, err error) {
	return s.namesIn(ctx, s.parts, f, after, want)
}

// namesIn does so in some partitions.
func (s *reader) namesIn(
	ctx context.Context, parts []*partition, f queue.HostFilter, after string, want int,
) (names []string, last string, more bool, err error) {
	if f.Query != "" || !f.ChangedSince.IsZero() {
		want = chunk // most may be left out
	}
	states := queue.HostStates
	if f.State != "" {
		states = []queue.HostState{f.State}
	}
	args := []string{after, strconv.Itoa(min(want, max(20, 2*want/len(parts))))}
	for _, state := range states {
		args = append(args, string(state[:1])) // names.lua knows a state by its first letter
	}
	answers := make([][]rueidis.RedisMessage, len(s.parts))
	err = s.forEach(func(p *partition) error {
		if !slices.Contains(parts, p) {
			return nil
		}
		return p.run(ctx, script.Names, nil, args, &answers[p.N])
	})
	end := "" // what comes from here on may not be here
	for _, m := range slices.Concat(answers...) {
		var some []string
		if err := scan(m, &some); err != nil {
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
