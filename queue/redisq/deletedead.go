package redisq

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// DeleteDead implements queue.Operating.
func (s *Store) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (_ queue.DeadLetterCount, err error) {
	defer wrap(&err, "delete dead letters")
	return s.forChosen(ctx, which, func(p *partition, letters []*queue.DeadLetter) (int, error) {
		names := make([]string, len(letters))
		for i, l := range letters {
			names[i] = p.nameOf(l)
		}
		return p.discard(ctx, names, discarding{})
	})
}

// discarding says how many letters must stay in a partition, and whether others go because there are too many.
type discarding struct {
	keep    int
	tooMany bool
}

// discard drops letters of a partition.
func (p *partition) discard(ctx context.Context, names []string, how discarding) (int, error) {
	if len(names) == 0 {
		return 0, nil
	}
	var order []string
	ordinals := map[string][]string{}
	for _, name := range names {
		id := name[:16]
		if ordinals[id] == nil {
			order = append(order, id)
		}
		ordinals[id] = append(ordinals[id], ordinalOf(name))
	}
	args := []string{strconv.Itoa(how.keep), flag(how.tooMany)}
	for _, id := range order {
		args = append(append(args, id, strconv.Itoa(len(ordinals[id]))), ordinals[id]...)
	}
	return p.number(ctx, script.Discard, p.activities(order), args)
}

// discardOldest drops the oldest letters while there are more than the limit in all partitions together: some of them.
func (s *sweeper) discardOldest(ctx context.Context) error {
	all, err := s.oldest(ctx)
	for p, o := range all {
		if err == nil {
			_, err = p.discard(ctx, o.names, discarding{keep: o.there - len(o.names), tooMany: true})
		}
	}
	return err
}

// oldestLetters are the letters of a partition that are to go, and how many there were when that was found out: so two
// nodes that find out the same drop no more than one of them would.
type oldestLetters struct {
	there int
	names []string
}

// oldest returns the oldest letters above the limit.
func (s *sweeper) oldest(ctx context.Context) (map[*partition]*oldestLetters, error) {
	var mu sync.Mutex
	all := map[*partition]*oldestLetters{}
	over := -s.opts.DeadLetters
	var letters []letterID
	err := s.forEach(func(p *partition) error {
		n := 0
		if err := s.read(ctx, s.client.B().Zcard().Key(p.Key(rediskeys.Dead)).Build(), &n); err != nil {
			return err
		}
		first := s.client.B().Zrange().Key(p.Key(rediskeys.Dead)).Min("0").Max(strconv.Itoa(chunk - 1)).Withscores().Build()
		some, err := p.lettersByTime(ctx, first)
		mu.Lock()
		defer mu.Unlock()
		all[p] = &oldestLetters{there: n}
		letters = append(letters, some...)
		over += n
		return err
	})
	slices.SortFunc(letters, func(a, b letterID) int { return b.compare(a) })
	for _, l := range letters[:max(0, min(over, chunk, len(letters)))] {
		all[l.partition].names = append(all[l.partition].names, l.name)
	}
	return all, err
}
