package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// benchStore returns a store and a function that stores an activity for n hosts.
func benchStore(b *testing.B) (*Store, func(hosts int)) {
	b.Helper()
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	body := []byte(strings.Repeat("x", 2048))
	return s, func(hosts int) {
		id := uuid.Must(uuid.NewV7()).String()
		sub := &queue.Submission{TTL: time.Hour, Idempotency: queue.Idempotency{Key: sha256.Sum256([]byte(id))}, Activity: queue.Activity{
			ID: id, URI: "https://a.example/" + id, Type: "Create", KeyID: "https://a.example/#key", OrderingKey: id,
			Priority: queue.Normal, Body: body, Digest: sha256.Sum256(body),
		}}
		for i := range hosts {
			host := fmt.Sprintf("h%d.example", i)
			sub.Recipients = append(sub.Recipients, queue.Recipient{Host: host, Inbox: "https://" + host + "/inbox"})
		}
		if _, err := s.Enqueue(context.Background(), sub); err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkEnqueue stores activities for one inbox each, from many callers at once.
func BenchmarkEnqueue(b *testing.B) {
	_, enqueue := benchStore(b)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			enqueue(1)
		}
	})
}

// BenchmarkFanOut stores an activity for a thousand inboxes.
func BenchmarkFanOut(b *testing.B) {
	_, enqueue := benchStore(b)
	b.ReportAllocs()
	for b.Loop() {
		enqueue(1000)
	}
}

// BenchmarkTurn finds a lane, takes its one delivery and settles it as delivered.
func BenchmarkTurn(b *testing.B) {
	s, enqueue := benchStore(b)
	locks := lockmgr.NewLocal(time.Minute)
	for n := 0; n < b.N; n += 1000 {
		enqueue(1000)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := benchTurn(b.Context(), s, locks); err != nil {
			b.Fatal(err)
		}
	}
}

func benchTurn(ctx context.Context, s *Store, locks lockmgr.Manager) error {
	offer, err := s.Due(ctx, queue.Want{Lanes: 1, Suspect: 1})
	if err != nil {
		return err
	}
	leases, err := locks.Acquire(ctx, offer.Hosts)
	if err != nil {
		return err
	}
	turns, err := s.Take(ctx, leases, 1)
	if err != nil {
		return err
	}
	result := queue.Result{ID: turns[0].Deliveries[0].ID, Verdict: queue.Delivered}
	if err := s.Settle(ctx, leases[0], queue.Settlement{Results: []queue.Result{result}, Release: true}); err != nil {
		return err
	}
	return locks.Release(ctx, leases)
}

// BenchmarkClaim finds lanes, leases them and takes sixteen deliveries of each, with ever more pending.
func BenchmarkClaim(b *testing.B) {
	const depth = 20
	for _, hosts := range []int{50, 5000} {
		b.Run(fmt.Sprintf("pending=%d", hosts*depth), func(b *testing.B) {
			s, enqueue := benchStore(b)
			for range depth {
				enqueue(hosts)
			}
			locks := lockmgr.NewLocal(time.Minute)
			b.ReportAllocs()
			for b.Loop() {
				benchClaim(b, s, locks)
			}
		})
	}
}

func benchClaim(b *testing.B, s *Store, locks lockmgr.Manager) {
	b.Helper()
	ctx := b.Context()
	offer, err := s.Due(ctx, queue.Want{Lanes: 1, Suspect: 1})
	if err != nil {
		b.Fatal(err)
	}
	leases, err := locks.Acquire(ctx, offer.Hosts)
	if err != nil {
		b.Fatal(err)
	}
	turns, err := s.Take(ctx, leases, 16)
	if err != nil || len(turns) != 1 || len(turns[0].Deliveries) != 16 {
		b.Fatal(turns, err)
	}
	err = errors.Join(s.Settle(ctx, leases[0], queue.Settlement{Release: true}), locks.Release(ctx, leases))
	if err != nil {
		b.Fatal(err)
	}
}
