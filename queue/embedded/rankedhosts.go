package embedded

import (
	"context"
	"maps"
	"slices"

	"github.com/postrider/postrider/queue"
)

// rankedPage is a page of the hosts with pending deliveries, by their number or age, while it is filled. It looks at all of
// them, and keeps the first ones after the cursor.
type rankedPage struct {
	hostPage
	after queue.HostRank
	first []rankedHost
}

// rankedHost is a host, and its position when it was looked at.
type rankedHost struct {
	queue.HostRank
	status queue.HostStatus
}

func (o *rankedPage) read(ctx context.Context, cursor string) (list queue.List[queue.HostStatus], err error) {
	if o.after, err = queue.ParseHostRank(cursor, o.Sort); err != nil {
		return list, err
	}
	o.s.mu.Lock()
	all := slices.Collect(maps.Keys(o.s.index.busy))
	o.s.mu.Unlock()
	for lanes := range slices.Chunk(all, hostsAtOnce) {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		o.add(lanes)
	}
	if len(o.first) > o.limit {
		o.first = o.first[:o.limit]
		list.Next = o.first[o.limit-1].Cursor(o.Sort)
	}
	for i := range o.first {
		list.Items = append(list.Items, o.first[i].status)
	}
	return list, nil
}

// add looks at a few hosts.
func (o *rankedPage) add(lanes []*lane) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	now := o.s.clock.now()
	o.s.index.endThrottles(now)
	for _, l := range lanes {
		if l.pending == 0 || !o.passes(l, now) {
			continue
		}
		at := queue.HostRank{Number: o.number(l), Host: l.host}
		i, _ := slices.BinarySearchFunc(o.first, at, func(h rankedHost, at queue.HostRank) int { return h.Compare(at) })
		if i > o.limit || at.Compare(o.after) <= 0 {
			continue
		}
		o.first = slices.Insert(o.first, i, rankedHost{at, o.s.status(l, now)})
		o.first = o.first[:min(len(o.first), o.limit+1)]
	}
}

// number returns the number by which a host with pending deliveries is ranked.
func (o *rankedPage) number(l *lane) int64 {
	if o.Sort == queue.ByPending {
		return -int64(l.pending)
	}
	return l.oldest().act.created
}
