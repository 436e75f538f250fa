package redisq

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
)

const (
	minMajor          = 7 // scripts with flags came with it
	clusterPartitions = 64
)

// checkServers looks at how each master is set up.
func checkServers(ctx context.Context, client rueidis.Client, log *slog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	for addr, node := range client.Nodes() {
		info, err := info(ctx, node)
		if err != nil {
			return fmt.Errorf("redis at %s: %w", addr, err)
		}
		if info["role"] == "slave" {
			continue // it has its master's keys
		}
		if err := checkServer(info); err != nil {
			return fmt.Errorf("redis at %s: %w", addr, err)
		}
		if info["aof_enabled"] == "0" {
			log.Warn("store.not_durable", "redis", addr,
				"detail", "appendonly is off: what was accepted since the last snapshot is lost when Redis ends; set appendonly yes")
		}
	}
	return nil
}

func checkServer(info map[string]string) error {
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		return fmt.Errorf("maxmemory-policy is %s, which would drop deliveries that were accepted: set it to noeviction", policy)
	}
	major, _, _ := strings.Cut(info["redis_version"], ".")
	if n, err := strconv.Atoi(major); err == nil && n < minMajor {
		return fmt.Errorf("its version is %s, but %d.0 is needed", info["redis_version"], minMajor)
	}
	return nil
}

// info reads what a server tells of itself.
func info(ctx context.Context, node rueidis.Client) (map[string]string, error) {
	fields := map[string]string{}
	for _, section := range []string{"server", "memory", "persistence", "replication"} {
		text, err := node.Do(ctx, node.B().Info().Section(section).Build()).ToString()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				fields[name] = value
			}
		}
	}
	return fields, nil
}

// agree returns the number of partitions, which is fixed by the first node that opens the store.
func agree(ctx context.Context, client rueidis.Client, o Options) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	want := o.Partitions
	if want == 0 {
		want = 1
		if client.Mode() == rueidis.ClientModeCluster {
			want = clusterPartitions
		}
	}
	meta := (rediskeys.Scheme{Prefix: o.Prefix}).Partition(0).Key("meta")
	err := client.Do(ctx, client.B().Hsetnx().Key(meta).Field("partitions").Value(strconv.Itoa(want)).Build()).Error()
	if err != nil {
		return 0, err
	}
	n, err := client.Do(ctx, client.B().Hget().Key(meta).Field("partitions").Build()).AsInt64()
	if err != nil {
		return 0, fmt.Errorf("number of partitions: %w", err)
	}
	if o.Partitions != 0 && int(n) != o.Partitions {
		return 0, fmt.Errorf("the store %q was made with %d partitions, not %d: set redis-partitions to %d, "+
			"or start another store with a new redis-prefix", o.Prefix, n, o.Partitions, n)
	}
	return int(n), nil
}

// explain says in plain words what errors of a first connection mean.
func explain(err error) error {
	text := err.Error()
	for code, meaning := range map[string]string{
		"WRONGPASS":   "user or password is wrong",
		"NOAUTH":      "it wants a password",
		"NOPERM":      "this user may not run a command that is needed",
		"READONLY":    "this is a replica, which can't be written to",
		"ERR invalid": "it does not accept the password or the database number",
	} {
		if strings.HasPrefix(text, code) || strings.Contains(text, ": "+code) {
			return fmt.Errorf("%s: %w", meaning, err)
		}
	}
	return err
}
