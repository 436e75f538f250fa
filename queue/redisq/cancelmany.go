package redisq

import (
	"context"
	"slices"

	"github.com/postrider/postrider/queue"
)

// cancelChunk is how many URIs are looked for at a time.
const cancelChunk = 100

// CancelMany implements queue.Operating. It looks at all activities kept of the URIs, or of the key.
func (s *Store) CancelMany(ctx context.Context, which queue.CancelChoice) (count queue.CancelCount, err error) {
	defer wrap(&err, "cancel activities")
	if len(which.URIs) == 0 {
		return count, s.cancelFound(ctx, searchFor(queue.ActivityFilter{KeyID: which.KeyID}), which.DryRun, &count)
	}
	for uris := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(which.URIs))), cancelChunk) {
		f := searchForURIs(uris)
		f.KeyID = which.KeyID
		if err := s.cancelFound(ctx, f, which.DryRun, &count); err != nil {
			return count, err
		}
	}
	return count, nil
}

// cancelFound cancels what is pending of the activities that a search finds, or would be cancelled, and counts it.
func (s *Store) cancelFound(ctx context.Context, f *search, dryRun bool, count *queue.CancelCount) error {
	return s.walk(ctx, f, func(m match) (bool, error) {
		n := m.status.Counts.Pending
		if n > 0 && !dryRun {
			var err error
			if n, err = s.cancelAll(ctx, m.id()); err != nil {
				count.Deliveries += n
				return false, err
			}
		}
		count.Deliveries += n
		count.Activities += min(n, 1)
		return true, nil
	})
}
