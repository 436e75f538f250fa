package bench

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue/redisq"
)

// server is the Redis that a store is on, seen from outside; nil where the store is embedded.
type server struct{ client rueidis.Client }

func (b *bench) connect() (*server, error) {
	if !b.o.Config.Store.IsRedis() {
		return nil, nil
	}
	client, err := redisq.Connect(b.o.Config.Store.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", b.o.Config.Store, err)
	}
	return &server{client}, nil
}

// cpu returns the processor time that the server has used, of a cluster all of them, in seconds.
func (s *server) cpu(ctx context.Context) (total float64, err error) {
	if s == nil {
		return 0, nil
	}
	for address, node := range s.client.Nodes() {
		text, err := node.Do(ctx, node.B().Info().Section("cpu").Build()).ToString()
		if err != nil {
			return 0, fmt.Errorf("redis %s: %w", address, err)
		}
		for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
			n, err := strconv.ParseFloat(field(text, name), 64)
			if err != nil {
				return 0, fmt.Errorf("redis %s: %s: %w", address, name, err)
			}
			total += n
		}
	}
	return total, nil
}

// name tells what the server is, and how it stores.
func (s *server) name(ctx context.Context) (string, error) {
	if s == nil {
		return "embedded (SQLite)", nil
	}
	text, err := s.client.Do(ctx, s.client.B().Info().Build()).ToString()
	if err != nil {
		return "", fmt.Errorf("redis: %w", err)
	}
	kind := "Redis " + field(text, "redis_version")
	if valkey := field(text, "valkey_version"); valkey != "unknown" {
		kind = "Valkey " + valkey
	}
	if field(text, "aof_enabled") == "1" {
		return kind + ", appendonly yes", nil
	}
	return kind + ", appendonly no", nil
}

// forget deletes all keys under a prefix.
func (s *server) forget(ctx context.Context, prefix string) error {
	if s == nil {
		return nil
	}
	for address, node := range s.client.Nodes() {
		for cursor := uint64(0); ; {
			page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(prefix+":*").Count(1000).Build()).AsScanEntry()
			if err != nil {
				return fmt.Errorf("redis %s: look for keys: %w", address, err)
			}
			unlinks := make(rueidis.Commands, len(page.Elements)) // one key each: of a cluster they are in different slots
			for i, key := range page.Elements {
				unlinks[i] = s.client.B().Unlink().Key(key).Build()
			}
			for _, result := range s.client.DoMulti(ctx, unlinks...) {
				if err := result.Error(); err != nil {
					return fmt.Errorf("redis %s: delete a key: %w", address, err)
				}
			}
			if cursor = page.Cursor; cursor == 0 {
				break
			}
		}
	}
	return nil
}

func (s *server) close() {
	if s != nil {
		s.client.Close()
	}
}
