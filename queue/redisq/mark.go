package redisq

import (
	"context"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

const markField = "mark"

// Mark implements queue.Moving. It is a field of the key that tells the number of partitions.
func (s *conn) Mark(ctx context.Context) (_ queue.Mark, err error) {
	defer wrap(&err, "mark")
	key := s.meta()
	text := ""
	err = s.read(ctx, s.client.B().Hget().Key(key).Field(markField).Build(), &text)
	if err != nil || text == "" {
		return queue.Mark{}, err
	}
	return queue.Mark{Text: text, Remove: "redis-cli HDEL '" + key + "' " + markField}, nil
}

// SetMark implements queue.Moving.
func (s *conn) SetMark(ctx context.Context, text string) (err error) {
	defer wrap(&err, "set mark")
	return s.parts[0].run(ctx, script.Mark, nil, []string{text})
}
