package redisq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

const (
	sweepActivities = 64          // activities and dead letters of each kind in one sweep of a partition
	sweepSoon       = time.Second // when to look again where nothing could go, but there is more
	waitShare       = 24          // a finished part waits for others of its activity that share of the retention at a time
)

// sweeper keeps the store within its bounds.
type sweeper struct {
	*conn
	*channels
	*releaser
	*reader
	*keyring
	known knownHosts
}

// Sweep implements queue.Lanes. Any node may sweep at any time: each step does nothing where another was quicker. Called
// before there can be anything to do it asks Redis for nothing: each node looks once in queue.MaxIdle, when something is
// known to be over, and when what it accepted itself expires.
func (s *sweeper) Sweep(ctx context.Context) (time.Duration, error) {
	s.retryReleases(ctx)
	if wait := time.Duration(s.sweepAt.Load()) - time.Since(s.start); wait > 0 {
		return wait, nil
	}
	s.sweepAt.Store(int64(time.Since(s.start) + queue.MaxIdle)) // first: what is accepted meanwhile may come before
	next, err := s.sweepAll(ctx)
	s.sweepIn(next) // at once after an error
	return next, err
}

// sweepIn says that there may be something to sweep after d.
func (s *channels) sweepIn(d time.Duration) { bringForward(&s.sweepAt, time.Since(s.start)+d) }

func (s *sweeper) sweepAll(ctx context.Context) (_ time.Duration, err error) {
	defer wrap(&err, "sweep")
	var mu sync.Mutex
	next := queue.MaxIdle
	var kept bounded
	unsure := s.confirm(ctx)
	err = s.forEach(func(p *partition) error {
		n, there, err := s.sweep(ctx, p)
		mu.Lock()
		defer mu.Unlock()
		next = min(next, n)
		kept.letters += there.letters
		kept.entries += there.entries
		return err
	})
	forgotten, failed := s.forgetHosts(ctx)
	if err := errors.Join(unsure, err, failed); err != nil {
		return 0, err
	}
	if forgotten > 0 {
		next = 0
	}
	if s.opts.DeadLetters > 0 && kept.letters > s.opts.DeadLetters {
		next = 0
		err = s.discardOldest(ctx)
	}
	if s.opts.Feed.Cap > 0 && kept.entries > s.opts.Feed.Cap {
		next = 0
		err = errors.Join(err, s.trimFeed(ctx, kept.entries-s.opts.Feed.Cap))
	}
	return next, err
}

// bounded counts what the whole store keeps so many of at most.
type bounded struct{ letters, entries int } // entries of the feed

// sweep does one bounded step in a partition, and returns when there is more to do, and what there was.
func (s *sweeper) sweep(ctx context.Context, p *partition) (next time.Duration, there bounded, err error) {
	var lists []rueidis.RedisMessage
	var wait int64  // in how many ms there is more
	var mark string // how far a review is
	err = p.run(ctx, script.Sweep, nil, []string{
		millis(s.opts.Retention), millis(s.opts.DeadRetention), millis(stageTTL), millis(s.opts.Feed.Retention), strconv.Itoa(sweepActivities),
	}, &wait, &there.letters, &there.entries, &lists, &mark)
	if err != nil {
		return 0, there, err
	}
	if err := s.retireKeys(ctx, p); err != nil {
		return 0, there, err
	}
	did := 0
	found := 0
	if mark != "" {
		if err := s.review(ctx, p, mark); err != nil {
			return 0, there, err
		}
		did++
	}
	for i, step := range swept {
		var names []string
		if err := scan(lists[i], &names); err != nil {
			return 0, there, err
		}
		if names, err = p.wellFormed(ctx, step.kind, step.length, names); err != nil {
			return 0, there, err
		}
		n, err := step.do(s, ctx, p, names)
		if scriptFailed(err) && !isBrokenKey(err) { // over what is damaged: the other steps go on
			s.logLimited("sweep "+string(step.kind), fmt.Errorf("sweep what %s lists: %w", p.Key(step.kind), err))
			err = nil
		}
		if err != nil {
			return 0, there, err
		}
		did += n
		found += len(names)
	}
	switch soonest := time.Duration(wait) * time.Millisecond; {
	case did > 0:
		next = 0
	case found > 0:
		next = sweepSoon // what was taken as it expired; and there may be more behind it
	case soonest < 0:
		next = queue.MaxIdle
	default:
		next = max(time.Millisecond, soonest)
	}
	return next, there, nil
}

// expire makes dead letters of what pends of activities that have outlived their TTL.
func (s *sweeper) expire(ctx context.Context, p *partition, names []string) (did int, err error) {
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
func (s *sweeper) dropLetters(ctx context.Context, p *partition, names []string) (int, error) {
	return p.discard(ctx, names, 0, false)
}

// swept is what sweep.lua finds: the kind of the key, how long its members are, 0 where any will do, and what is done with them.
var swept = []struct {
	kind   rediskeys.Kind
	length int
	do     func(*sweeper, context.Context, *partition, []string) (int, error)
}{
	{rediskeys.Expires, idBytes, (*sweeper).expire}, {rediskeys.Dead, letterBytes, (*sweeper).dropLetters},
	{rediskeys.Done, idBytes, (*sweeper).forget}, {rediskeys.Staged, idBytes, (*sweeper).decide},
	{rediskeys.Excess, 0, (*sweeper).relieve}, {rediskeys.Tombs, 0, (*sweeper).dropTombstones},
	{rediskeys.Outdated, letterBytes, (*sweeper).supersede}, {rediskeys.Ended, reportBytes, (*sweeper).report},
}

// wellFormed returns those members of a key that can be what they should, and takes the others out.
func (p *partition) wellFormed(ctx context.Context, kind rediskeys.Kind, length int, names []string) (good []string, err error) {
	for _, name := range names {
		if length == 0 || len(name) == length {
			good = append(good, name)
			continue
		}
		p.log.Error("store.damaged", "error", &damage{p.Key(kind), name, "it is taken out"})
		if _, err := p.do(ctx, p.client.B().Zrem().Key(p.Key(kind)).Member(name).Build()); err != nil {
			return nil, err
		}
	}
	return good, nil
}
