package redisq

import (
	"context"
	"strconv"
	"time"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// retireAgain is when to look again at a key that is to be removed when idle, and is not.
const retireAgain = 5 * time.Second

// graceOf returns in how many milliseconds a key may be removed when idle, "" if it stays.
func graceOf(k *queue.Key) string {
	switch {
	case k.Pin != "":
		return millis(queue.PinGrace)
	case k.WhenIdle:
		return "0"
	}
	return ""
}

// retireKeys removes some keys of a partition that are to be removed when idle and for which nothing pends in any
// partition. A delivery that is accepted at the same time waits for its key, as one that is accepted later does.
func (s *keyring) retireKeys(ctx context.Context, p *partition) error {
	var names []string
	err := s.read(ctx, s.client.B().Zrange().Key(p.Key(rediskeys.Retiring)).Min("0").Max(strconv.Itoa(sweepActivities-1)).Build(), &names)
	if err != nil || len(names) == 0 {
		return err
	}
	pending, err := s.signing(ctx, names)
	for i := 0; err == nil && i < len(names); i++ {
		if pending[i] > 0 {
			s.sweepIn(retireAgain)
		}
		err = p.run(ctx, script.DropKey, nil, []string{nameHash(names[i]), names[i], "", strconv.Itoa(pending[i])})
	}
	return err
}
