package embedded

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// A transaction takes what waits when it begins and what comes while it runs, as long as there is room.
func TestATransactionTakesWhatWaits(t *testing.T) {
	for name, tt := range map[string]struct{ waiting, later, want int }{
		"alone":                   {want: 1},
		"all that wait":           {waiting: 4, want: 5},
		"what comes meanwhile":    {waiting: 1, later: 2, want: 4},
		"no more than there fits": {waiting: maxGroup, later: 2, want: maxGroup},
	} {
		t.Run(name, func(t *testing.T) {
			w := &writer{ops: make(chan *op, maxQueued)}
			for range tt.waiting {
				w.ops <- &op{}
			}
			n := 0
			for range w.coming(&op{}) {
				if n++; n <= tt.later {
					w.ops <- &op{}
				}
			}
			if n != tt.want {
				t.Errorf("%d operations, want %d", n, tt.want)
			}
		})
	}
}

// A caller that has the answer to its call finds all of the activity, though memory had not all of it yet.
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
