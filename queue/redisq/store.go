// Package redisq is the queue of a fleet, in a Redis or Valkey that all nodes share: one alone, behind Sentinel, or a
// cluster. It needs Redis 7 or Valkey 7.2, maxmemory-policy noeviction, and an append-only file to last.
//
// The state of a lane is one small hash; every change of state is one script, which runs whole or not at all and may be
// repeated. Scripts get all their keys in KEYS, and these are of one partition, so they run on a cluster and behind
// proxies. Redis's clock is the only one. Hosts are spread over partitions by their name; see internal/rediskeys.
//
// What callers may rely on beyond package queue: nodes wake one another within milliseconds; an idle node asks for
// nothing; a node that died in the middle of an Enqueue leaves nothing behind, or the whole; of a host that has nothing
// pending only what was learnt of it is kept; what a node that died left of a Block, another's Sweep does; events are in
// the order in which one node told them.
//
// What callers may not rely on: that what was acknowledged survives the death of Redis itself better than Redis is set
// up to (with appendfsync everysec the last second may be lost, and in a failover what was not yet replicated); that
// deliveries taken by a node that died are given again before its lease has ended; that a delivery that waits for its
// key is left alone (it is looked at again every hour, in case a node died while it was being told of the key); that the
// activity of an Enqueue under way can't be seen before it is all there; that Due finds, or a host counts, all that a
// large Enqueue has stored as soon as it returns (what is accepted, listed or cancelled after it does find it in its
// place); that what a node accepted expires on time if that node is gone (others look every queue.MaxIdle); that Events
// hears what other nodes tell in its first moments, before they know that somebody watches; that all dead letters of an
// activity that were made pending again expire at times of their own (the last TTL given, if longer, holds for them all).
package redisq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/seldom"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Options configure a Store.
type Options struct {
	// URL says where Redis is: redis://, rediss://, redis+cluster://HOST,… or redis+sentinel://HOST,…/MASTER.
	URL string
	// Prefix is the first part of every key, without a brace.
	Prefix string
	// Partitions is how many there are; 0 takes what the store was made with, or 1 (64 on a cluster) for a new one.
	Partitions int
	// Limits bound what the store holds. A lane comes within a smaller Lane than before when next something happens in it.
	queue.Limits
	// Deaf stores don't hear of wakes: for tools that deliver nothing, so that they are not taken for nodes.
	Deaf bool
	// Log gets warnings about how Redis is set up, and about wakes that can't be heard. Nil is slog.Default.
	Log *slog.Logger
}

// Store is a queue.Queue in Redis.
type Store struct {
	opts       Options
	log        *slog.Logger
	client     rueidis.Client
	keys       rediskeys.Scheme
	parts      []*partition
	activities *cache[*queue.Activity] // by their IDs
	parsed     *cache[queue.Key]       // by how they are stored, so that none can be an old one
	intake     *gatherer               // nil if there are several partitions
	owed       debts
	releasing  chan struct{}         // has an element for each release under way, so many at most
	releases   sync.WaitGroup        // those
	seldom     seldom.Gate           // for lines that would be said over and over
	foreign    atomic.Pointer[error] // why nothing may be written: see confirm

	wake    chan struct{}
	stops   atomic.Uint64
	asleep  atomic.Int64 // until when Due said that nothing is due, in ns since started
	sweepAt atomic.Int64 // when there may be something to sweep, likewise
	start   time.Time
	stop    context.CancelFunc // ends listening and telling
	work    sync.WaitGroup     // listening, telling, watching and storing

	told         chan queue.Event // to be spread
	watchedUntil atomic.Int64     // until when somebody surely watches on some node, in ns since start
	watchers     watchers
}

var _ queue.Queue = (*Store)(nil)

// partition is the keys of a partition.
type partition struct {
	rediskeys.Partition
	common  []string  // what every script has first; lane.lua lists them
	takes   *gatherer // from single lanes
	settles *gatherer
	reader  *keyReader
	away    atomic.Pointer[error] // see mark
}

func newPartition(p rediskeys.Partition) *partition {
	kinds := []string{
		"stats", "due0", "due1", "due2", "due3", "due4", "due5", "excess", "offered", "expires", "pending", "done",
		"dead", "letters", "uris", "parked", "staged", "filed", "hosts", "hostpages", "later", "laterpages",
	}
	for i, kind := range kinds {
		kinds[i] = p.Key(kind)
	}
	return &partition{Partition: p, common: kinds}
}

// lane appends the six keys of a lane.
func (p *partition) lane(keys []string, host string) []string {
	return append(keys, p.Of("h", host), p.Of("c", host), p.Of("w", host), p.Of("q0", host), p.Of("q1", host), p.Of("q2", host))
}

func (p *partition) lanes(keys []string, hosts []string) []string {
	keys = slices.Grow(keys, 6*len(hosts))
	for _, host := range hosts {
		keys = p.lane(keys, host)
	}
	return keys
}

// activity appends the three keys of an activity.
func (p *partition) activity(keys []string, id string) []string {
	return append(keys, p.Of("a", id), p.Of("b", id), p.Of("r", id))
}

func (s *Store) partitionOf(name string) *partition { return s.parts[s.keys.PartitionOf(name)] }

// Open connects to the store, and makes it if it isn't there. It refuses a Redis that may drop keys by itself, and a
// number of partitions other than the store was made with.
func Open(ctx context.Context, o Options) (*Store, error) {
	option, err := parseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("open store: connect to redis: %w", explain(err))
	}
	s, err := open(ctx, client, o)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, client rueidis.Client, o Options) (*Store, error) {
	o.Retention = max(o.Retention, queue.IdempotencyTTL)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := checkServers(ctx, client, o.Log); err != nil {
		return nil, explain(err)
	}
	partitions, err := agree(ctx, client, o)
	if err != nil {
		return nil, explain(err)
	}
	s := &Store{
		opts: o, log: o.Log, client: client, keys: rediskeys.Scheme{Prefix: o.Prefix, Partitions: partitions},
		activities: newCache[*queue.Activity](activityBytes), parsed: newCache[queue.Key](keyBytes),
		releasing: make(chan struct{}, maxReleasing), wake: make(chan struct{}, 1), start: time.Now(),
		told: make(chan queue.Event, toldBuffer), watchers: watchers{all: map[chan queue.Event]struct{}{}},
	}
	for n := range partitions {
		p := newPartition(s.keys.Partition(n))
		p.takes, p.settles = &gatherer{s: s, p: p, script: takeScript}, &gatherer{s: s, p: p, script: settleScript}
		p.reader = &keyReader{s: s, p: p}
		s.parts = append(s.parts, p)
	}
	if len(s.parts) == 1 {
		s.intake = &gatherer{s: s, p: s.parts[0], script: enqueueScript}
	}
	if err := s.each(func(p *partition) error { return s.rehearse(ctx, p) }); err != nil {
		return nil, explain(err)
	}
	s.asleep.Store(math.MaxInt64) // until Due was asked every wake counts
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if !o.Deaf {
		s.work.Go(func() { s.listen(working) })
	}
	s.work.Go(func() { s.spread(working) })
	return s, nil
}

// rehearse tries the commands that scripts need.
func (s *Store) rehearse(ctx context.Context, p *partition) error {
	_, err := s.number(ctx, rehearseScript, p, []string{p.Key("nothing")}, nil)
	return err
}

// Leases returns the leases of the fleet, on the same Redis.
func (s *Store) Leases(ttl time.Duration) *lockmgr.Redis {
	return lockmgr.NewRedis(s.client, s.keys, ttl)
}

// readyTimeout bounds Ready: whoever asks does not wait for long.
const readyTimeout = time.Second

// Ready implements queue.Queue. It tries a write, in every partition, that needs room and changes nothing.
func (s *Store) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errSlow)
	defer cancel()
	commands := make([]rueidis.Completed, len(s.parts))
	for i, p := range s.parts {
		commands[i] = s.client.B().Setrange().Key(p.Key("nothing")).Offset(0).Value("").Build()
	}
	if _, err := s.do(ctx, commands...); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	errs := []error{s.confirm(ctx)}
	for _, p := range s.parts {
		errs = append(errs, p.marked())
	}
	return errors.Join(errs...)
}

// Close implements queue.Queue. Leases made from the store end with it. It waits until what was accepted is in the lanes.
func (s *Store) Close() error {
	s.releases.Wait()
	s.stop()
	s.watchers.close()
	s.client.Close()
	s.work.Wait()
	return nil
}

// each calls a function for every partition, all at the same time.
func (s *Store) each(call func(p *partition) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.parts))
	for i, p := range s.parts {
		wg.Go(func() { errs[i] = call(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
