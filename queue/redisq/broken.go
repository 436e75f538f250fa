package redisq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"
)

// brokenKey is the error of a key that holds what we never put there. Nothing can be done about it here: what uses the
// key has to wait until somebody takes it away.
type brokenKey struct{ key, holds, want string }

// Error names the key and what to do.
func (b *brokenKey) Error() string {
	return fmt.Sprintf("the key %q holds a %s, which should be a %s: something else has written it; delete it", b.key, b.holds, b.want)
}

// kindOf returns the type that a key has, by the part of its name after the partition.
func kindOf(key string) string {
	_, kind, _ := strings.Cut(key, "}:")
	kind, _, _ = strings.Cut(kind, ":")
	switch kind {
	case "stats", "letters", "uris", "h", "c", "a", "claim", "keys", "meta", "s", "hostpages", "laterpages":
		return "hash"
	case "q0", "q1", "q2", "r":
		return "list"
	case "b", "lease", "token":
		return "string"
	}
	return "zset"
}

// diagnose says which of the keys a call stumbled over, if it did. It returns the error as it is where it did not.
func (s *Store) diagnose(ctx context.Context, err error, keys []string) error {
	if re, ok := rueidis.IsRedisErr(err); !ok || !strings.HasPrefix(re.Error(), "WRONGTYPE") {
		return err
	}
	commands := make([]rueidis.Completed, len(keys))
	for i, key := range keys {
		commands[i] = s.client.B().Type().Key(key).Build()
	}
	for i, r := range s.client.DoMulti(ctx, commands...) {
		holds, failed := r.ToString()
		if want := kindOf(keys[i]); failed == nil && holds != want && holds != "none" {
			return fmt.Errorf("%w: %w", &brokenKey{keys[i], holds, want}, err)
		}
	}
	return err
}

// tell says that something fails over and over: the first time, and once in a while.
func (s *Store) tell(what string, err error) {
	if before, open := s.seldom.Open(what); open {
		s.log.Error("store.failing", "error", err, "lines_left_out", before)
	}
}

// mark notes which partitions could be worked with while others could, and says so where that changes: errs are by
// partition.
func (s *Store) mark(errs []error) {
	var away, back []int
	for n, p := range s.parts {
		switch failed := p.marked() != nil; {
		case errs[n] != nil && !failed:
			away = append(away, n)
		case errs[n] == nil && failed:
			back = append(back, n)
		}
		p.away.Store(&errs[n])
	}
	if len(away) > 0 {
		s.log.Error("store.partitions_away", "partitions", away, "error", errs[away[0]])
	}
	if len(back) > 0 {
		s.log.Info("store.partitions_back", "partitions", back)
	}
}

// marked returns the error that a partition was marked with.
func (p *partition) marked() error {
	err := p.away.Load()
	if err == nil || *err == nil {
		return nil
	}
	return fmt.Errorf("partition %d: %w", p.N, *err)
}

// brokenLane returns the place of the lane whose key an error is about, or -1.
func (p *partition) brokenLane(err error, hosts []string) int {
	broken, ok := errors.AsType[*brokenKey](err)
	if !ok {
		return -1
	}
	return slices.IndexFunc(hosts, func(host string) bool { return slices.Contains(p.lane(nil, host), broken.key) })
}
