package redisq

import (
	"context"
	"encoding/json"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Publish implements queue.Lanes.
func (s *channels) Publish(events ...queue.Event) {
	if !s.watched() {
		return
	}
	for _, e := range events {
		select {
		case s.queued <- e:
		default:
			return
		}
	}
}

// publishQueued sends out queued events, until ctx ends.
func (s *channels) publishQueued(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.queued:
			batch := []queue.Event{e}
			for len(batch) < min(eventBatch, 1+len(s.queued)) {
				batch = append(batch, <-s.queued)
			}
			if text, err := json.Marshal(batch); err == nil {
				p := s.parts[0]
				_ = p.run(ctx, script.Publish, []string{p.Key(rediskeys.Meta)}, []string{s.keys.Events(), string(text)}) // events may be lost
			}
		}
	}
}
