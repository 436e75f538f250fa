package embedded

import (
	"context"

	"github.com/postrider/postrider/queue"
)

// DeleteDead implements queue.Operating.
func (s *Store) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (_ queue.DeadLetterCount, err error) {
	defer wrap(&err, "delete dead letters")
	return (&batch{s: s}).all(ctx, which)
}
