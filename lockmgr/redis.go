package lockmgr

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
)

// Redis is the Manager of a fleet: its leases live in a Redis or Valkey that all nodes share.
//
// Each call is one script for each partition of the hosts or, where one Redis has all partitions, for all. Redis's clock alone
// decides when a lease ends, and every call is idempotent: an Acquire whose answer was lost on a broken connection is sent
// again and gets the same leases. An Acquire that timed out may leave hosts leased without a holder, until they lapse.
//
// Leases end by Redis's wall clock. If it is set ahead they end early, which their holders notice when they extend them; if
// it is set back the next Acquire of the host shortens them.
//
// Tokens follow Redis's clock in microseconds, and never fall even when it is set back. So they go on rising when a
// Redis comes back without its last writes, or empty.
type Redis struct {
	client rueidis.Client
	keys   rediskeys.Scheme
	ttl    time.Duration
}

var _ Manager = (*Redis)(nil)

// NewRedis returns a Redis whose leases last ttl. Managers with the same keys on the same Redis exclude one another.
func NewRedis(client rueidis.Client, keys rediskeys.Scheme, ttl time.Duration) *Redis {
	return &Redis{client: client, keys: keys, ttl: ttl}
}

// callTimeout bounds every call: without it, a call without a deadline would hang on a Redis that has stopped.
const callTimeout = 5 * time.Second

var (
	//go:embed acquire.lua
	acquireSource string
	//go:embed extend.lua
	extendSource string

	acquireScript = rueidis.NewLuaScriptRetryable(acquireSource)
	extendScript  = rueidis.NewLuaScriptRetryable(extendSource)
)

// Acquire implements Manager. It returns an error of a partition or host only if no other host was leased.
func (r *Redis) Acquire(ctx context.Context, hosts []string) ([]Lease, error) {
	nonce := rand.Text()
	leases, _, err := forEach(ctx, r, group(r, hosts, func(host string) string { return host }),
		func(ctx context.Context, groups []hosted[string]) ([]Lease, error) {
			var keys, all []string
			args := []string{r.millis(), nonce}
			for _, g := range groups {
				keys = append(append(keys, g.p.Key(rediskeys.Token)), r.leaseKeys(g.p, g.things)...)
				args = append(args, strconv.Itoa(len(g.things)))
				all = append(all, g.things...)
			}
			tokens, err := acquireScript.Exec(ctx, r.client, keys, args).AsStrSlice()
			if err != nil {
				return nil, err
			}
			return r.leases(all, tokens)
		})
	if len(leases) > 0 {
		return leases, nil
	}
	return nil, err
}

// leases returns the leases that the tokens grant, once each. The error names keys that another program has written.
func (r *Redis) leases(hosts, tokens []string) ([]Lease, error) {
	var leases []Lease
	var errs []error
	seen := make(map[string]bool, len(hosts))
	for i, text := range tokens {
		if text == "" || seen[hosts[i]] {
			continue
		}
		seen[hosts[i]] = true
		if text == "!" {
			key := r.keys.Partition(r.keys.PartitionOf(hosts[i])).Of(rediskeys.Lease, hosts[i])
			errs = append(errs, fmt.Errorf("the key %q holds no lease: something else has written it; delete it", key))
			continue
		}
		token, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, err
		}
		leases = append(leases, Lease{Host: hosts[i], Token: token, TTL: r.ttl})
	}
	return leases, errors.Join(errs...)
}

// Extend implements Manager. An error in one partition leaves the leases of the others extended.
func (r *Redis) Extend(ctx context.Context, leases []Lease) (lost []Lease, err error) {
	lost, failed, err := r.setTTL(ctx, leases, r.millis())
	if err != nil {
		err = &ExtendError{Leases: failed, Err: err}
	}
	return lost, err
}

// Release implements Manager.
func (r *Redis) Release(ctx context.Context, leases []Lease) error {
	_, _, err := r.setTTL(ctx, leases, "0")
	return err
}

// setTTL makes leases last millis from now. It returns the leases that are not held, and those whose call failed.
func (r *Redis) setTTL(ctx context.Context, leases []Lease, millis string) (lost, failed []Lease, err error) {
	return forEach(ctx, r, group(r, leases, func(l Lease) string { return l.Host }),
		func(ctx context.Context, groups []hosted[Lease]) ([]Lease, error) {
			var keys []string
			var leases []Lease
			args := []string{millis}
			for _, g := range groups {
				keys = append(keys, r.leaseKeys(g.p, hostsOf(g.things))...)
				leases = append(leases, g.things...)
			}
			for _, l := range leases {
				args = append(args, strconv.FormatUint(l.Token, 10))
			}
			held, err := extendScript.Exec(ctx, r.client, keys, args).AsIntSlice()
			if err != nil {
				return nil, err
			}
			var lost []Lease
			for i, ok := range held {
				if ok == 0 {
					lost = append(lost, leases[i])
				}
			}
			return lost, nil
		})
}

func (r *Redis) millis() string { return strconv.FormatInt(max(1, r.ttl.Milliseconds()), 10) }

func (r *Redis) leaseKeys(p rediskeys.Partition, hosts []string) []string {
	keys := make([]string, len(hosts))
	for i, host := range hosts {
		keys[i] = p.Of(rediskeys.Lease, host)
	}
	return keys
}

func hostsOf(leases []Lease) []string {
	hosts := make([]string, len(leases))
	for i, l := range leases {
		hosts[i] = l.Host
	}
	return hosts
}

// hosted is things whose hosts are in one partition.
type hosted[T any] struct {
	p      rediskeys.Partition
	things []T
}

// group returns things by the partition of their host.
func group[T any](r *Redis, things []T, hostOf func(T) string) (groups []hosted[T]) {
	places := map[int]int{}
	for _, t := range things {
		n := r.keys.PartitionOf(hostOf(t))
		i, known := places[n]
		if !known {
			i = len(groups)
			places[n] = i
			groups = append(groups, hosted[T]{p: r.keys.Partition(n)})
		}
		groups[i].things = append(groups[i].things, t)
	}
	return groups
}

// scriptHosts is how many hosts one script is about, unless more are in one partition: that takes a millisecond.
const scriptHosts = 200

// bundle returns the groups that one script is about each: one of them, or several where one Redis has them.
func bundle[T any](r *Redis, groups []hosted[T]) (bundles [][]hosted[T]) {
	size := scriptHosts
	for i, g := range groups {
		if size += len(g.things); !r.keys.Joint || size > scriptHosts {
			bundles = append(bundles, nil)
			size = len(g.things)
		}
		last := len(bundles) - 1
		bundles[last] = append(bundles[last], groups[i])
	}
	return bundles
}

// forEach calls a function for all groups, concurrently, and joins the answers. It returns the things of the calls that
// failed. Where Redis refuses a call for several groups, it is made for each: so what is wrong in one partition is no concern of
// the others.
func forEach[T any](ctx context.Context, r *Redis, groups []hosted[T],
	call func(context.Context, []hosted[T]) ([]Lease, error),
) (all []Lease, failed []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		run  func(some []hosted[T])
	)
	run = func(some []hosted[T]) {
		leases, err := call(ctx, some)
		if _, refused := rueidis.IsRedisErr(err); refused && len(some) > 1 {
			for i := range some {
				run(some[i : i+1])
			}
			return
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, leases...)
		if err == nil {
			return
		}
		for _, g := range some {
			failed = append(failed, g.things...)
		}
		errs = append(errs, fmt.Errorf("redis: %w", err))
	}
	for _, some := range bundle(r, groups) {
		wg.Go(func() { run(some) })
	}
	wg.Wait()
	return all, failed, errors.Join(errs...)
}
