package redisq

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Take implements queue.Lanes. It runs a script for each hundred lanes of a partition, and reads the activities that this node has not
// used lately.
func (s *Store) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	var (
		wg    sync.WaitGroup
		turns = make([]*queue.Turn, len(leases))
		parts = s.byPartition(leases)
		mu    sync.Mutex
		errs  []error
	)
	for p, all := range parts {
		for places := range slices.Chunk(all, laneChunk) {
			wg.Go(func() {
				err := s.takeFrom(ctx, p, leases, places, n, turns) // writes to turns at its places only
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	wg.Wait()
	if len(errs) > 0 && !slices.Contains(errs, nil) { // else what can be worked with is worked with
		return nil, fmt.Errorf("take: %w", errors.Join(errs...))
	}
	taken := make([]queue.Turn, 0, len(leases))
	for _, t := range turns {
		if t != nil {
			taken = append(taken, *t)
		}
	}
	return taken, nil
}

// byPartition returns the places of the leases of each partition.
func (s *Store) byPartition(leases []lockmgr.Lease) map[*partition][]int {
	places := map[*partition][]int{}
	for i, l := range leases {
		p := s.partitionOf(l.Host)
		places[p] = append(places[p], i)
	}
	return places
}

// takeFrom takes from the lanes of one partition, but for those that are broken. After an error none of it is taken.
func (s *Store) takeFrom(ctx context.Context, p *partition, leases []lockmgr.Lease, places []int, n int, turns []*queue.Turn) error {
	if len(places) == 0 {
		return nil
	}
	var keys, hosts, args []string
	for _, i := range places {
		l := leases[i]
		keys, hosts = p.lane(keys, l.Host), append(hosts, l.Host)
		args = append(args, l.Host, strconv.FormatUint(l.Token, 10), upMillis(l.TTL), strconv.Itoa(n))
	}
	a, err := s.given(ctx, p, hosts, keys, args)
	if i := p.brokenLane(err, hosts); i >= 0 {
		s.tell(hosts[i], err)
		return s.takeFrom(ctx, p, leases, slices.Delete(slices.Clone(places), i, i+1), n, turns)
	}
	if err != nil {
		return err
	}
	err = s.turns(p, leases, places, a, turns)
	if err == nil {
		err = s.fill(ctx, p, places, turns)
	}
	if err != nil {
		s.handBack(ctx, places, turns)
	}
	return err
}

// given runs take.lua, for a single lane with what others take at the time, and returns what it gave of each lane.
func (s *Store) given(ctx context.Context, p *partition, hosts, keys, args []string) ([][]rueidis.RedisMessage, error) {
	if len(hosts) == 1 {
		a, err := p.takes.call(ctx, &gathered{apart: hosts[0], keys: keys, args: args})
		return [][]rueidis.RedisMessage{a}, err
	}
	all, err := s.array(ctx, takeScript, p, keys, args)
	if err != nil {
		return nil, err
	}
	given := make([][]rueidis.RedisMessage, len(all))
	for i, m := range all {
		if given[i], err = m.ToArray(); err != nil {
			return nil, err
		}
	}
	return given, nil
}

// turns reads what take.lua gave of the lanes of a partition.
func (s *Store) turns(p *partition, leases []lockmgr.Lease, places []int, given [][]rueidis.RedisMessage, turns []*queue.Turn) error {
	for i, parts := range given {
		if len(parts) == 0 {
			continue // a later token has it
		}
		turn, err := s.turn(p, leases[places[i]], parts)
		if err != nil {
			return err
		}
		turns[places[i]] = turn
	}
	return nil
}

// turn reads what take.lua gave of a lane. The activities have only their IDs.
func (s *Store) turn(p *partition, lease lockmgr.Lease, parts []rueidis.RedisMessage) (*queue.Turn, error) {
	t := &queue.Turn{Lease: lease}
	f, err := values(parts, 5)
	if err != nil {
		return nil, err
	}
	if t.Host, err = record(f[0].text, f[1].number); err != nil {
		return nil, err
	}
	t.More, t.Now = f[2].number != 0, timeOf(f[4].number)
	for _, m := range f[3].list {
		d, err := fields(m, 6)
		if err != nil {
			return nil, err
		}
		id, err := uuid.FromBytes([]byte(d[0].text))
		if err != nil {
			return nil, err
		}
		delivery := queue.Delivery{
			ID: s.deliveryID(p, id.String(), d[1].number), Activity: &queue.Activity{ID: id.String()},
			Inbox: inboxOf(lease.Host, d[2].text), Attempts: int(d[4].number), Early: d[5].number != 0,
		}
		if err := decode(d[3].text, &delivery.Headers); err != nil {
			return nil, err
		}
		t.Deliveries = append(t.Deliveries, delivery)
	}
	return t, nil
}

// fill gives the deliveries of turns their activities. Those whose activity is gone (it was cancelled just now) are left
// out.
func (s *Store) fill(ctx context.Context, p *partition, places []int, turns []*queue.Turn) error {
	all := map[string]*queue.Activity{}
	var missing []string
	for _, i := range places {
		if turns[i] == nil {
			continue
		}
		for _, d := range turns[i].Deliveries {
			id := d.Activity.ID
			if _, seen := all[id]; seen {
				continue
			}
			if all[id], _ = s.activities.get(id); all[id] == nil {
				missing = append(missing, id)
			}
		}
	}
	if err := s.fetch(ctx, p, missing, all); err != nil {
		return err
	}
	for _, i := range places {
		if turns[i] == nil {
			continue
		}
		for j := range turns[i].Deliveries {
			turns[i].Deliveries[j].Activity = all[turns[i].Deliveries[j].Activity.ID]
		}
		turns[i].Deliveries = slices.DeleteFunc(turns[i].Deliveries, func(d queue.Delivery) bool { return d.Activity == nil })
	}
	return nil
}

// fetch reads activities with their bodies.
func (s *Store) fetch(ctx context.Context, p *partition, ids []string, all map[string]*queue.Activity) error {
	commands := make([]rueidis.Completed, 0, 2*len(ids))
	for _, id := range ids {
		commands = append(commands,
			s.client.B().Hmget().Key(p.Of("a", id)).Field("m", "q", "t").Build(), s.client.B().Get().Key(p.Of("b", id)).Build())
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return err
	}
	for i, id := range ids {
		body := answers[2*i+1]
		if body.IsNil() {
			continue
		}
		a, err := activity(id, answers[2*i], body)
		if err != nil {
			return err
		}
		s.activities.put(id, len(a.Body), a)
		all[id] = a
	}
	return nil
}

func activity(id string, about, body rueidis.RedisMessage) (*queue.Activity, error) {
	f, err := fields(about, 3)
	if err != nil {
		return nil, err
	}
	var d description
	if err := decode(f[0].text, &d); err != nil {
		return nil, err
	}
	priority, err := strconv.ParseUint(f[1].text, 10, 8)
	if err != nil {
		return nil, err
	}
	created, err := strconv.ParseInt(f[2].text, 10, 64)
	if err != nil {
		return nil, err
	}
	a := &queue.Activity{
		ID: id, URI: d.URI, Type: d.Type, KeyID: d.KeyID, OrderingKey: d.OrderingKey,
		Priority: queue.Priority(priority), Role: d.Role, CreatedAt: timeOf(created),
	}
	if a.Body, err = body.AsBytes(); err != nil {
		return nil, err
	}
	a.Body = slices.Clone(a.Body)
	a.Digest = sha256.Sum256(a.Body)
	return a, nil
}

// handBack gives back what was taken in a call that failed. What it can't is given again under a later lease.
func (s *Store) handBack(ctx context.Context, places []int, turns []*queue.Turn) {
	ctx, failed := context.WithoutCancel(ctx), false
	for _, i := range places {
		t := turns[i]
		turns[i] = nil
		if t == nil || failed {
			continue
		}
		st := queue.Settlement{}
		for _, d := range t.Deliveries {
			st.Results = append(st.Results, queue.Result{ID: d.ID, Verdict: queue.Defer})
		}
		failed = s.Settle(ctx, t.Lease, st) != nil
	}
}
