package redisq

import (
	"context"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

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
		return p.discard(ctx, names, 0, false)
	})
}

// discard drops letters of a partition, where so many must stay. tooMany is why: there are more than the limit.
func (p *partition) discard(ctx context.Context, names []string, keep int, tooMany bool) (int, error) {
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
	args := []string{strconv.Itoa(keep), flag(tooMany)}
	for _, id := range order {
		args = append(append(args, id, strconv.Itoa(len(ordinals[id]))), ordinals[id]...)
	}
	return p.number(ctx, script.Discard, p.activities(order), args)
}

// discardOldest drops the oldest letters while there are more than the limit in all partitions together: some of them.
func (s *sweeper) discardOldest(ctx context.Context) error {
	names, there, err := s.oldest(ctx)
	for p, some := range names {
		if err == nil {
			_, err = p.discard(ctx, some, there[p.N]-len(some), true)
		}
	}
	return err
}

// oldest returns the names of the oldest letters above the limit, by partition, and how many each partition had when that was found
// out: so two nodes that find out the same drop no more than one of them would.
func (s *sweeper) oldest(ctx context.Context) (names map[*partition][]string, there []int, err error) {
	there, err = ask[int](ctx, s.conn, func(p *partition) rueidis.Completed {
		return s.client.B().Zcard().Key(p.Key(rediskeys.Dead)).Build()
	})
	if err != nil {
		return nil, nil, err
	}
	all, err := fromEach(s.conn, func(p *partition) ([]letterID, error) {
		return p.lettersByTime(ctx, s.client.B().Zrange().Key(p.Key(rediskeys.Dead)).Min("0").Max(strconv.Itoa(chunk-1)).Withscores().Build())
	})
	letters := slices.Concat(all...)
	slices.SortFunc(letters, func(a, b letterID) int { return b.compare(a) })
	names = map[*partition][]string{}
	for _, l := range letters[:max(0, min(sum(there)-s.opts.DeadLetters, chunk, len(letters)))] {
		names[l.partition] = append(names[l.partition], l.name)
	}
	return names, there, err
}
