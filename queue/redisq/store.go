// Package redisq is the queue of a fleet, in a Redis or Valkey that all nodes share: one alone, behind Sentinel, or a
// cluster. It needs Redis 7 or Valkey 7.2, maxmemory-policy noeviction, and an append-only file to last.
//
// The state of a lane is one small hash; every change of state is one script, which runs whole or not at all and may be
// repeated. Scripts get all their keys in KEYS, and these are of one partition, so they run on a cluster and behind
// proxies. Where one Redis has all partitions, one command may run a script in several, each by itself: see joint.lua.
// Redis's clock is the only one. Hosts are spread over partitions by their name; see internal/rediskeys.
//
// What callers may rely on beyond package queue: nodes wake one another within milliseconds; an idle node asks for
// nothing; a node that died in the middle of an Enqueue leaves nothing behind, or the whole; of a host that has nothing
// pending only what was learnt of it is kept; what a node that died left of a Block, another's Sweep does; events are in
// the order in which one node told them; an entry of the feed is listed once, but for an activity's EventActivityDone where a
// node dies as dead letters of it are retried.
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
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Options configure a Store.
type Options struct {
	// URL says where Redis is: redis://, rediss://, redis+unix:///PATH, redis+cluster://HOST,… or
	// redis+sentinel://HOST,…/MASTER.
	URL string
	// TLS returns the settings of a TLS connection: which roots it trusts, and a certificate of our own. It is called for
	// each connection, where the URL wants TLS. Nil is the system's roots and no certificate.
	TLS func() *tls.Config
	// Prefix is the first part of every key, without a brace.
	Prefix string
	// Partitions is how many there are; 0 takes what the store was made with, or 1 (64 on a cluster) for a new one.
	Partitions int
	// Limits bound what the store holds. A lane comes within a smaller Lane than before when next something happens in it.
	queue.Limits
	// NoWakes keeps the store from listening for wakes: for tools that deliver nothing, so that they do not count as nodes.
	NoWakes bool
	// Log gets warnings about how Redis is set up, and about wakes that can't be heard. Nil is slog.Default.
	Log *slog.Logger
}

// Store is a queue.Queue in Redis. Its parts are
//   - conn, the connection, on which all else stands, and its partitions, each of which knows what is in it;
//   - channels, over which nodes hear of each other, wake each other and publish events: so each knows which partitions it
//     serves (company), and where something may be due (agenda);
//   - releaser, which moves what is staged into the lanes;
//   - reader, which shows activities, hosts and dead letters;
//   - keyring, which keeps private keys;
//   - sweeper, which keeps all of it within its bounds.
type Store struct {
	*conn
	*channels
	*releaser
	*reader
	*keyring
	*sweeper
	stop context.CancelFunc // ends what listens and publishes
}

var _ queue.Queue = (*Store)(nil)

// Open connects to the store, and makes it if it isn't there. It refuses a Redis that may drop keys by itself, and a
// number of partitions other than the store was made with.
func Open(ctx context.Context, o Options) (s *Store, err error) {
	defer wrap(&err, "open store")
	client, err := Connect(o)
	if err != nil {
		return nil, err
	}
	if s, err = open(ctx, client, o); err != nil {
		client.Close()
		return nil, explain(err)
	}
	return s, nil
}

func open(ctx context.Context, client rueidis.Client, o Options) (*Store, error) {
	o.Retention = max(o.Retention, queue.IdempotencyTTL)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := checkServers(ctx, client, o.Log); err != nil {
		return nil, err
	}
	c := newConn(client, o)
	partitions, err := c.agree(ctx)
	if err != nil {
		return nil, err
	}
	joint, err := c.tryJoint(ctx, partitions)
	if err != nil {
		return nil, err
	}
	c.divide(partitions, joint)
	ch := newChannels(c)
	rl := &releaser{conn: c, channels: ch, left: map[unreleased]bool{}, underWay: make(chan struct{}, maxReleasing)}
	keys := &keyring{conn: c, channels: ch}
	rd := &reader{conn: c, releaser: rl}
	sw := &sweeper{conn: c, channels: ch, releaser: rl, reader: rd, keyring: keys}
	s := &Store{conn: c, channels: ch, releaser: rl, reader: rd, keyring: keys, sweeper: sw}
	if err := s.forEach(func(p *partition) error { return p.run(ctx, script.TryCommands, nil, nil) }); err != nil {
		return nil, err
	}
	if err := s.readLags(ctx); err != nil {
		return nil, err
	}
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if !o.NoWakes {
		s.work.Go(func() { s.listen(working) })
		s.work.Go(func() { s.beat(working) })
		s.awaitWakes(ctx)
	}
	s.work.Go(func() { s.publishQueued(working) })
	return s, nil
}

// Leases returns the leases of the fleet, on the same Redis.
func (s *Store) Leases(ttl time.Duration) *lockmgr.Redis {
	return lockmgr.NewRedis(s.client, s.keys, ttl)
}

// readyTimeout bounds Ready: a probe does not wait for long.
const readyTimeout = time.Second

// Ready implements queue.Queue. It tries a write, in every partition, that needs room and changes nothing.
func (s *Store) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errSlow)
	defer cancel()
	if _, err := ask[int](ctx, s.conn, func(p *partition) rueidis.Completed {
		return s.client.B().Setrange().Key(p.Key(rediskeys.Nothing)).Offset(0).Value("").Build()
	}); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	errs := []error{s.confirm(ctx)}
	for _, p := range s.parts {
		errs = append(errs, p.health())
	}
	return errors.Join(errs...)
}

// Close implements queue.Queue. Leases made from the store end with it. It waits until what was accepted is in the lanes.
func (s *Store) Close() error {
	s.releases.Wait()
	s.reporting.Wait()
	s.stop()
	s.sayGone()
	s.hub.Close()
	s.client.Close()
	s.work.Wait()
	return nil
}
