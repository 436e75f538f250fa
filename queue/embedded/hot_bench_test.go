package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
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
	var calls atomic.Int64
	return s, func(hosts int) {
		actor := fmt.Sprintf("https://a.example/users/%d", calls.Add(1)%1000)
		id := uuid.Must(uuid.NewV7()).String()
		body := []byte(id + strings.Repeat("x", 2048)) // another each time: equal ones would share it
		sub := &queue.Submission{TTL: time.Hour, Idempotency: queue.Idempotency{Key: sha256.Sum256([]byte(id))}, Activity: queue.Activity{
			ID: id, URI: "https://a.example/" + id, Type: "Create", Actor: actor, KeyID: actor + "#main-key", OrderingKey: id,
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
	if _, err := s.Settle(ctx, leases[0], queue.Settlement{Results: []queue.Result{result}, Release: true}, 0); err != nil {
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
	_, err = s.Settle(ctx, leases[0], queue.Settlement{Release: true}, 0)
	if err = errors.Join(err, locks.Release(ctx, leases)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOneInboxCalls stores activities for an inbox each on hosts that are paused, from many callers at once: the same
// activity in every call, as applications do that have no fan-out of their own, and a different one in each.
func BenchmarkOneInboxCalls(b *testing.B) {
	const hosts = 1000
	for _, kind := range []string{"different", "equal"} {
		b.Run(kind, func(b *testing.B) {
			s, enqueue := benchStore(b)
			enqueue(hosts)
			for i := range hosts {
				actOn(b, s, fmt.Sprintf("h%d.example", i), queue.Pause)
			}
			var calls atomic.Int64
			b.SetParallelism(32)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					n := calls.Add(1)
					if err := oneInboxCall(b.Context(), s, kind == "equal", n, n%hosts); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func oneInboxCall(ctx context.Context, s *Store, equal bool, n, host int64) error {
	uri := "https://a.example/announce"
	if !equal {
		uri += fmt.Sprint(n)
	}
	body := []byte(uri + strings.Repeat("x", 2048))
	name := fmt.Sprintf("h%d.example", host)
	r, err := s.Enqueue(ctx, &queue.Submission{
		Activity: queue.Activity{
			ID: uuid.Must(uuid.NewV7()).String(), URI: uri, Type: "Announce", KeyID: "https://a.example/#key", OrderingKey: uri,
			Priority: queue.Normal, Body: body,
		},
		TTL: time.Hour, Recipients: []queue.Recipient{{Host: name, Inbox: fmt.Sprintf("https://%s/users/%d/inbox", name, n)}},
	})
	if err == nil && r.Accepted != 1 {
		err = fmt.Errorf("accepted %d", r.Accepted)
	}
	return err
}
