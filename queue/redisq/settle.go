package redisq

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Settle implements queue.Lanes.
func (s *Store) Settle(ctx context.Context, lease lockmgr.Lease, st queue.Settlement, n int) (_ []queue.Delivery, err error) {
	defer wrap(&err, "settle")
	p := s.partitionOf(lease.Host)
	m, err := p.settles.call(ctx, p.settlement(lease, st, n, false))
	if err != nil {
		return nil, err
	}
	g := newGiven()
	parked, err := s.addTurn(p, lease, m, g)
	if err != nil {
		return nil, err
	}
	if len(g.turns) == 0 {
		return nil, fmt.Errorf("%s: %w", lease.Host, queue.ErrNotHeld)
	}
	if st.Host != nil && st.Host.Throttled() && st.Wait > 0 {
		s.sweepIn(st.Wait)
	}
	if s.opts.DeadLetters > 0 && slices.ContainsFunc(st.Results, isDead) {
		s.sweepIn(0)
	}
	if err := s.wakeParked(ctx, p, lease.Host, parked); err != nil {
		return nil, err
	}
	if len(g.turns[0].Deliveries)+len(g.superseded) == 0 {
		return nil, nil
	}
	return s.next(ctx, p, g, st.Release), nil
}

// next returns what settle.lua gave. Where nothing of that can be sent, the turn ends if it was to.
func (s *Store) next(ctx context.Context, p *partition, g *given, release bool) []queue.Delivery {
	t := g.turns[0]
	gave := len(t.Deliveries) > 0
	err := s.complete(ctx, p, g)
	if release && gave && (err != nil || len(t.Deliveries) == 0) {
		_, err = s.Settle(context.WithoutCancel(ctx), t.Lease, queue.Settlement{Release: true}, 0) // else it lapses
	}
	if err != nil {
		return nil
	}
	return t.Deliveries
}

func isDead(r queue.Result) bool { return r.Verdict == queue.Dead }

// settlement returns a settlement as its script wants it, which may begin a turn.
func (p *partition) settlement(lease lockmgr.Lease, st queue.Settlement, n int, begins bool) *batchedCall {
	var host, epoch, flags string
	if st.Host != nil {
		host = shrinkRecord(st.Host)
		epoch = strconv.FormatInt(st.Host.Epoch, 10)
		flags = strconv.Itoa(recordFlags(st.Host))
	}
	wait := "-1"
	if st.Wait >= 0 {
		wait = upMillis(st.Wait)
	}
	keys := append(p.lane(nil, lease.Host), p.Of(rediskeys.Lease, lease.Host))
	args := []string{
		"", "", lease.Host, strconv.FormatUint(lease.Token, 10), upMillis(lease.TTL), wait, upMillis(st.Asked), flag(st.Recovered), flag(st.Release),
		host, epoch, flags, strconv.Itoa(n), flag(begins),
	}
	positions := map[string]int{}
	results := 0
	for _, r := range st.Results {
		id, ordinal, ok := p.splitID(r.ID)
		if !ok {
			continue
		}
		text := id.String()
		if _, known := positions[text]; !known {
			positions[text] = len(positions)
			keys = p.activity(keys, text)
		}
		var last string // what was delivered is gone, and at most in the feed
		if r.Verdict != queue.Delivered || p.opts.Feed.Delivered {
			last = shrinkAttempt(r.Attempt)
		}
		results++
		args = append(args, strconv.Itoa(positions[text]), strconv.FormatInt(ordinal, 10), strconv.Itoa(int(r.Verdict)),
			upMillis(r.After), flag(r.HostFailed), flag(r.Spent), flag(r.WaitKey), string(r.Reason), last)
	}
	args[0] = strconv.Itoa(len(positions))
	args[1] = strconv.Itoa(results)
	return &batchedCall{p: p, apart: lease.Host, keys: keys, args: args}
}

// wakeParked makes due what was just made to wait for keys that are there. A key that comes after this look finds the
// lane by itself.
func (s *Store) wakeParked(ctx context.Context, p *partition, host string, hashes []string) error {
	for _, hash := range slices.Compact(slices.Sorted(slices.Values(hashes))) {
		there := false
		err := s.read(ctx, s.client.B().Hexists().Key(s.partitionOf(hash).Key(rediskeys.Keys)).Field(hash).Build(), &there)
		if err == nil && there {
			err = p.run(ctx, script.Unpark, p.lane(nil, host), []string{hash, host})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
