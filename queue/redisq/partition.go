package redisq

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue/redisq/script"
)

// partition is one partition, with the names of its keys.
type partition struct {
	*conn
	rediskeys.Partition
	posts    *batcher // of plain submissions that are all in one partition
	enqueues *batcher // of others
	settles  *batcher
	keyReads *batcher
	away     atomic.Pointer[error] // see setHealth
	lag      lag
	reports  *dueReports
}

// keysOf returns all keys that a script wants: own come last.
func (p *partition) keysOf(lua script.Script, own []string) []string {
	keys := make([]string, 0, len(lua.Keys)+len(own))
	for _, kind := range lua.Keys {
		keys = append(keys, p.Key(rediskeys.Kind(kind)))
	}
	return append(keys, own...)
}

// lane appends the six keys of a lane.
func (p *partition) lane(keys []string, host string) []string {
	return append(keys, p.Of(rediskeys.Lane, host), p.Of(rediskeys.Chains, host), p.Of(rediskeys.Waiting, host), p.Of(rediskeys.Backlog0, host), p.Of(rediskeys.Backlog1, host), p.Of(rediskeys.Backlog2, host))
}

func (p *partition) lanes(keys []string, hosts []string) []string {
	keys = slices.Grow(keys, 6*len(hosts))
	for _, host := range hosts {
		keys = p.lane(keys, host)
	}
	return keys
}

// activity appends the two keys of an activity.
func (p *partition) activity(keys []string, id string) []string {
	return append(keys, p.Of(rediskeys.Activity, id), p.Of(rediskeys.Recipients, id))
}

func (s *conn) partitionOf(name string) *partition { return s.parts[s.keys.PartitionOf(name)] }

// byPartition sorts names, of hosts for instance, by their partitions.
func (s *conn) byPartition(names []string) map[*partition][]string {
	all := map[*partition][]string{}
	for _, name := range names {
		p := s.partitionOf(name)
		all[p] = append(all[p], name)
	}
	return all
}

// forEach calls a function for every partition, all at the same time.
func (s *conn) forEach(call func(p *partition) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.parts))
	for i, p := range s.parts {
		wg.Go(func() { errs[i] = call(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fromEach returns what a function returns for each partition, called for all at the same time.
func fromEach[T any](s *conn, call func(p *partition) (T, error)) ([]T, error) {
	all := make([]T, len(s.parts))
	err := s.forEach(func(p *partition) (err error) {
		all[p.N], err = call(p)
		return err
	})
	return all, err
}

// ask sends a command to every partition, all together, and reads their answers, in the order of the partitions; see scan.
func ask[T any](ctx context.Context, s *conn, command func(p *partition) rueidis.Completed) ([]T, error) {
	commands := make([]rueidis.Completed, len(s.parts))
	for i, p := range s.parts {
		commands[i] = command(p)
	}
	return readAll[T](ctx, s, commands)
}

// heads appends the first key of lanes.
func (p *partition) heads(keys, hosts []string) []string {
	keys = slices.Grow(keys, len(hosts))
	for _, host := range hosts {
		keys = append(keys, p.Of(rediskeys.Lane, host))
	}
	return keys
}

// staging is the keys of an activity with what is staged of it.
func (p *partition) staging(id string) []string {
	return append(p.activity(nil, id), p.Of(rediskeys.Staging, id))
}
