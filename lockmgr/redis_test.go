package lockmgr_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/lockmgr/locktest"
)

func dial(t *testing.T, addrs ...string) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: addrs, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRedis(t *testing.T) {
	for name, c := range map[string]struct {
		partitions int
		joint      bool
		start      func(t *testing.T) rueidis.Client
	}{
		"alone":               {1, false, func(t *testing.T) rueidis.Client { return dial(t, testredis.Start(t).Addr) }},
		"alone, a day behind": {4, true, func(t *testing.T) rueidis.Client { return dial(t, testredis.StartAhead(t, -26*time.Hour).Addr) }},
		"several partitions":  {4, false, func(t *testing.T) rueidis.Client { return dial(t, testredis.Start(t).Addr) }},
		"cluster":             {8, false, func(t *testing.T) rueidis.Client { return dial(t, testredis.StartCluster(t, 3).Nodes[0].Addr) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // nearly all of it is waiting
			client := c.start(t)
			locktest.Run(t, func(t *testing.T, ttl time.Duration) lockmgr.Manager {
				return lockmgr.NewRedis(client, rediskeys.Scheme{Prefix: t.Name(), Partitions: c.partitions, Joint: c.joint}, ttl)
			}, locktest.Options{Fleet: true})
		})
	}
}

// TestRedisTokensRiseAfterLoss checks that a Redis that lost its data gives no token twice.
func TestRedisTokensRiseAfterLoss(t *testing.T) {
	server := testredis.Start(t)
	m := lockmgr.NewRedis(dial(t, server.Addr), rediskeys.Scheme{Prefix: "p", Partitions: 1}, time.Minute)
	first := lease(t, m)
	server.Must("FLUSHALL")
	if second := lease(t, m); second.Token <= first.Token {
		t.Errorf("after a loss of all data the token is %d, not greater than %d", second.Token, first.Token)
	}
	ahead := uint64(time.Now().Add(time.Hour).UnixMicro())
	server.Must("FLUSHALL")
	server.Must("SET", "p:{p0}:token", fmt.Sprint(ahead))
	for range 3 {
		next := lease(t, m)
		if next.Token <= ahead {
			t.Errorf("after the clock was set back the token is %d, not greater than %d", next.Token, ahead)
		}
		ahead = next.Token
		if err := m.Release(t.Context(), []lockmgr.Lease{next}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRedisSetBack checks that the lease of a dead node ends soon though the clock was set back by days.
func TestRedisSetBack(t *testing.T) {
	server := testredis.StartAhead(t, 0)
	m := lockmgr.NewRedis(dial(t, server.Addr), rediskeys.Scheme{Prefix: "p", Partitions: 1}, time.Second)
	first := lease(t, m)
	server.Jump(-100 * time.Hour)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		leases, err := m.Acquire(t.Context(), []string{first.Host})
		if err != nil {
			t.Fatal(err)
		}
		if len(leases) > 0 && leases[0].Token > first.Token {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the host is still leased after 20 s")
		}
	}
}

func lease(t *testing.T, m lockmgr.Manager) lockmgr.Lease {
	t.Helper()
	leases, err := m.Acquire(t.Context(), []string{"a.example"})
	if err != nil || len(leases) != 1 {
		t.Fatalf("Acquire gave %v, %v", leases, err)
	}
	return leases[0]
}

// TestRedisWrongType checks that a key that another program has written fails only its host, and is named.
func TestRedisWrongType(t *testing.T) {
	server := testredis.Start(t)
	m := lockmgr.NewRedis(dial(t, server.Addr), rediskeys.Scheme{Prefix: "p", Partitions: 1}, time.Minute)
	const key = "p:{p0}:lease:broken.example"
	server.Must("LPUSH", key, "1")
	leases, err := m.Acquire(t.Context(), []string{"broken.example", "a.example"})
	if err != nil || len(leases) != 1 || leases[0].Host != "a.example" {
		t.Fatalf("Acquire gave %v, %v, want a.example only", leases, err)
	}
	none, err := m.Acquire(t.Context(), []string{"a.example", "broken.example"})
	if err == nil || !strings.Contains(err.Error(), strconv.Quote(key)) || len(none) != 0 {
		t.Errorf("Acquire gave %v, %v, want an error that names the key", none, err)
	}
	broken := lockmgr.Lease{Host: "broken.example", Token: 1, TTL: time.Minute}
	lost, err := m.Extend(t.Context(), []lockmgr.Lease{broken, leases[0]})
	if diff := cmp.Diff([]lockmgr.Lease{broken}, lost); err != nil || diff != "" {
		t.Errorf("Extend gave %v and reported others as lost (-want +got):\n%s", err, diff)
	}
	server.Must("DEL", key)
	if leases, err := m.Acquire(t.Context(), []string{"broken.example"}); err != nil || len(leases) != 1 {
		t.Errorf("Acquire gave %v, %v once the key was deleted", leases, err)
	}
}

// TestRedisJoint checks that one script leases the hosts of all partitions of one Redis and one extends the leases, in bounds,
// and that what is wrong in one partition is no concern of the others.
func TestRedisJoint(t *testing.T) {
	server := testredis.Start(t)
	keys := rediskeys.Scheme{Prefix: "p", Partitions: 64, Joint: true}
	m := lockmgr.NewRedis(dial(t, server.Addr), keys, time.Minute)
	hosts := make([]string, 500)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%d.example", i)
	}
	leases, err := m.Acquire(t.Context(), hosts)
	if err != nil || len(leases) != len(hosts) {
		t.Fatalf("Acquire gave %d leases, %v", len(leases), err)
	}
	if lost, err := m.Extend(t.Context(), leases); err != nil || len(lost) != 0 {
		t.Errorf("Extend: lost %d, %v", len(lost), err)
	}
	if n := server.Calls("evalsha"); n > 2*4 {
		t.Errorf("%d scripts ran for 500 hosts, twice, want at most 4 each time", n)
	}
	if err := m.Release(t.Context(), leases); err != nil {
		t.Fatal(err)
	}
	broken := keys.PartitionOf(hosts[0])
	server.Must("DEL", keys.Partition(broken).Key(rediskeys.Token))
	server.Must("LPUSH", keys.Partition(broken).Key(rediskeys.Token), "1")
	leases, err = m.Acquire(t.Context(), hosts)
	for _, l := range leases {
		if keys.PartitionOf(l.Host) == broken {
			t.Errorf("%s is leased, without a token", l.Host)
		}
	}
	want := 0
	for _, host := range hosts {
		if keys.PartitionOf(host) != broken {
			want++
		}
	}
	if err != nil || len(leases) != want {
		t.Errorf("Acquire gave %d leases, %v, want %d", len(leases), err, want)
	}
}

// TestRedisPartlyAway checks that an error in one partition fails its leases only.
func TestRedisPartlyAway(t *testing.T) {
	cluster := testredis.StartCluster(t, 3)
	m := lockmgr.NewRedis(dial(t, cluster.Nodes[0].Addr), rediskeys.Scheme{Prefix: "p", Partitions: 8}, time.Minute)
	var hosts []string
	for i := range 50 {
		hosts = append(hosts, fmt.Sprintf("h%d.example", i))
	}
	leases, err := m.Acquire(t.Context(), hosts)
	if err != nil || len(leases) != len(hosts) {
		t.Fatalf("Acquire gave %d leases, %v", len(leases), err)
	}
	defer cluster.Nodes[2].Freeze()()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	lost, err := m.Extend(ctx, leases)
	partly, ok := errors.AsType[*lockmgr.ExtendError](err)
	if !ok || len(lost) > 0 {
		t.Fatalf("Extend with one of three nodes away: lost %v, %v", lost, err)
	}
	if n := len(partly.Leases); n == 0 || n == len(leases) {
		t.Errorf("Extend failed for %d of %d leases, want those of one node", n, len(leases))
	}
}

// TestRedisLeavesNothing checks that lapsed and released leases use no memory.
func TestRedisLeavesNothing(t *testing.T) {
	server := testredis.Start(t)
	m := lockmgr.NewRedis(dial(t, server.Addr), rediskeys.Scheme{Prefix: "p", Partitions: 1}, time.Minute)
	if err := m.Release(t.Context(), []lockmgr.Lease{lease(t, m)}); err != nil {
		t.Fatal(err)
	}
	if n := server.Must("DBSIZE"); n != "1" {
		t.Errorf("%s keys are left, want that of the last token only", n)
	}
}

// TestRedisOutage checks that scripts are loaded again, and that a Redis that hangs does not block a caller for long.
func TestRedisOutage(t *testing.T) {
	server := testredis.Start(t)
	m := lockmgr.NewRedis(dial(t, server.Addr), rediskeys.Scheme{Prefix: "p", Partitions: 1}, time.Minute)
	held := lease(t, m)
	server.Must("SCRIPT", "FLUSH")
	if lost, err := m.Extend(t.Context(), []lockmgr.Lease{held}); err != nil || len(lost) != 0 {
		t.Errorf("Extend without its script loaded: lost %v, %v", lost, err)
	}
	server.Restart()
	if lost, err := m.Extend(t.Context(), []lockmgr.Lease{held}); err != nil || len(lost) != 0 {
		t.Errorf("Extend after a restart: lost %v, %v", lost, err)
	}
	thaw := server.Freeze()
	defer thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if leases, err := m.Acquire(ctx, []string{"b.example"}); err == nil {
		t.Errorf("Acquire of a Redis that hangs gave %v", leases)
	}
}

// TestRedisFull checks that hosts are leased when Redis has no room left: only work on them makes some.
func TestRedisFull(t *testing.T) {
	server := testredis.Start(t)
	m := lockmgr.NewRedis(dial(t, server.Addr), rediskeys.Scheme{Prefix: "p", Partitions: 1}, time.Minute)
	server.Must("CONFIG", "SET", "maxmemory", "1")
	held := lease(t, m)
	if lost, err := m.Extend(t.Context(), []lockmgr.Lease{held}); err != nil || len(lost) != 0 {
		t.Errorf("Extend: lost %v, %v", lost, err)
	}
	if err := m.Release(t.Context(), []lockmgr.Lease{held}); err != nil {
		t.Error(err)
	}
}
