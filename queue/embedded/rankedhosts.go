package embedded

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/queue"
)

// busyLanes are the lanes with pending deliveries, in no order.
type busyLanes struct{ ls []*lane }

func (b *busyLanes) add(l *lane) {
	l.busyAt = int32(len(b.ls)) //nolint:gosec // there are no more hosts
	b.ls = append(b.ls, l)
}

func (b *busyLanes) remove(l *lane) {
	last := len(b.ls) - 1
	b.ls[l.busyAt] = b.ls[last]
	b.ls[l.busyAt].busyAt = l.busyAt
	b.ls[last] = nil
	b.ls = b.ls[:last]
}

// rankedPage is a page of the hosts with pending deliveries, by their number or age, while it is filled. It looks at all of
// them, and keeps the first ones after the cursor.
type rankedPage struct {
	hostPage
	after rank // zero for the first page
	first []rankedHost
}

// rank is the position of a host in the list: the lowest number comes first, and of equal ones the name.
type rank struct {
	number int64
	host   string
}

func (r rank) compare(other rank) int {
	return cmp.Or(cmp.Compare(r.number, other.number), strings.Compare(r.host, other.host))
}

// rankedHost is a host, and its position when it was looked at.
type rankedHost struct {
	rank
	status queue.HostStatus
}

func (o *rankedPage) read(ctx context.Context, cursor string) (list queue.List[queue.HostStatus], err error) {
	if o.after, err = o.rankAfter(cursor); err != nil {
		return list, err
	}
	o.s.mu.Lock()
	all := slices.Clone(o.s.index.busy.ls)
	o.s.mu.Unlock()
	for lanes := range slices.Chunk(all, hostsAtOnce) {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		o.add(lanes)
	}
	if len(o.first) > o.limit {
		o.first = o.first[:o.limit]
		list.Next = o.cursorAfter(o.first[o.limit-1].rank)
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
		if l.pending == 0 || o.State != "" && l.state != o.State || !o.passes(l) {
			continue
		}
		at := rank{o.number(l), l.host}
		i, _ := slices.BinarySearchFunc(o.first, at, func(h rankedHost, at rank) int { return h.compare(at) })
		if i > o.limit || at.compare(o.after) <= 0 {
			continue
		}
		o.first = slices.Insert(o.first, i, rankedHost{at, l.status(o.s.clock, now)})
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

// cursorAfter is the cursor of what comes after a rank, and rankAfter the reverse.
func (o *rankedPage) cursorAfter(r rank) string {
	return fmt.Sprintf("%s%d-%s", o.Sort, max(r.number, -r.number), cursorAfter(r.host))
}

func (o *rankedPage) rankAfter(cursor string) (r rank, err error) {
	if cursor == "" {
		return rank{number: -maxID}, nil
	}
	text, isOurs := strings.CutPrefix(cursor, string(o.Sort))
	number, name, _ := strings.Cut(text, "-")
	r.number, err = strconv.ParseInt(number, 10, 64)
	if !isOurs || err != nil || r.number < 0 || name == "" {
		return rank{}, queue.ErrBadCursor
	}
	if o.Sort == queue.ByPending {
		r.number = -r.number
	}
	r.host, err = nameAfter(name)
	return r, err
}
