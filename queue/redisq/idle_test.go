package redisq

import (
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestIdleSweepAsksForNothing checks that a node which sweeps every second, as the pool does, bothers Redis only when
// there may be something to sweep, also where there are many partitions.
func TestIdleSweepAsksForNothing(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 64})
	enqueue(t, s, submission("1", 100, manyHosts(10)...)) // lasts for longer
	if next, err := s.Sweep(t.Context()); err != nil || next != queue.MaxIdle {
		t.Fatalf("the first sweep gave %s, %v", next, err)
	}
	before := commands(t, server)
	for range 10 {
		if next, err := s.Sweep(t.Context()); err != nil || next <= 0 || next > queue.MaxIdle {
			t.Errorf("a sweep with nothing to do gave %s, %v", next, err)
		}
	}
	if n := commands(t, server) - before - 1; n != 0 { // but for the one that asked
		t.Errorf("ten sweeps with nothing to do took %d commands", n)
	}
}

// commands is how many commands a Redis has run, in scripts too.
func commands(t *testing.T, server *testredis.Server) int {
	t.Helper()
	_, text, _ := strings.Cut(server.Must("INFO", "stats"), "total_commands_processed:")
	text, _, _ = strings.Cut(text, "\r")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
