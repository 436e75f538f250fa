package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/queue/redisq"
)

// server is the Redis of the store; nil if the store is embedded.
type server struct{ client rueidis.Client }

func (b *bench) connect() (*server, error) {
	if !b.o.Config.Store.IsRedis() {
		return nil, nil
	}
	client, err := connectRedis(b.o.Config)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", b.o.Config.Store, err)
	}
	return &server{client}, nil
}

// connectRedis connects to the Redis of the settings, as a node does.
func connectRedis(c *config.Config) (rueidis.Client, error) {
	secure, err := c.RedisTLS()
	if err != nil {
		return nil, err
	}
	return redisq.Connect(redisq.Options{URL: c.Store.URL.Reveal(), TLS: func() *tls.Config { return secure }})
}

// served is the work of a server so far, or that of all servers of a cluster.
type served struct{ cpu, scripts, in, out float64 } // cpu in seconds; bytes in and out

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
			{"total_net_input_bytes", field(text, "total_net_input_bytes"), &total.in},
			{"total_net_output_bytes", field(text, "total_net_output_bytes"), &total.out},
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

// name returns the server's name and version, and its persistence.
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

// deleteKeys deletes all keys under a prefix.
func (s *server) deleteKeys(ctx context.Context, prefix string) error {
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
