package redisq

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Settle implements queue.Lanes.
func (s *Store) Settle(ctx context.Context, lease lockmgr.Lease, st queue.Settlement) error {
	p := s.partitionOf(lease.Host)
	c, err := s.settlement(p, lease, st)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	a, err := p.settles.call(ctx, c)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if held, err := a[0].AsInt64(); err != nil || held == 0 {
		return fmt.Errorf("settle %s: %w", lease.Host, orNotHeld(err))
	}
	state, err := a[1].ToString()
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	s.tellState(lease.Host, state)
	excess, err := a[2].AsInt64()
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if excess > 0 || s.opts.DeadLetters > 0 && slices.ContainsFunc(st.Results, isDead) {
		s.sweepIn(0)
	}
	if err := s.wakeParked(ctx, p, lease.Host, a[3:]); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

func isDead(r queue.Result) bool { return r.Verdict == queue.Dead }

func orNotHeld(err error) error {
	if err == nil {
		return queue.ErrNotHeld
	}
	return err
}

// settlement returns a settlement as its script wants it.
func (s *Store) settlement(p *partition, lease lockmgr.Lease, st queue.Settlement) (c *gathered, err error) {
	var host, epoch, flags string
	if st.Host != nil {
		if host, err = shrinkRecord(st.Host); err != nil {
			return nil, err
		}
		epoch, flags = strconv.FormatInt(st.Host.Epoch, 10), strconv.Itoa(recordFlags(st.Host))
	}
	wait := "-1"
	if st.Wait >= 0 {
		wait = upMillis(st.Wait)
	}
	keys := append(p.lane(nil, lease.Host), p.Of("lease", lease.Host))
	args := []string{
		"", "", lease.Host, strconv.FormatUint(lease.Token, 10), upMillis(lease.TTL), wait, upMillis(st.Asked), flag(st.Recovered), flag(st.Release),
		host, epoch, flags,
	}
	places, results := map[string]int{}, 0
	for _, r := range st.Results {
		id, ordinal, ok := s.splitID(p, r.ID)
		if !ok {
			continue
		}
		text := id.String()
		if _, known := places[text]; !known {
			places[text] = len(places)
			keys = p.activity(keys, text)
		}
		var last string // what was delivered is gone
		if r.Verdict != queue.Delivered {
			if last, err = shrinkAttempt(r.Attempt); err != nil {
				return nil, err
			}
		}
		results++
		args = append(args, strconv.Itoa(places[text]), strconv.FormatInt(ordinal, 10), strconv.Itoa(int(r.Verdict)),
			upMillis(r.After), flag(r.HostFailed), flag(r.Spent), flag(r.WaitKey), string(r.Reason), last)
	}
	args[0], args[1] = strconv.Itoa(len(places)), strconv.Itoa(results)
	return &gathered{apart: lease.Host, keys: keys, args: args}, nil
}

// wakeParked makes due what was just made to wait for keys that are there. A key that comes after this look finds the
// lane by itself.
func (s *Store) wakeParked(ctx context.Context, p *partition, host string, hashes []rueidis.RedisMessage) error {
	seen := map[string]bool{}
	for _, m := range hashes {
		hash, err := m.ToString()
		if err != nil {
			return err
		}
		if seen[hash] {
			continue
		}
		seen[hash] = true
		answers, err := s.do(ctx, s.client.B().Hexists().Key(s.partitionOf(hash).Key("keys")).Field(hash).Build())
		if err != nil {
			return err
		}
		if there, err := answers[0].AsInt64(); err != nil || there == 0 {
			return err
		}
		if _, err := s.number(ctx, unparkScript, p, p.lane(nil, host), []string{hash, host}); err != nil {
			return err
		}
	}
	return nil
}
