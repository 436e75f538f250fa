package redisq

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/queue"
)

const markField = "mark"

// Mark implements queue.Moving. It is a field of the key that tells the number of partitions.
func (s *Store) Mark(ctx context.Context) (queue.Mark, error) {
	key := s.parts[0].Key("meta")
	answers, err := s.do(ctx, s.client.B().Hget().Key(key).Field(markField).Build())
	if err != nil {
		return queue.Mark{}, fmt.Errorf("mark: %w", err)
	}
	if answers[0].IsNil() {
		return queue.Mark{}, nil
	}
	text, err := answers[0].ToString()
	return queue.Mark{Text: text, Remove: "redis-cli HDEL '" + key + "' " + markField}, err
}

// SetMark implements queue.Moving.
func (s *Store) SetMark(ctx context.Context, text string) error {
	key := s.parts[0].Key("meta")
	command := s.client.B().Hset().Key(key).FieldValue().FieldValue(markField, text).Build()
	if text == "" {
		command = s.client.B().Hdel().Key(key).Field(markField).Build()
	}
	if _, err := s.do(ctx, command); err != nil {
		return fmt.Errorf("set mark: %w", err)
	}
	return nil
}
