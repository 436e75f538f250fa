package embedded

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/queue"
)

// DeleteDead implements queue.Operating.
func (s *Store) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
	n, err := (&batch{s: s}).all(ctx, which)
	if err != nil {
		err = fmt.Errorf("delete dead letters: %w", err)
	}
	return n, err
}
