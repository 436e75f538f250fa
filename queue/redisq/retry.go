package redisq

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// reviveChunk is how many dead letters one script makes pending again, or drops.
const reviveChunk = 100

// RetryDead implements queue.Operating.
func (s *Store) RetryDead(ctx context.Context, which queue.DeadLetterChoice, ttl time.Duration) (queue.DeadLetterCount, error) {
	count, err := s.forChosen(ctx, which, func(p *partition, letters []*queue.DeadLetter) (int, error) {
		return s.revive(ctx, p, letters, ttl)
	})
	if err != nil {
		return count, fmt.Errorf("retry dead letters: %w", err)
	}
	s.sweepIn(ttl)
	if s.opts.Lane > 0 { // a lane may hold too much now
		s.sweepIn(0)
	}
	return count, nil
}

// DeleteDead implements queue.Operating.
func (s *Store) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
	count, err := s.forChosen(ctx, which, func(p *partition, letters []*queue.DeadLetter) (int, error) {
		names := make([]string, len(letters))
		for i, l := range letters {
			names[i] = s.nameOf(p, l)
		}
		return s.discard(ctx, p, names, discarding{})
	})
	if err != nil {
		return count, fmt.Errorf("delete dead letters: %w", err)
	}
	return count, nil
}

// forChosen calls do for the letters that are meant, some of one partition at a time, and adds up what that returns.
func (s *Store) forChosen(ctx context.Context, which queue.DeadLetterChoice, do func(*partition, []*queue.DeadLetter) (int, error)) (count queue.DeadLetterCount, err error) {
	err = s.chosen(ctx, which, func(page []letterID) error {
		letters, err := s.read(ctx, page)
		if err != nil {
			return err
		}
		byPartition := map[*partition][]*queue.DeadLetter{}
		for i, l := range letters {
			if l != nil && passes(l, which) {
				byPartition[page[i].partition] = append(byPartition[page[i].partition], l)
				count.Matched++
			}
		}
		for p, letters := range byPartition {
			for some := range slices.Chunk(letters, reviveChunk) {
				if which.DryRun {
					continue
				}
				n, err := do(p, some)
				count.Done += n
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	return count, err
}

// passes tells whether a letter that was found is meant.
func passes(l *queue.DeadLetter, which queue.DeadLetterChoice) bool {
	f := which.Filter
	return len(which.IDs) > 0 || (f.Host == "" || f.Host == l.Host) && (f.Reason == "" || f.Reason == l.Reason)
}

// chosen calls next with the letters that may be meant, in pages.
func (s *Store) chosen(ctx context.Context, which queue.DeadLetterChoice, next func([]letterID) error) error {
	if len(which.IDs) > 0 {
		for page := range slices.Chunk(s.letterIDs(which.IDs), chunk) {
			if err := next(page); err != nil {
				return err
			}
		}
		return nil
	}
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	for after := (&letterID{s.parts[0], now + 1, ""}); ; {
		page, err := s.letterPage(ctx, which.Filter, after, chunk)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := next(page); err != nil {
			return err
		}
		after = &page[len(page)-1]
	}
}

// letterIDs returns what letters with these IDs are called, each once. IDs that can't be are left out.
func (s *Store) letterIDs(ids []string) (all []letterID) {
	seen := map[letterID]bool{}
	for _, id := range ids {
		_, number, _ := strings.Cut(id, ".")
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			continue
		}
		p := s.parts[n%uint64(len(s.parts))]
		activity, ordinal, ok := s.splitID(p, id)
		if l := (letterID{partition: p, name: letterName(activity, ordinal)}); ok && !seen[l] {
			seen[l] = true
			all = append(all, l)
		}
	}
	return all
}

// nameOf is what a letter of a partition is called there.
func (s *Store) nameOf(p *partition, l *queue.DeadLetter) string {
	id, ordinal, _ := s.splitID(p, l.ID) // it was made of the name
	return letterName(id, ordinal)
}

// revive makes letters of a partition pending again.
func (s *Store) revive(ctx context.Context, p *partition, letters []*queue.DeadLetter, ttl time.Duration) (int, error) {
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
		_, ordinal, _ := s.splitID(p, l.ID) // it was made of the name
		args = append(args, place(&hosts, l.Host), place(&ids, l.ActivityID), strconv.FormatInt(ordinal, 10))
	}
	keys := p.lanes(nil, hosts)
	for _, id := range ids {
		keys = p.activity(keys, id)
	}
	args = append(append([]string{upMillis(ttl), strconv.Itoa(len(hosts))}, hosts...), args...)
	n, err := s.number(ctx, reviveScript, p, keys, args)
	return int(n), err
}

// discarding says how many letters must stay in a partition, and whether others go because there are too many.
type discarding struct {
	keep    int
	tooMany bool
}

// discard drops letters of a partition.
func (s *Store) discard(ctx context.Context, p *partition, names []string, how discarding) (int, error) {
	if len(names) == 0 {
		return 0, nil
	}
	var keys, order []string
	ordinals := map[string][]string{}
	for _, name := range names {
		id := name[:16]
		if ordinals[id] == nil {
			order = append(order, id)
			keys = p.activity(keys, uuid.UUID([]byte(id)).String())
		}
		ordinals[id] = append(ordinals[id], strconv.FormatUint(uint64(binary.BigEndian.Uint32([]byte(name[16:]))), 10))
	}
	args := []string{strconv.Itoa(how.keep), flag(how.tooMany)}
	for _, id := range order {
		args = append(append(args, id, strconv.Itoa(len(ordinals[id]))), ordinals[id]...)
	}
	n, err := s.number(ctx, discardScript, p, keys, args)
	return int(n), err
}

// discardOldest drops the oldest letters while there are more than the limit in all partitions together: some of them.
func (s *Store) discardOldest(ctx context.Context) (did int, err error) {
	all, err := s.oldest(ctx)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	for p, o := range all {
		n, err := s.discard(ctx, p, o.names, discarding{keep: o.there - len(o.names), tooMany: true})
		if did += n; err != nil {
			return did, err
		}
	}
	return did, nil
}

// oldestLetters are the letters of a partition that are to go, and how many there were when that was found out: so two
// nodes that find out the same drop no more than one of them would.
type oldestLetters struct {
	there int
	names []string
}

// oldest returns the oldest letters above the limit.
func (s *Store) oldest(ctx context.Context) (map[*partition]*oldestLetters, error) {
	all, over := map[*partition]*oldestLetters{}, -s.opts.DeadLetters
	var letters []letterID
	for _, p := range s.parts {
		answers, err := s.do(ctx, s.client.B().Zcard().Key(p.Key("dead")).Build())
		if err != nil {
			return nil, err
		}
		n, err := answers[0].AsInt64()
		if err != nil {
			return nil, err
		}
		first := s.client.B().Zrange().Key(p.Key("dead")).Min("0").Max(strconv.Itoa(chunk - 1)).Withscores().Build()
		some, err := s.lettersByTime(ctx, p, first)
		if err != nil {
			return nil, err
		}
		all[p] = &oldestLetters{there: int(n)}
		letters, over = append(letters, some...), over+int(n)
	}
	slices.SortFunc(letters, func(a, b letterID) int { return b.compare(a) })
	for _, l := range letters[:max(0, min(over, chunk, len(letters)))] {
		all[l.partition].names = append(all[l.partition].names, l.name)
	}
	return all, nil
}
