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

// checkServers looks at how each master is set up, and gives it the scripts.
func checkServers(ctx context.Context, client rueidis.Client, log *slog.Logger) error {
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
		if err := loadScripts(ctx, node); err != nil {
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
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
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

// confirm looks whether the store is still the one that was opened. One that was emptied is made anew, and the log tells
// of it; one that was made anew with another number of partitions, before any node of this fleet could, is not touched
// any more, as nodes that don't agree on where a host is would not find what the others store.
func (s *Store) confirm(ctx context.Context) error {
	meta, want := s.parts[0].Key("meta"), len(s.parts)
	answers, err := s.do(ctx, s.client.B().Hget().Key(meta).Field("partitions").Build())
	if err != nil {
		return err
	}
	if answers[0].IsNil() {
		return s.remake(ctx, meta)
	}
	n, err := answers[0].AsInt64()
	if err != nil {
		return fmt.Errorf("number of partitions: %w", err)
	}
	if int(n) == want {
		s.foreign.Store(nil)
		return nil
	}
	err = fmt.Errorf("the store %q was made anew with %d partitions, this node has %d: start it again with the same number", s.opts.Prefix, n, want)
	s.foreign.Store(&err)
	return err
}

// remake makes a store that was emptied.
func (s *Store) remake(ctx context.Context, meta string) error {
	answers, err := s.do(ctx, s.client.B().Hsetnx().Key(meta).Field("partitions").Value(strconv.Itoa(len(s.parts))).Build())
	if err != nil {
		return err
	}
	if made, err := answers[0].AsInt64(); err != nil || made == 0 {
		return err // another node was quicker
	}
	s.log.Error("store.emptied", "detail", "Redis has lost what it held: private keys, deliveries that were pending, "+
		"dead letters and what was known of hosts; the store is made anew: put the keys again")
	return nil
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
