package redisq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// Export implements queue.Moving. It keeps some 200 bytes in memory of each pending delivery that was tried or has
// headers of its own, and 24 of each activity.
func (s *Store) Export(ctx context.Context, next func(queue.Record) error) error {
	x := &export{s: s, next: next, details: map[place]*detail{}, texts: map[string]string{}}
	for _, step := range []func(context.Context) error{x.decideAll, x.keys, x.hosts, x.activities, x.receipts} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}

// export is a store on its way out.
type export struct {
	s       *Store
	next    func(queue.Record) error
	details map[place]*detail
	texts   map[string]string // headers seen, so that each text is kept once
}

// place is a delivery: its activity, and the number in its ID.
type place struct {
	activity uuid.UUID
	number   int64
}

// detail is what a lane tells of a delivery beyond where it goes.
type detail struct {
	due             int64 // in ms, 0: at once
	flags, attempts int
	headers, last   string
}

// Of a delivery's flags, as in lane.lua.
const (
	hostFailed = 1
	waitsKey   = 2
	revived    = 16
)

// decideAll waits until nothing is staged any more: what is accepted is in the lanes then.
func (x *export) decideAll(ctx context.Context) error {
	for {
		staged := 0
		for _, p := range x.s.parts {
			names, err := x.members(ctx, p, "staged")
			if err == nil {
				_, err = x.s.decide(ctx, p, names)
			}
			if err != nil {
				return err
			}
			staged += len(names)
		}
		if staged == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(claimPause):
		}
	}
}

// members returns the members of a set of a partition.
func (x *export) members(ctx context.Context, p *partition, kind string) (all []string, err error) {
	err = x.scores(ctx, p, kind, func(z rueidis.ZScore) { all = append(all, z.Member) })
	return all, err
}

// scores reads a set of a partition, a page at a time.
func (x *export) scores(ctx context.Context, p *partition, kind string, each func(rueidis.ZScore)) error {
	for from := int64(0); ; from += chunk {
		answers, err := x.s.do(ctx, x.s.client.B().Zrange().Key(p.Key(kind)).Min(strconv.FormatInt(from, 10)).
			Max(strconv.FormatInt(from+chunk-1, 10)).Withscores().Build())
		if err != nil {
			return err
		}
		page, err := answers[0].AsZScores()
		if err != nil {
			return err
		}
		for _, z := range page {
			each(z)
		}
		if len(page) < chunk {
			return nil
		}
	}
}

func (x *export) keys(ctx context.Context) error {
	for p := (queue.Page{Limit: chunk}); ; {
		list, err := x.s.Keys(ctx, p)
		if err != nil {
			return err
		}
		for i := range list.Items {
			if err := x.next(queue.Record{Key: &list.Items[i]}); err != nil {
				return err
			}
		}
		if p.Cursor = list.Next; p.Cursor == "" {
			return nil
		}
	}
}

// hosts hands over the hosts, and keeps what their lanes tell of deliveries.
func (x *export) hosts(ctx context.Context) error {
	for after, more := "", true; more; {
		var some []string
		var err error
		if some, after, more, err = x.s.hostNames(ctx, queue.HostFilter{}, after, chunk/5); err != nil {
			return err
		}
		if err := x.someHosts(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (x *export) someHosts(ctx context.Context, some []string) error {
	byPartition := map[*partition][]string{}
	for _, host := range some {
		p := x.s.partitionOf(host)
		byPartition[p] = append(byPartition[p], host)
	}
	found := map[string]*queue.MovedHost{}
	for p, hosts := range byPartition {
		if err := x.lanes(ctx, p, hosts, found); err != nil {
			return err
		}
	}
	for _, host := range some {
		if err := x.next(queue.Record{Host: found[host]}); err != nil {
			return err
		}
	}
	return nil
}

const lanePartsTold = 9 // by export.lua of a lane

func (x *export) lanes(ctx context.Context, p *partition, hosts []string, found map[string]*queue.MovedHost) error {
	answer, err := x.page(ctx, p, "window", 0, hosts)
	if err != nil {
		return err
	}
	for i, m := range answer {
		f, err := fields(m, lanePartsTold)
		if err != nil {
			return err
		}
		h := &queue.MovedHost{
			Host: hosts[i], Paused: f[2].number != 0, Blocked: f[3].number != 0, Wait: time.Duration(f[4].number) * time.Millisecond,
			Waited: time.Duration(f[5].number) * time.Millisecond, Hastened: int(f[6].number),
		}
		if h.Record, err = record(f[0].text, f[1].number); err != nil {
			return err
		}
		found[h.Host] = h
		if err := x.learn(p, f[8].list); err != nil {
			return err
		}
		if f[7].number > 0 {
			if err := x.deep(ctx, p, h.Host, f[7].number); err != nil {
				return err
			}
		}
	}
	return nil
}

// page reads a page of lanes.
func (x *export) page(ctx context.Context, p *partition, which string, from int64, hosts []string) ([]rueidis.RedisMessage, error) {
	args := []string{which, strconv.FormatInt(from, 10), strconv.Itoa(chunk)}
	return x.s.array(ctx, exportScript, p, p.lanes(nil, hosts), append(args, hosts...))
}

// deep reads what is in no window of a lane, which are so many deliveries in all.
func (x *export) deep(ctx context.Context, p *partition, host string, pending int64) error {
	for _, which := range []string{"behind", "0", "1", "2"} {
		for from := int64(0); from < pending; from += chunk {
			answer, err := x.page(ctx, p, which, from, []string{host})
			if err != nil {
				return err
			}
			f, err := fields(answer[0], lanePartsTold)
			if err != nil {
				return err
			}
			if err := x.learn(p, f[8].list); err != nil {
				return err
			}
		}
	}
	return nil
}

// learn keeps what a page of a lane tells.
func (x *export) learn(p *partition, told []rueidis.RedisMessage) error {
	for _, m := range told {
		f, err := fields(m, 7)
		if err != nil {
			return err
		}
		id, err := uuid.FromBytes([]byte(f[0].text))
		if err != nil {
			return err
		}
		headers, seen := x.texts[f[5].text]
		if !seen {
			headers = f[5].text
			x.texts[headers] = headers
		}
		x.details[place{id, x.s.place(p, f[1].number)}] = &detail{
			due: f[2].number, flags: int(f[3].number), attempts: int(f[4].number), headers: headers, last: f[6].text,
		}
	}
	return nil
}

// accepted is an activity that was found, by when it was accepted.
type accepted struct {
	at int64
	id uuid.UUID
}

func (a accepted) compare(b accepted) int { return cmp.Or(cmp.Compare(a.at, b.at), a.compareID(b)) }

func (a accepted) compareID(b accepted) int { return slices.Compare(a.id[:], b.id[:]) }

func (x *export) activities(ctx context.Context) error {
	all, err := x.accepted(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		m, err := x.activity(ctx, a.id)
		if errors.Is(err, queue.ErrNotFound) {
			continue // left over of one that was dropped
		}
		if err == nil {
			err = x.next(queue.Record{Activity: m})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// accepted returns all activities, in the order accepted.
func (x *export) accepted(ctx context.Context) (all []accepted, err error) {
	for _, p := range x.s.parts {
		for _, kind := range []string{"pending", "done", "dead"} {
			first := len(all)
			err := x.scores(ctx, p, kind, func(z rueidis.ZScore) {
				all = append(all, accepted{int64(z.Score), uuid.UUID([]byte(z.Member[:16]))})
			})
			if err == nil && kind != "pending" { // others have another time there
				err = x.whenAccepted(ctx, p, all[first:])
			}
			if err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(all, func(a, b accepted) int { return cmp.Or(a.compareID(b), cmp.Compare(a.at, b.at)) })
	all = slices.CompactFunc(all, func(a, b accepted) bool { return a.id == b.id })
	slices.SortFunc(all, accepted.compare)
	return all, nil
}

// whenAccepted looks when activities of a partition were accepted.
func (x *export) whenAccepted(ctx context.Context, p *partition, all []accepted) error {
	for some := range slices.Chunk(all, chunk) {
		commands := make([]rueidis.Completed, len(some))
		for i, a := range some {
			commands[i] = x.s.client.B().Hget().Key(p.Of("a", a.id.String())).Field("t").Build()
		}
		answers, err := x.s.do(ctx, commands...)
		if err != nil {
			return err
		}
		for i, m := range answers {
			if m.IsNil() {
				continue // it was dropped meanwhile
			}
			if some[i].at, err = m.AsInt64(); err != nil {
				return err
			}
		}
	}
	return nil
}
