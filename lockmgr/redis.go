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
// Each call is one script for each partition of the hosts. Redis's clock alone decides when a lease ends, and every call is
// idempotent: an Acquire whose answer was lost on a broken connection is sent again and gets the same leases. An Acquire
// that timed out may leave hosts leased without a holder, until they lapse.
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
		func(ctx context.Context, p rediskeys.Partition, hosts []string) ([]Lease, error) {
			keys := append([]string{p.Key(rediskeys.Token)}, r.leaseKeys(p, hosts)...)
			tokens, err := acquireScript.Exec(ctx, r.client, keys, []string{r.millis(), nonce}).AsStrSlice()
			if err != nil {
				return nil, err
			}
			return r.leases(p, hosts, tokens)
		})
	if len(leases) > 0 {
		return leases, nil
	}
	return nil, err
}

// leases returns the leases that the tokens grant, once each. The error names keys that another program has written.
func (r *Redis) leases(p rediskeys.Partition, hosts, tokens []string) ([]Lease, error) {
	var leases []Lease
	var errs []error
	seen := make(map[string]bool, len(hosts))
	for i, text := range tokens {
		if text == "" || seen[hosts[i]] {
			continue
		}
		seen[hosts[i]] = true
		if text == "!" {
			errs = append(errs, fmt.Errorf("the key %q holds no lease: something else has written it; delete it", p.Of(rediskeys.Lease, hosts[i])))
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
		func(ctx context.Context, p rediskeys.Partition, leases []Lease) ([]Lease, error) {
			args := []string{millis}
			for _, l := range leases {
				args = append(args, strconv.FormatUint(l.Token, 10))
			}
			held, err := extendScript.Exec(ctx, r.client, r.leaseKeys(p, hostsOf(leases)), args).AsIntSlice()
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

// group returns things by the partition of their host.
func group[T any](r *Redis, things []T, hostOf func(T) string) map[int][]T {
	byPartition := make(map[int][]T)
	for _, t := range things {
		p := r.keys.PartitionOf(hostOf(t))
		byPartition[p] = append(byPartition[p], t)
	}
	return byPartition
}

// forEach calls a function for each partition, concurrently, and joins the answers. It returns the things of the calls that
// failed.
func forEach[T any](ctx context.Context, r *Redis, groups map[int][]T,
	call func(context.Context, rediskeys.Partition, []T) ([]Lease, error),
) (all []Lease, failed []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for n, things := range groups {
		wg.Go(func() {
			leases, err := call(ctx, r.keys.Partition(n), things)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, leases...)
			if err != nil {
				failed = append(failed, things...)
				errs = append(errs, fmt.Errorf("redis: %w", err))
			}
		})
	}
	wg.Wait()
	return all, failed, errors.Join(errs...)
}
