package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"

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

// served is what a server has done so far, of a cluster all of them.
type served struct{ cpu, scripts, bytes float64 } // cpu in seconds; bytes in and out

func (s *server) served(ctx context.Context) (total served, err error) {
	if s == nil {
		return total, nil
	}
	for address, node := range s.client.Nodes() {
		text, err := node.Do(ctx, node.B().Info().Section("everything").Build()).ToString()
		if err != nil {
			return total, fmt.Errorf("redis %s: %w", address, err)
		}
		calls, _, _ := strings.Cut(strings.TrimPrefix(field(text, "cmdstat_evalsha"), "calls="), ",")
		if calls == "unknown" {
			calls = "0" // no script ran yet
		}
		for _, n := range []struct {
			name, text string
			sum        *float64
		}{
			{"used_cpu_user", field(text, "used_cpu_user"), &total.cpu}, {"used_cpu_sys", field(text, "used_cpu_sys"), &total.cpu},
			{"total_net_input_bytes", field(text, "total_net_input_bytes"), &total.bytes},
			{"total_net_output_bytes", field(text, "total_net_output_bytes"), &total.bytes},
			{"cmdstat_evalsha", calls, &total.scripts},
		} {
			value, err := strconv.ParseFloat(n.text, 64)
			if err != nil {
				return total, fmt.Errorf("redis %s: %s: %w", address, n.name, err)
			}
			*n.sum += value
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
