package redisq

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// letters are what scripts know the orders by.
var letters = map[queue.HostAction]string{queue.Pause: "p", queue.Resume: "p", queue.Block: "b", queue.Unblock: "b"}

func actionOf(letter string) queue.HostAction {
	if letter == letters[queue.Pause] {
		return queue.Pause
	}
	return queue.Block
}

const (
	covered = -1 // act.lua: the order of another host covers this one
	spread  = -2 // act.lua: the other partitions have to go first
)

// change is what an action asks for.
type change struct {
	host   string
	action queue.HostAction
	order  queue.Order
}

// covers reports whether the action gives an order that covers other hosts.
func (c *change) covers() bool {
	return c.order.Subdomains && (c.action == queue.Pause || c.action == queue.Block)
}

// orderArgs are an order as scripts get it.
func orderArgs(covers bool, o queue.Order) []string {
	return []string{upMillis(o.For), flag(covers), o.Reason, o.By}
}

// change runs an action in the partition of its host, and in the others if it is about an order that covers hosts there: after
// that if it gives one, and before if it ends one. So while any partition has it, so has that of the host, and the action can
// be repeated. It reports whether it may be about other hosts.
func (s *Store) change(ctx context.Context, c change) (others bool, err error) {
	home := s.partitionOf(c.host)
	others = c.covers() || len(s.parts) == 1
	entries, cover, err := s.changeHome(ctx, home, c, len(s.parts) == 1)
	if err == nil && entries == spread {
		others = true
		if err = s.changeOthers(ctx, home, c); err == nil {
			entries, cover, err = s.changeHome(ctx, home, c, true)
		}
	}
	switch {
	case err != nil:
		return others, err
	case entries == covered:
		return others, &queue.CoveredError{Host: cover}
	}
	s.fed(entries)
	if c.order.For > 0 {
		s.sweepIn(c.order.For)
	}
	if c.covers() {
		err = s.changeOthers(ctx, home, c)
	}
	return others, err
}

func (s *Store) changeHome(ctx context.Context, p *partition, c change, others bool) (entries int, cover string, err error) {
	args := append([]string{c.host, string(c.action), flag(others)}, orderArgs(c.covers(), c.order)...)
	args = append(args, said(queue.HostActed(c.host, c.action, c.order)))
	err = p.run(ctx, script.Act, p.lane(nil, c.host), args, &entries, &cover)
	return entries, cover, err
}

// changeOthers gives or ends an order in the partitions in which its host is not.
func (s *Store) changeOthers(ctx context.Context, home *partition, c change) error {
	return s.forEach(func(p *partition) error {
		if p == home {
			return nil
		}
		_, err := p.cover(ctx, c, "")
		return err
	})
}

// cover gives a partition an order that covers its hosts, or ends it. since is when it began in another store, "" if it was in
// none.
func (p *partition) cover(ctx context.Context, c change, since string) (isNew bool, err error) {
	o := orderArgs(c.covers(), c.order)
	n, err := p.number(ctx, script.Cover, nil, []string{letters[c.action], c.host, o[1], o[0], o[2], o[3], since})
	return n == 1, err
}

// reviewAtOnce is how many lanes one step of a review looks at, about.
const reviewAtOnce = 500

// reviewAll looks at all lanes that orders cover or covered. If that fails, Sweep goes on.
func (s *sweeper) reviewAll(ctx context.Context) {
	err := s.forEach(func(p *partition) error {
		for {
			mark := ""
			err := s.read(ctx, s.client.B().Get().Key(p.Key(rediskeys.Review)).Build(), &mark)
			if err != nil || mark == "" {
				return err
			}
			if err := s.review(ctx, p, mark); err != nil {
				return err
			}
		}
	})
	if err != nil {
		s.logLimited("review", err)
	}
	s.sweepIn(0) // it buries what pends for hosts that are blocked now
}

// review looks at the next lanes of a partition after an order that covers hosts has changed: the mark says how far that is.
func (s *sweeper) review(ctx context.Context, p *partition, mark string) error {
	number, after, _ := strings.Cut(mark, " ")
	names, _, more, err := s.namesIn(ctx, []*partition{p}, queue.HostFilter{}, after, reviewAtOnce)
	if err != nil {
		return err
	}
	steps := slices.Collect(slices.Chunk(names, forgetChunk))
	if len(steps) == 0 {
		steps = append(steps, nil)
	}
	for i, some := range steps {
		next := ""
		if more || i < len(steps)-1 {
			next = number + " " + some[len(some)-1]
		}
		fed, err := p.number(ctx, script.Review, p.lanes(nil, some), append([]string{mark, next}, some...))
		s.fed(fed)
		if err != nil {
			return err
		}
		mark = next
	}
	return nil
}

// orderOf gives an order its action and times, as hosts.lua and the feed have them.
func (p *partition) orderOf(o queue.HostOrder, letter string, since, until int64) queue.HostOrder {
	o.Action = actionOf(letter)
	o.Since = p.lag.shown(since)
	o.Until = p.lag.shown(until)
	return o
}

// readOrders reads the orders that hold for a host.
func (p *partition) readOrders(list []rueidis.RedisMessage) (orders []queue.HostOrder, err error) {
	for _, m := range list {
		var o queue.HostOrder
		var letter string
		var since, until int64
		if err := scan(m, &letter, &o.Host, &since, &until, &o.Subdomains, &o.Reason, &o.By); err != nil {
			return nil, err
		}
		orders = append(orders, p.orderOf(o, letter, since, until))
	}
	return orders, nil
}

// readOrder reads the order behind an entry of the feed.
func (p *partition) readOrder(u *unpacker) *queue.HostOrder {
	if u.text == "" {
		return nil
	}
	letter := u.string()
	o := queue.HostOrder{Host: u.string()}
	since, until := u.number(), u.number()
	o.Subdomains = u.number() == 1
	o.Reason = u.string()
	o.By = u.string()
	o = p.orderOf(o, letter, since, until)
	return &o
}

// orders exports those that cover other hosts. Each partition has all of them.
func (x *export) orders(ctx context.Context) error {
	p := x.s.parts[0]
	answers, err := x.s.do(ctx, x.s.client.B().Hgetall().Key(p.Key(rediskeys.Covers)).Build())
	if err != nil {
		return err
	}
	all, err := answers[0].AsStrMap()
	if err != nil {
		return err
	}
	now, err := x.s.wallTime(ctx)
	if err != nil {
		return err
	}
	for _, field := range slices.Sorted(maps.Keys(all)) {
		u := &unpacker{text: all[field]}
		m := queue.MovedOrder{Host: field[1:], Action: actionOf(field[:1]), Since: p.lag.shown(u.number())}
		until := p.lag.shown(u.number())
		m.Subdomains = u.number() == 1
		m.Reason = u.string()
		m.By = u.string()
		if !until.IsZero() {
			m.For = until.Sub(now)
		}
		if u.err != nil || m.For < 0 {
			continue // it is damaged, or over
		}
		if err := x.next(queue.Record{Order: &m}); err != nil {
			return err
		}
	}
	return nil
}

// movedOrders reads a host's own orders as export.lua has them.
func (p *partition) movedOrders(host string, list []rueidis.RedisMessage) (orders []queue.MovedOrder, err error) {
	for _, m := range list {
		var letter string
		var since, left int64
		o := queue.MovedOrder{Host: host}
		if err := scan(m, &letter, &since, &left, &o.Subdomains, &o.Reason, &o.By); err != nil {
			return nil, err
		}
		o.Action, o.Since = actionOf(letter), p.lag.shown(since)
		o.For = time.Duration(left) * time.Millisecond
		orders = append(orders, o)
	}
	return orders, nil
}

// importOrder stores an order that covers other hosts.
func (s *conn) importOrder(ctx context.Context, m *queue.MovedOrder) (isNew bool, err error) {
	var news atomic.Int64
	err = s.forEach(func(p *partition) error {
		isNew, err := p.cover(ctx, change{m.Host, m.Action, m.Order}, strconv.FormatInt(p.lag.stored(m.Since), 10))
		if isNew {
			news.Add(1)
		}
		return err
	})
	return news.Load() > 0, err
}
