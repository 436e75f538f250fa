package redisq

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// reviveChunk is how many dead letters one script makes pending again, or drops.
const reviveChunk = 100

// RetryDead implements queue.Operating.
func (s *Store) RetryDead(ctx context.Context, which queue.DeadLetterChoice, ttl time.Duration) (_ queue.DeadLetterCount, err error) {
	defer wrap(&err, "retry dead letters")
	superseded := 0
	count, err := s.forChosen(ctx, which, func(p *partition, letters []*queue.DeadLetter) (int, error) {
		done, left, err := s.revive(ctx, p, letters, ttl)
		superseded += left
		return done, err
	})
	count.Superseded = superseded
	if err != nil {
		return count, err
	}
	s.sweepIn(ttl)
	if s.opts.Lane > 0 { // a lane may hold too much now
		s.sweepIn(0)
	}
	return count, nil
}

// reviveTries is how often another report may come in between.
const reviveTries = 10

// revive makes letters of a partition pending again, but for those that are superseded, once the homes of their activities know
// of it; see reports.go. It counts both.
func (s *Store) revive(ctx context.Context, p *partition, letters []*queue.DeadLetter, ttl time.Duration) (revived, superseded int, err error) {
	ids := activitiesOf(p, letters)
	for range reviveTries {
		var reports []report
		if len(s.parts) > 1 {
			if reports, err = p.standing(ctx, ids, true); err == nil {
				_, err = s.tellHomes(ctx, reports)
			}
		}
		if err == nil {
			revived, superseded, err = p.revive(ctx, letters, ttl, reports)
		}
		if err != nil || revived >= 0 {
			s.reportAgain(ctx, p, reports)
			return max(0, revived), superseded, err
		}
	}
	return 0, 0, fmt.Errorf("%w: %w", queue.ErrBusy, errContended)
}

// reportAgain tells homes how parts of activities are after dead letters of them were, or were not, made pending again.
func (s *Store) reportAgain(ctx context.Context, p *partition, before []report) {
	names := make([]string, len(before))
	for i := range before {
		names[i] = before[i].name()
	}
	if _, err := s.report(context.WithoutCancel(ctx), p, names); err != nil {
		s.sweepIn(stageTTL) // they are still due
	}
}

// activitiesOf returns the IDs of the activities of letters, each once.
func activitiesOf(p *partition, letters []*queue.DeadLetter) (ids []string) {
	seen := map[string]bool{}
	for _, l := range letters {
		if id := p.nameOf(l)[:idBytes]; !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids
}

// revive does so if the last report on each activity is one of these. If not, it changes nothing and returns -1.
func (p *partition) revive(ctx context.Context, letters []*queue.DeadLetter, ttl time.Duration, known []report) (revived, superseded int, err error) {
	numbers := map[string]string{}
	for _, r := range known {
		numbers[r.id] = strconv.Itoa(r.number)
	}
	var hosts, ids, args []string
	place := func(names *[]string, name string) string {
		i := slices.Index(*names, name)
		if i < 0 {
			i = len(*names)
			*names = append(*names, name)
		}
		return strconv.Itoa(i)
	}
	for _, l := range letters {
		_, ordinal, _ := p.splitID(l.ID) // it was made of the name
		args = append(args, place(&hosts, l.Host), place(&ids, l.ActivityID), strconv.FormatInt(ordinal, 10), sixBytes(l.Inbox),
			cmp.Or(numbers[p.nameOf(l)[:idBytes]], "0"))
	}
	keys := p.lanes(nil, hosts)
	for _, id := range ids {
		keys = p.activity(keys, id)
	}
	args = append(append([]string{upMillis(ttl), strconv.Itoa(len(hosts))}, hosts...), args...)
	err = p.run(ctx, script.Revive, keys, args, &revived, &superseded)
	return revived, superseded, err
}
