package redisq

import (
	"context"
	"slices"

	"github.com/postrider/postrider/queue"
)

// forChosen calls do for the letters that are meant, some of one partition at a time, and adds up what that returns.
func (s *Store) forChosen(ctx context.Context, which queue.DeadLetterChoice, do func(*partition, []*queue.DeadLetter) (int, error)) (count queue.DeadLetterCount, err error) {
	which.Filter = letterFilter(which.Filter)
	err = s.chosen(ctx, which, func(page []letterID) error {
		letters, err := s.readLetters(ctx, page, false)
		if err != nil {
			return err
		}
		byPartition := map[*partition][]*queue.DeadLetter{}
		for i, l := range letters {
			if l != nil && (len(which.IDs) > 0 || !leavesOut(&which.Filter, l)) {
				byPartition[page[i].partition] = append(byPartition[page[i].partition], l)
				count.Matched++
			}
		}
		if which.DryRun {
			return nil
		}
		for p, letters := range byPartition {
			for some := range slices.Chunk(letters, reviveChunk) {
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
	for after := (*letterID)(nil); ; { // from the newest on: what dies meanwhile is newer
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
		p, activity, ordinal, ok := s.deliveryOf(id)
		if l := (letterID{partition: p, name: letterName(activity, ordinal)}); ok && !seen[l] {
			seen[l] = true
			all = append(all, l)
		}
	}
	return all
}

// nameOf is what a letter of a partition is called there.
func (p *partition) nameOf(l *queue.DeadLetter) string {
	id, ordinal, _ := p.splitID(l.ID) // it was made of the name
	return letterName(id, ordinal)
}
