package embedded

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// A transaction takes what waits, and waits for others only while there may be some of those that came with the last one.
func TestATransactionWaitsForThoseThatMayCome(t *testing.T) {
	const patience = 10 * time.Millisecond
	for name, tt := range map[string]struct {
		expected int
		waiting  int             // beside the first
		later    []time.Duration // when others come
		want     int             // operations
		took     time.Duration
	}{
		"alone":                         {expected: 1, want: 1},
		"the first ever":                {want: 1},
		"all that are expected wait":    {expected: 3, waiting: 2, want: 3},
		"more wait than expected":       {expected: 2, waiting: 4, want: 5},
		"those that are expected come":  {expected: 3, later: []time.Duration{time.Millisecond, 4 * time.Millisecond}, want: 3, took: 4 * time.Millisecond},
		"not all come":                  {expected: 3, later: []time.Duration{4 * time.Millisecond}, want: 2, took: patience},
		"one comes too late":            {expected: 2, later: []time.Duration{12 * time.Millisecond}, want: 1, took: patience},
		"they come one after the other": {expected: 4, later: []time.Duration{6 * time.Millisecond, 9 * time.Millisecond, 14 * time.Millisecond}, want: 3, took: patience},
		"no more than fit":              {expected: 2 * maxGroup, waiting: maxGroup, want: maxGroup},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &writer{ops: make(chan *op, maxQueued), expected: tt.expected, patience: patience}
				for range tt.waiting {
					w.ops <- &op{}
				}
				for _, at := range tt.later {
					time.AfterFunc(at, func() { w.ops <- &op{} })
				}
				began, n := time.Now(), 0
				for range w.coming(&op{}) {
					n++
				}
				if took := time.Since(began); n != tt.want || took != tt.took {
					t.Errorf("%d operations after %v, want %d after %v", n, took, tt.want, tt.took)
				}
			})
		})
	}
}

// Who was told that an activity is accepted finds all of it, though memory had not all of it yet.
func TestWhatIsAcceptedIsSeen(t *testing.T) {
	s := open(t, t.TempDir())
	const inboxes = 500
	for i := 1; i <= 50; i++ {
		id := uuid.Must(uuid.NewV7())
		sub := &queue.Submission{
			Activity:    queue.Activity{ID: id.String(), URI: id.URN(), Priority: queue.Normal, Body: []byte("{}")},
			TTL:         time.Hour,
			Idempotency: queue.Idempotency{Key: [32]byte(append(id[:], id[:]...))},
		}
		for range inboxes {
			sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: "https://a.example/" + uuid.NewString(), Host: "a.example"})
		}
		if _, err := s.Enqueue(bg, sub); err != nil {
			t.Fatal(err)
		}
		*sub = queue.Submission{} // it is the caller's again
		if got := hostOf(t, s).Pending; got != i*inboxes {
			t.Fatalf("%d are pending, want %d", got, i*inboxes)
		}
	}
}
