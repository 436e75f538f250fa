package embedded

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

const (
	benchHosts   = 50_000
	benchRounds  = 20 // activities to all of them
	benchLetters = 100_000
)

// BenchmarkWatching measures what the API reads of a large store: a million deliveries pending over 50,000 hosts, of which
// one in fifty is paused, and 100,000 dead letters of one host.
func BenchmarkWatching(b *testing.B) {
	s := largeStore(b)
	page := queue.Page{Limit: 50}
	ctx := b.Context()
	last := benchHost(benchHosts - 1)
	letters, err := s.DeadLetters(ctx, queue.DeadLetterFilter{}, page)
	if err != nil || len(letters.Items) == 0 {
		b.Fatal(letters, err)
	}
	dead := letters.Items[0].URI
	for _, c := range []struct {
		name string
		read func() (int, error)
		want int
	}{
		{"hosts", func() (int, error) { return items(s.Hosts(ctx, queue.HostFilter{}, page)) }, 50},
		{"hosts in the midst", func() (int, error) {
			return items(s.Hosts(ctx, queue.HostFilter{}, queue.Page{Limit: 50, Cursor: queue.NameCursor(benchHost(benchHosts / 2))}))
		}, 50},
		{"hosts by state", func() (int, error) { return items(s.Hosts(ctx, queue.HostFilter{State: queue.HostPaused}, page)) }, 50},
		{"hosts by part of the name", func() (int, error) { return items(s.Hosts(ctx, queue.HostFilter{Query: last}, page)) }, 1},
		{"hosts by what is pending", func() (int, error) { return items(s.Hosts(ctx, queue.HostFilter{Sort: queue.ByPending}, page)) }, 50},
		{"hosts by age", func() (int, error) { return items(s.Hosts(ctx, queue.HostFilter{Sort: queue.ByOldest}, page)) }, 50},
		{"dead letters", func() (int, error) { return items(s.DeadLetters(ctx, queue.DeadLetterFilter{}, page)) }, 50},
		{"dead letters of a host", func() (int, error) {
			return items(s.DeadLetters(ctx, queue.DeadLetterFilter{Host: "dead.example"}, page))
		}, 50},
		{"dead letters of an inbox", func() (int, error) {
			return items(s.DeadLetters(ctx, queue.DeadLetterFilter{Inbox: "https://dead.example/users/7/inbox"}, page))
		}, 1},
		{"dead letters of an activity", func() (int, error) { return items(s.DeadLetters(ctx, queue.DeadLetterFilter{URI: dead}, page)) }, 50},
		{"dead letters of a host and a rare reason", func() (int, error) {
			return items(s.DeadLetters(ctx, queue.DeadLetterFilter{Host: "dead.example", Reason: queue.ReasonGone}, page))
		}, 0},
		{"dead letters retried in a dry run", func() (int, error) {
			n, err := s.RetryDead(ctx, queue.DeadLetterChoice{DryRun: true, Filter: queue.DeadLetterFilter{Host: "dead.example"}}, time.Hour)
			return n.Matched, err
		}, benchLetters},
		{"stats", func() (int, error) {
			st, err := s.Stats(ctx)
			return st.Pending, err
		}, benchHosts * benchRounds},
		{"sweep", func() (int, error) {
			_, err := s.Sweep(ctx)
			return 0, err
		}, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if n, err := c.read(); err != nil || n != c.want {
					b.Fatalf("%d items, %v, want %d", n, err, c.want)
				}
			}
		})
	}
}

// BenchmarkLetters measures what operators do to 100,000 dead letters at once.
func BenchmarkLetters(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	many := make([]string, benchLetters)
	for i := range many {
		many[i] = "dead.example"
	}
	submitMany(b, s, many)
	var block, retry time.Duration
	for b.Loop() {
		start := time.Now()
		actOn(b, s, "dead.example", queue.Block)
		block += time.Since(start)
		actOn(b, s, "dead.example", queue.Unblock)
		start = time.Now()
		n, err := s.RetryDead(b.Context(), queue.DeadLetterChoice{}, time.Hour)
		if err != nil || n.Done != benchLetters {
			b.Fatal(n, err)
		}
		retry += time.Since(start)
	}
	b.ReportMetric(block.Seconds()/float64(b.N), "s/block")
	b.ReportMetric(retry.Seconds()/float64(b.N), "s/retry")
}

func items[T any](l queue.List[T], err error) (int, error) { return len(l.Items), err }

func benchHost(i int) string { return fmt.Sprintf("h%05d.example", i) }

func largeStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	names := make([]string, benchHosts)
	for i := range names {
		names[i] = benchHost(i)
	}
	dead := make([]string, benchLetters)
	for i := range dead {
		dead[i] = "dead.example"
	}
	submitMany(b, s, dead)
	actOn(b, s, "dead.example", queue.Block)
	for range benchRounds {
		submitMany(b, s, names)
	}
	for i := 0; i < benchHosts; i += 50 {
		actOn(b, s, benchHost(i), queue.Pause)
	}
	return s
}

// submitMany enqueues an activity to an inbox of its own on each of the hosts.
func submitMany(b testing.TB, s *Store, hosts []string) {
	b.Helper()
	id := uuid.Must(uuid.NewV7())
	sub := &queue.Submission{
		Activity: queue.Activity{ID: id.String(), URI: id.URN(), OrderingKey: id.URN(), Priority: queue.Normal, Body: []byte("{}")}, TTL: time.Hour,
	}
	copy(sub.Idempotency.Key[:], id[:])
	for i, host := range hosts {
		sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: fmt.Sprintf("https://%s/users/%d/inbox", host, i), Host: host})
	}
	if _, err := s.Enqueue(b.Context(), sub); err != nil {
		b.Fatal(err)
	}
}

func actOn(b testing.TB, s *Store, host string, action queue.HostAction) {
	b.Helper()
	if _, err := s.Act(b.Context(), host, action, queue.Order{}); err != nil {
		b.Fatal(err)
	}
}
