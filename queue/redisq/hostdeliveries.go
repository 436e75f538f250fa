package redisq

import (
	"context"
	"errors"
	"strconv"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// inLane is a delivery of a lane, on its way into the list of its host.
type inLane struct {
	queue.DeliveryStatus
	number  int64 // in the lane
	ordinal int64
}

// HostDeliveries implements queue.Watching. A cursor is the least number that may come next. What ends while a page is made is
// left out of it.
func (s *reader) HostDeliveries(ctx context.Context, host string, page queue.Page) (list queue.List[queue.DeliveryStatus], err error) {
	defer wrap(&err, "deliveries of host "+host)
	from, err := queue.ParseCursor(page.Cursor, 1)
	if err != nil {
		return list, err
	}
	p := s.partitionOf(host)
	all, staged, err := p.lanePage(ctx, host, from[0], page.Limit+1)
	if err == nil && staged && len(all) <= page.Limit { // what is released comes behind all that is there
		if _, err = s.releaseStaged(ctx, p); err == nil {
			all, _, err = p.lanePage(ctx, host, from[0], page.Limit+1)
		}
	}
	if err != nil {
		return list, err
	}
	if len(all) > page.Limit {
		list.Next = strconv.FormatInt(all[page.Limit].number, 10)
		all = all[:page.Limit]
	}
	list.Items, err = s.describeLane(ctx, p, all)
	return list, err
}

// lanePage reads deliveries of a lane from a number on, and reports whether others of the partition are not in their lanes yet.
func (p *partition) lanePage(ctx context.Context, host string, from int64, most int) (all []inLane, staged bool, err error) {
	var found []rueidis.RedisMessage
	args := []string{host, strconv.FormatInt(from, 10), strconv.Itoa(most)}
	err = p.run(ctx, script.HostDeliveries, p.lane(nil, host), args, &staged, &found)
	if err != nil {
		return nil, false, err
	}
	all = make([]inLane, len(found))
	for i, m := range found {
		d := &all[i]
		var id, rest string
		var w waiting
		err := scan(m, &d.number, &id, &d.ordinal, &rest, &d.Priority, &d.Attempts, &w.due, &w.what, &w.last)
		if err == nil {
			err = p.showWait(&d.DeliveryStatus, &w)
		}
		if err != nil {
			return nil, false, err
		}
		d.ActivityID = uuid.UUID([]byte(id)).String() // lane.lua sees to its length
		d.State = queue.StatePending
	}
	return all, staged, nil
}

// describeLane adds to deliveries of a lane what their activities have of them.
func (s *reader) describeLane(ctx context.Context, p *partition, all []inLane) (items []queue.DeliveryStatus, err error) {
	commands := make([]rueidis.Completed, 0, 2*len(all))
	for i := range all {
		commands = append(commands, p.partCommand(all[i].ActivityID), p.readListing(all[i].ActivityID, all[i].ordinal))
	}
	answers, err := p.do(ctx, commands...)
	if err != nil {
		return nil, err
	}
	for i := range all {
		d, id := all[i].DeliveryStatus, all[i].ActivityID
		a, found, err := p.partOf(id, answers[2*i])
		text := ""
		if broken := (*damage)(nil); errors.As(err, &broken) {
			s.logLimited("activity", err)
			err = nil
		}
		if err == nil {
			err = scan(answers[2*i+1], &text)
		}
		if err != nil {
			return nil, err
		}
		l := readListed(all[i].ordinal, text)
		if !found || l.host == "" || l.dead {
			continue // it ended meanwhile
		}
		s.complete(&d, &l, p, id)
		a.ofActivity(&d, id)
		items = append(items, d)
	}
	return items, nil
}
