package redisq

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// TestMinuteIsAddedOnce checks that a call which the client sends again, because the connection broke, counts once, and
// that the minute expires.
func TestMinuteIsAddedOnce(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 2})
	at := time.Now().Add(-time.Hour)
	for i, want := range []int{1, 0} {
		n, err := s.parts[0].number(t.Context(), script.AddMinute, []string{s.minuteKey(at)}, []string{"by:1", "60000", "1", "sum", "7", "level", "8"})
		if err != nil || n != want {
			t.Fatalf("call %d gave %d, %v, want %d", i, n, err, want)
		}
	}
	server.Must("HSET", s.minuteKey(at), "damaged", "x")
	minutes, err := s.Minutes(t.Context(), 70)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]int64
	for _, m := range minutes {
		if len(m.Numbers) > 0 {
			got = append(got, m.Numbers)
		}
	}
	if diff := cmp.Diff([]map[string]int64{{"sum": 7, "level": 8}}, got); diff != "" {
		t.Errorf("numbers (-want +got):\n%s", diff)
	}
	if ttl := server.Must("PTTL", s.minuteKey(at)); len(ttl) != len("59999") {
		t.Errorf("the minute expires in %s ms", ttl)
	}
	if _, err := s.AddMinute(t.Context(), queue.Counted{Sums: map[string]int64{"sum": 1}}); err != nil {
		t.Fatal(err)
	}
	if n := server.Must("EVAL", `return #redis.call('KEYS', 'p:{p0}:minute:*')`, "0"); n != "2" {
		t.Errorf("there are %s minutes in partition 0, want 2", n)
	}
}
