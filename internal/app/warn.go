package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/queue"
)

const (
	warnInterval = 10 * time.Second // between two looks for warnings
	warnRepeat   = time.Hour        // between two lines about a warning that persists
)

// warn logs the warnings that follow from the store's totals, until ctx ends. It reads them only when unauthorized, the
// number of 401s that this node got, has grown: every warning begins with these.
func warn(ctx context.Context, store queue.Watching, unauthorized func() int64, log *slog.Logger) {
	tick := time.Tick(warnInterval)
	var known int64
	logged := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		count := unauthorized()
		if count == known {
			continue
		}
		stats, err := store.Stats(ctx)
		if err != nil {
			continue // the pool logs outages
		}
		known = count
		for _, w := range stats.Warnings() {
			if at, ok := logged[w.Code]; !ok || time.Since(at) >= warnRepeat {
				logged[w.Code] = time.Now()
				log.Warn("hosts.warning", "code", w.Code, "detail", w.Message)
			}
		}
	}
}

// unauthorized counts the attempts that were answered with a 401.
func (n *node) unauthorized() int64 {
	return n.pool.Metrics.Stats().Attempts[delivery.OutcomeUnauthorized]
}
