package redisq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

const (
	sweepActivities = 64          // activities and dead letters of each kind in one sweep of a partition
	sweepSoon       = time.Second // when to look again where nothing could go, but there is more
	waitShare       = 24          // a finished part waits for others of its activity that share of the retention at a time
)

// Sweep implements queue.Lanes. Any node may sweep at any time: each step does nothing where another was quicker. Called
// before there can be anything to do it asks Redis for nothing: each node looks once in queue.MaxIdle, when something is
// known to be over, and when what it accepted itself expires.
func (s *Store) Sweep(ctx context.Context) (time.Duration, error) {
	s.payDebts(ctx)
	if wait := time.Duration(s.sweepAt.Load()) - time.Since(s.start); wait > 0 {
		return wait, nil
	}
	s.sweepAt.Store(int64(time.Since(s.start) + queue.MaxIdle)) // first: what is accepted meanwhile may come before
	next, err := s.sweepAll(ctx)
	s.sweepIn(next) // at once after an error
	return next, err
}

// sweepIn tells that there may be something to sweep in a while.
func (s *Store) sweepIn(d time.Duration) {
	at := int64(time.Since(s.start) + d)
	for {
		old := s.sweepAt.Load()
		if old <= at || s.sweepAt.CompareAndSwap(old, at) {
			return
		}
	}
}

func (s *Store) sweepAll(ctx context.Context) (time.Duration, error) {
	var mu sync.Mutex
	next, letters := queue.MaxIdle, 0
	unsure := s.confirm(ctx)
	err := s.each(func(p *partition) error {
		n, dead, err := s.sweep(ctx, p)
		mu.Lock()
		defer mu.Unlock()
		next, letters = min(next, n), letters+dead
		return err
	})
	if err := errors.Join(unsure, err); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	if s.opts.DeadLetters > 0 && letters > s.opts.DeadLetters {
		next = 0
		if _, err := s.discardOldest(ctx); err != nil {
			return 0, fmt.Errorf("sweep: %w", err)
		}
	}
	return next, nil
}

// sweep does one bounded step in a partition, and returns when there is more to do, and how many dead letters there were.
func (s *Store) sweep(ctx context.Context, p *partition) (next time.Duration, letters int, err error) {
	a, err := s.array(ctx, sweepScript, p, nil, []string{
		millis(s.opts.Retention), millis(s.opts.DeadRetention), millis(stageTTL), strconv.Itoa(sweepActivities),
	})
	if err != nil {
		return 0, 0, err
	}
	var n [2]int64 // in how many ms there is more, dead letters
	for i := range n {
		if n[i], err = a[i].AsInt64(); err != nil {
			return 0, 0, err
		}
	}
	did, found := 0, 0
	for i, step := range []func(context.Context, *partition, []string) (int, error){s.expire, s.dropLetters, s.forget, s.decide, s.relieve} {
		names, err := a[i+len(n)].AsStrSlice()
		if err != nil {
			return 0, 0, err
		}
		n, err := step(ctx, p, names)
		if err != nil {
			return 0, 0, err
		}
		did += n
		found += len(names)
	}
	switch soonest := time.Duration(n[0]) * time.Millisecond; {
	case did > 0:
		next = 0
	case found > 0:
		next = sweepSoon // what was taken as it expired; and there may be more behind it
	case soonest < 0:
		next = queue.MaxIdle
	default:
		next = max(time.Millisecond, soonest)
	}
	return next, int(n[1]), nil
}

// expire makes dead letters of what pends of activities that have outlived their TTL.
func (s *Store) expire(ctx context.Context, p *partition, names []string) (did int, err error) {
	for _, name := range names {
		id := uuid.UUID([]byte(name))
		n, err := s.removeAll(ctx, p, id, expire)
		if err != nil {
			return did, err
		}
		if did += n; did >= chunk*4 {
			break
		}
	}
	return did, nil
}

// dropLetters drops dead letters that were kept long enough.
func (s *Store) dropLetters(ctx context.Context, p *partition, names []string) (int, error) {
	return s.discard(ctx, p, names, discarding{})
}

// forget drops finished activities. The home partition decides when all of an activity is over, and goes first: from
// then on the activity isn't found any more. What a node that died then left of it in other partitions goes by itself.
func (s *Store) forget(ctx context.Context, p *partition, names []string) (did int, err error) {
	for _, name := range names {
		id := uuid.UUID([]byte(name))
		drop, err := s.isOver(ctx, p, id.String())
		if err != nil {
			return did, err
		}
		if drop == nil {
			_, err = s.number(ctx, forgetScript, p, p.activity(nil, id.String()), []string{name, millis(s.opts.Retention - s.opts.Retention/waitShare)})
		}
		for _, part := range drop {
			_, err = s.number(ctx, forgetScript, part, part.activity(nil, id.String()), []string{name, ""})
			if err != nil {
				break
			}
			did++
		}
		if err != nil {
			return did, err
		}
	}
	return did, nil
}

// isOver returns the partitions from which a finished activity can go, home first: none as long as anything pends, is a
// dead letter, or was finished too recently in another partition.
func (s *Store) isOver(ctx context.Context, p *partition, id string) (drop []*partition, err error) {
	if home := s.partitionOf(id); p != home {
		if _, found, err := s.readPart(ctx, home, id); err != nil || found {
			return nil, err
		}
		return []*partition{p}, nil
	}
	parts, err := s.readParts(ctx, id)
	if err != nil {
		return nil, err
	}
	last := parts[0].finished
	for _, part := range parts {
		if part.counts.Pending > 0 || part.letters > 0 {
			return nil, nil
		}
		last = max(last, part.finished)
		drop = append(drop, part.partition)
	}
	if last == parts[0].finished {
		return drop, nil
	}
	now, err := s.now(ctx)
	if err != nil || now-last < s.opts.Retention.Milliseconds() {
		return nil, err
	}
	return drop, nil
}

// now is Redis's time, in ms.
func (s *Store) now(ctx context.Context) (int64, error) {
	answers, err := s.do(ctx, s.client.B().Time().Build())
	if err != nil {
		return 0, err
	}
	f, err := fields(answers[0], 2)
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseInt(f[0].text, 10, 64)
	if err != nil {
		return 0, err
	}
	micros, err := strconv.ParseInt(f[1].text, 10, 64)
	return seconds*1000 + micros/1000, err
}

// decide looks what became of activities that have been staged for long.
func (s *Store) decide(ctx context.Context, p *partition, names []string) (did int, err error) {
	for _, name := range names {
		id := uuid.UUID([]byte(name))
		committed, undecided, err := s.isCommitted(ctx, p, id)
		switch {
		case err != nil:
			return did, err
		case undecided:
			continue
		case committed:
			err = s.releaseRest(ctx, p, id)
		default:
			err = s.unstage(ctx, p, id)
		}
		if err != nil {
			return did, err
		}
		did++
	}
	return did, nil
}

// abandon gives up an activity that is staged, unless it was committed.
func (s *Store) abandon(ctx context.Context, p *partition, id uuid.UUID) error {
	claim, err := s.claimOf(ctx, p, id)
	if err == nil && claim != "" {
		_, err = s.number(ctx, commitScript, s.partitionOf(claim), []string{s.partitionOf(claim).Of("claim", claim)}, []string{string(id[:]), ""})
	}
	return err
}

// claimOf returns the claim of an activity that is staged, "" if it isn't any more.
func (s *Store) claimOf(ctx context.Context, p *partition, id uuid.UUID) (string, error) {
	answers, err := s.do(ctx, s.client.B().Hget().Key(p.Of("a", id.String())).Field("s").Build())
	if err != nil || answers[0].IsNil() {
		return "", err
	}
	return answers[0].ToString()
}

// isCommitted asks the claim of an activity's idempotency key.
func (s *Store) isCommitted(ctx context.Context, p *partition, id uuid.UUID) (committed, undecided bool, err error) {
	claim, err := s.claimOf(ctx, p, id)
	if err != nil {
		return false, false, err
	}
	answers, err := s.do(ctx, s.client.B().Hmget().Key(s.partitionOf(claim).Of("claim", claim)).Field("i", "s").Build())
	if err != nil {
		return false, false, err
	}
	f, err := fields(answers[0], 2)
	return f[0].text == string(id[:]), f[1].text == string(id[:]), err
}
