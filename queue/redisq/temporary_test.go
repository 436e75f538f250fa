package redisq

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testcert"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestTemporary opens stores that can't be opened, or can't yet.
func TestTemporary(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	protected := testredis.Start(t, "--requirepass", "sesame")
	full := testredis.Start(t, "--maxmemory", "1")
	loading := testredis.Start(t)
	loading.Must("EVAL", "for i = 1, 2000 do redis.call('SET', 'k' .. i, i) end", "0")
	openStore(t, Options{URL: server.URL(), Prefix: "four", Partitions: 4})
	server.Must("SET", "odd:{p0}:meta", "text")
	server.Must("HSET", "strange:{p0}:meta", "partitions", "many")
	ca := testcert.New(t)
	pair := ca.Issue("redis")
	_, secure := testredis.StartTLS(t, ca.File, pair.Cert, pair.Key)
	for _, c := range []struct {
		name, url, prefix string
		want              bool
	}{
		{"nobody there", "redis://127.0.0.1:1", "p", true},
		{"no socket there", "redis+unix:///nowhere/redis.sock", "p", true},
		{"no such name", "redis://nowhere.invalid", "p", true},
		{"no cluster there", "redis+cluster://127.0.0.1:1,127.0.0.1:2", "p", true},
		{"no sentinels there", "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main", "p", true},
		{"one that hangs up", "redis://" + hangingUp(t), "p", true},
		{"one that loads", loading.URL(), "p", true},
		{"a new store where there is no room", full.URL(), "p", true},
		{"no password", protected.URL(), "p", false},
		{"a wrong password", "redis://:open@" + protected.Addr, "p", false},
		{"no database of that number", server.URL() + "/99", "p", false},
		{"another number of partitions", server.URL(), "four", false},
		{"a key of another kind", server.URL(), "odd", false},
		{"no number of partitions", server.URL(), "strange", false},
		{"a certificate that is not trusted", "rediss://" + secure, "p", false},
		{"no URL", "redis://", "p", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.url == loading.URL() { // now, as other tests may run for long before this one
				loading.RestartLoading(20 * time.Millisecond)
			}
			s, err := Open(t.Context(), Options{URL: c.url, Prefix: c.prefix, Partitions: 1})
			if err == nil {
				_ = s.Close()
			}
			if err == nil || Temporary(err) != c.want {
				t.Errorf("%v: temporary is %t, want %t", err, Temporary(err), c.want)
			}
		})
	}
}

// hangingUp listens, and hangs up at the first word.
func hangingUp(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// TestOpenFull checks that a store is opened and worked on where there is no room for more.
func TestOpenFull(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	enqueue(t, s, submission("1", 10, "a.example"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	server.Must("CONFIG", "SET", "maxmemory", "1")
	s = openStore(t, Options{URL: server.URL(), Prefix: "p"})
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), queue.ErrFull.Error()) {
		t.Errorf("Ready says %v", err)
	}
	leases, err := s.Leases(time.Minute).Acquire(t.Context(), []string{"a.example"})
	if err != nil || len(leases) != 1 {
		t.Fatalf("Acquire gave %d leases, %v", len(leases), err)
	}
	turns, err := s.Take(t.Context(), leases, 1)
	if err != nil || len(turns[0].Deliveries) != 1 {
		t.Fatalf("Take gave %+v, %v", turns, err)
	}
	result := queue.Result{ID: turns[0].Deliveries[0].ID, Verdict: queue.Delivered, Spent: true}
	if _, err := s.Settle(t.Context(), leases[0], queue.Settlement{Results: []queue.Result{result}, Release: true}, 0); err != nil {
		t.Fatal(err)
	}
	if n := pending(t, s); n != 0 {
		t.Errorf("%d deliveries are pending", n)
	}
}
