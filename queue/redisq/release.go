package redisq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// releaser moves what is staged into the lanes.
type releaser struct {
	*conn
	*channels
	mu        sync.Mutex
	left      map[unreleased]bool // what Sweep is to release; guarded by mu
	underWay  chan struct{}       // has an element for each release that goes on after its call, so many at most
	releases  errands             // those
	reporting errands             // those that make reports
}

// release moves a committed submission into the lanes. The caller does not wait for a
// large one: it is stored, and a call that depends on it, above all an activity that has to stand behind it, releases it first.
func (in *intake) release(ctx context.Context, all batches) {
	if len(in.sub.Recipients) > large {
		select {
		case in.s.underWay <- struct{}{}:
			in.s.broadcast(context.WithoutCancel(ctx), stagedMessage)
			in.s.releases.Go(func() {
				defer func() { <-in.s.underWay }()
				_ = in.releaseAll(ctx, all) // Sweep tries again
				in.s.sweepLanes(in.sub)
			})
			return
		default: // the caller of one more than may be under way waits
		}
	}
	_ = in.releaseAll(ctx, all) // Sweep tries again
}

// releaseAll moves a committed submission into the lanes. If that fails for some, Sweep tries again or,
// if this node dies, another node's Sweep. Deliveries with a past keep their order in each lane.
func (in *intake) releaseAll(ctx context.Context, all batches) error {
	ctx = context.WithoutCancel(ctx) // it is accepted whatever the caller does now
	atOnce := releasing
	if in.past != nil {
		atOnce = 1
	}
	err := all.each(atOnce, func(p *partition, n int, to []lane) error {
		_, err := in.s.releaseSome(ctx, p, in.id, strconv.Itoa(n), hostsOf(to))
		if err != nil {
			in.s.leave(p, in.id)
		}
		return err
	})
	if err == nil {
		_ = in.s.endClaim(ctx, in.claim) // else it lasts for longer than it must
	}
	return err
}

// releaseRest releases a committed activity in a partition and, if that was the last, lets its claim last as long as that
// of any other.
func (s *releaser) releaseRest(ctx context.Context, p *partition, id uuid.UUID) error {
	here, found, err := p.readPart(ctx, id.String())
	if err == nil && found && !strings.HasSuffix(here.staged, attemptMark+moved) {
		err = s.noteObject(ctx, here.asActivity(id.String()), here.Undoes)
	}
	if err != nil {
		return err
	}
	if err := s.release(ctx, p, id); err != nil || here.staged == "" {
		return err
	}
	parts, err := s.readParts(ctx, id.String())
	if errors.Is(err, queue.ErrNotFound) {
		return nil
	}
	if err != nil || slices.ContainsFunc(parts, func(p part) bool { return p.staged != "" }) {
		return err
	}
	claim, _, _ := strings.Cut(here.staged, attemptMark)
	return s.endClaim(ctx, claim)
}

// endClaim lets the claim of what is all released last as long as that of any other idempotency key; that of none goes.
func (s *releaser) endClaim(ctx context.Context, claim string) error {
	key := s.partitionOf(claim).Of(rediskeys.Claim, claim)
	if !isKey(claim) {
		_, err := s.do(ctx, s.client.B().Del().Key(key).Build())
		return err
	}
	_, err := s.do(ctx, s.client.B().Pexpire().Key(key).Milliseconds(queue.IdempotencyTTL.Milliseconds()).Lt().Build())
	return err
}

// unreleased is what is committed of an activity in a partition and could not be released.
type unreleased struct {
	p  *partition
	id uuid.UUID
}

// leave leaves an activity in a partition to Sweep.
func (s *releaser) leave(p *partition, id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left[unreleased{p, id}] = true
}

// retryReleases releases what is left, in random order, until that fails.
func (s *releaser) retryReleases(ctx context.Context) {
	s.mu.Lock()
	list := slices.Collect(maps.Keys(s.left))
	s.mu.Unlock()
	for _, d := range list {
		if err := s.releaseRest(ctx, d.p, d.id); err != nil {
			s.logLimited("release", fmt.Errorf("release %s: %w", d.id, err))
			return
		}
		s.mu.Lock()
		delete(s.left, d)
		s.mu.Unlock()
	}
}

// release moves what is staged of an activity into the lanes of a partition.
func (s *releaser) release(ctx context.Context, p *partition, id uuid.UUID) error {
	for left := true; left; {
		var call string
		var hosts []string
		err := p.run(ctx, script.Staged, p.staging(id.String()), nil, &call, &hosts)
		if err != nil {
			return err
		}
		hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
		if left, err = s.releaseSome(ctx, p, id, call, hosts); err != nil {
			return err
		}
	}
	return nil
}

// releaseSome moves what a call staged, deliveries to these hosts at most, and reports whether more is staged.
func (s *releaser) releaseSome(ctx context.Context, p *partition, id uuid.UUID, call string, hosts []string) (left bool, err error) {
	args := append([]string{string(id[:]), call}, hosts...)
	var fed int
	var due []rueidis.RedisMessage
	err = p.run(ctx, script.Release, p.lanes(p.staging(id.String()), hosts), args, &left, &fed, &due)
	if err == nil {
		err = s.noteFeed(p, fed, due)
	}
	return left, err
}

// decide looks what became of activities that have been staged for long.
func (s *releaser) decide(ctx context.Context, p *partition, names []string) (did int, err error) {
	for _, name := range names {
		id := uuid.UUID([]byte(name))
		committed, undecided, staged, err := s.isCommitted(ctx, p, id)
		switch {
		case err != nil:
			return did, err
		case undecided:
			continue
		case committed:
			err = s.releaseRest(ctx, p, id)
		default:
			err = p.unstage(ctx, id, staged)
		}
		if err != nil {
			return did, err
		}
		did++
	}
	return did, nil
}

// releaseStaged looks what became of all that is staged in a partition, and returns how many activities that were: those that
// are committed are in their lanes then.
func (s *releaser) releaseStaged(ctx context.Context, p *partition) (int, error) {
	var names []string
	err := p.members(ctx, rediskeys.Staged, func(z rueidis.ZScore) { names = append(names, z.Member) })
	if err == nil {
		_, err = s.decide(ctx, p, names)
	}
	return len(names), err
}

// abandon gives up an activity that is staged, unless it was committed.
func (s *releaser) abandon(ctx context.Context, p *partition, id uuid.UUID) error {
	claim, _, err := p.claimOf(ctx, id)
	if err == nil && claim != "" {
		_, err = s.commitClaim(ctx, claim, string(id[:]), "")
	}
	return err
}

// claimOf returns the claim of an activity that is staged, and how it is stored with that; "" if it isn't staged any more.
func (p *partition) claimOf(ctx context.Context, id uuid.UUID) (claim, staged string, err error) {
	err = p.read(ctx, p.client.B().Hget().Key(p.Of(rediskeys.Activity, id.String())).Field("s").Build(), &staged)
	claim, _, _ = strings.Cut(staged, attemptMark)
	return claim, staged, err
}

// isCommitted asks the claim of an activity.
func (s *releaser) isCommitted(ctx context.Context, p *partition, id uuid.UUID) (committed, undecided bool, staged string, err error) {
	claim, staged, err := p.claimOf(ctx, id)
	if err != nil {
		return false, false, "", err
	}
	var stored, claiming string
	err = s.read(ctx, s.client.B().Hmget().Key(s.partitionOf(claim).Of(rediskeys.Claim, claim)).Field("i", "s").Build(), &stored, &claiming)
	return stored == string(id[:]), claiming == string(id[:]), staged, err
}
