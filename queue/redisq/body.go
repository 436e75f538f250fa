package redisq

import (
	"context"
	"strings"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// Body implements queue.Watching. Each partition keeps the bytes while it has a delivery that is pending or dead.
func (s *reader) Body(ctx context.Context, id string) (_ []byte, err error) {
	defer wrap(&err, "body of "+id)
	_, text, err := canonical(id)
	if err != nil {
		return nil, err
	}
	parts, err := s.readParts(ctx, text)
	for _, p := range parts {
		body, err := p.body(ctx, text)
		if body != nil || err != nil {
			return body, err
		}
	}
	if err == nil {
		err = queue.ErrNotFound
	}
	return nil, err
}

// body reads the bytes of an activity in a partition, nil if it does not keep them.
func (a *part) body(ctx context.Context, id string) ([]byte, error) {
	name := ""
	err := a.read(ctx, a.client.B().Hget().Key(a.Of(rediskeys.Activity, id)).Field("b").Build(), &name)
	if err != nil || name == "" {
		return nil, err
	}
	full := a.asActivity(id)
	if err := a.read(ctx, a.readBody(name), &full.Body); err != nil {
		return nil, err
	}
	if full.Body == nil || !strings.Contains(contentHash(&full), name) {
		return nil, nil // it went just now, and another may have got its name
	}
	return full.Body, nil
}
