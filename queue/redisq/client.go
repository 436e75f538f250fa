package redisq

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"
)

// Connect connects to the Redis of a store as the store does, for callers that look at the server itself.
func Connect(o Options) (rueidis.Client, error) {
	option, err := parseURL(o.URL, o.TLS)
	if err != nil {
		return nil, fmt.Errorf("URL of the store: %w", err)
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("connect to redis: %w", explain(err))
	}
	return pinned{client}, nil
}

// pinned is a client that never makes another command of one. Rueidis does once a command is answered; but a command that was
// repeated on a new connection may still be read by the writer of the one that broke.
type pinned struct{ rueidis.Client }

// Do implements rueidis.Client.
func (c pinned) Do(ctx context.Context, command rueidis.Completed) rueidis.RedisResult {
	return c.Client.Do(ctx, command.Pin())
}

// DoMulti implements rueidis.Client.
func (c pinned) DoMulti(ctx context.Context, commands ...rueidis.Completed) []rueidis.RedisResult {
	for i, command := range commands {
		commands[i] = command.Pin()
	}
	return c.Client.DoMulti(ctx, commands...)
}
