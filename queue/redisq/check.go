package redisq

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue/redisq/script"
)

const (
	minMajor          = 7 // scripts with flags came with it
	clusterPartitions = 64

	// format counts the forms of what is stored. Once a release has written it, a form that nodes of that release cannot read
	// gets another number: a node refuses a store that has one other than its own.
	format = "1"
)

// checkServers looks at how each master is set up, and gives it the scripts.
func checkServers(ctx context.Context, client rueidis.Client, log *slog.Logger) error {
	for addr, node := range client.Nodes() {
		info, err := info(ctx, node)
		if info["role"] == "slave" {
			continue // it has its master's keys
		}
		if err == nil {
			err = checkServer(info)
		}
		if err == nil {
			err = loadScripts(ctx, node)
		}
		if err != nil {
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

// info reads the INFO of a server.
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

// tryJoint reports whether one script may work in several partitions: whether one Redis has them all, also where the address is
// that of a proxy.
func (s *conn) tryJoint(ctx context.Context, partitions int) (bool, error) {
	if partitions == 1 || s.client.Mode() == rueidis.ClientModeCluster {
		return partitions == 1, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	name := rand.Text()
	var keys, args [][]string
	var takeAway []rueidis.Completed
	for n := range partitions {
		key := s.keys.Partition(n).Of(rediskeys.Trial, name)
		keys, args = append(keys, []string{key}), append(args, []string{""})
		takeAway = append(takeAway, s.client.B().Del().Key(key).Build())
	}
	if err := s.execJoint(ctx, script.All()[script.Trial], keys, args)[0].err; err != nil {
		if _, refused := rueidis.IsRedisErr(err); refused {
			return false, nil
		}
		return false, translate(ctx, err)
	}
	gone, err := s.do(ctx, takeAway...)
	for _, m := range gone {
		if n, _ := m.AsInt64(); n == 0 {
			return false, err
		}
	}
	return err == nil, err
}

// agree returns the number of partitions, which is fixed by the first node that opens the store, as its format is. It writes
// only where there are none yet: a node has to start on a Redis that is full, for what it delivers makes room.
func (s *conn) agree(ctx context.Context) (int, error) {
	o := s.opts
	want := o.Partitions
	if want == 0 {
		want = 1
		if s.client.Mode() == rueidis.ClientModeCluster {
			want = clusterPartitions
		}
	}
	n, found, err := s.madeWith(ctx)
	if err == nil && (n == 0 || found == "" || s.tag.Load() == nil) {
		if _, err = s.make(ctx, want); err == nil {
			n, found, err = s.madeWith(ctx)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("what the store was made with: %w", err)
	}
	if found != format {
		return 0, fmt.Errorf("the store %q has format %s, this program reads only format %s: use the program that wrote it", o.Prefix, found, format)
	}
	if o.Partitions != 0 && n != o.Partitions {
		return 0, fmt.Errorf("the store %q was made with %d partitions, not %d: set redis-partitions to %d, "+
			"or start another store with a new redis-prefix", o.Prefix, n, o.Partitions, n)
	}
	return n, nil
}

// madeWith returns the number of partitions and the format that a store was made with, 0 and "" if it was not made. It keeps
// the store's tag.
func (s *conn) madeWith(ctx context.Context) (partitions int, format string, err error) {
	tag := ""
	err = s.read(ctx, s.client.B().Hmget().Key(s.meta()).Field("partitions", "format", "tag").Build(), &partitions, &format, &tag)
	if tag != "" {
		s.tag.Store(&tag)
	}
	return partitions, format, err
}

// make makes a store, unless another node was quicker.
func (s *conn) make(ctx context.Context, partitions int) (made bool, err error) {
	answers, err := s.do(ctx,
		s.client.B().Hsetnx().Key(s.meta()).Field("partitions").Value(strconv.Itoa(partitions)).Build(),
		s.client.B().Hsetnx().Key(s.meta()).Field("format").Value(format).Build(),
		s.client.B().Hsetnx().Key(s.meta()).Field("tag").Value(rand.Text()[:tagSize]).Build())
	if err == nil {
		err = scan(answers[0], &made)
	}
	return made, err
}

// meta is the key of what a store was made with.
func (s *conn) meta() string { return s.keys.Partition(0).Key(rediskeys.Meta) }

// confirm checks that the store is still the one that was opened. A store that was emptied is made again, and the log says
// so. A store that others made again with another number of partitions is not touched any more: nodes that don't agree on
// where a host is would not find what the others store.
func (s *conn) confirm(ctx context.Context) error {
	want := len(s.parts)
	n, _, err := s.madeWith(ctx)
	if err != nil {
		return fmt.Errorf("number of partitions: %w", err)
	}
	if n == 0 {
		return s.remake(ctx)
	}
	if n == want {
		s.foreign.Store(nil)
		return nil
	}
	err = fmt.Errorf("the store %q was made again with %d partitions, this node has %d: start it again with the same number", s.opts.Prefix, n, want)
	s.foreign.Store(&err)
	return err
}

// remake makes a store that was emptied.
func (s *conn) remake(ctx context.Context) error {
	made, err := s.make(ctx, len(s.parts))
	if err == nil {
		_, _, err = s.madeWith(ctx)
	}
	if err != nil || !made {
		return err
	}
	s.log.Error("store.emptied", "detail", "Redis has lost what it held: private keys, deliveries that were pending, "+
		"dead letters and what was known of hosts; the store is made again: put the keys again")
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
