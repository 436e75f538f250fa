package embedded

import (
	"testing"
	"testing/synctest"
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

// Results that come shortly after a transaction share the next one, unless something must not wait.
func TestResultsShareATransaction(t *testing.T) {
	type coming struct {
		after time.Duration
		op    op
	}
	result := op{patient: true}
	for name, tt := range map[string]struct {
		idle  time.Duration // since the last transaction
		come  []coming
		waits time.Duration
		want  int
	}{
		"as long as it takes":      {come: []coming{{1, result}, {2, result}, {4, result}}, waits: pace, want: 3},
		"none comes":               {waits: pace, want: 1},
		"the last was long ago":    {idle: time.Hour, come: []coming{{1, result}}, want: 1},
		"the last was a while ago": {idle: 1, come: []coming{{1, result}, {3, result}}, waits: pace - time.Millisecond, want: 2},
		"something must not wait":  {come: []coming{{1, result}, {2, op{}}, {3, result}}, waits: 2 * time.Millisecond, want: 3},
		"something is alone":       {come: []coming{{1, op{alone: true}}, {2, result}}, waits: time.Millisecond, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if tt.idle < time.Hour {
					tt.idle *= time.Millisecond
				}
				w := &writer{pace: pace, ops: make(chan *op, maxQueued), calm: time.NewTimer(restAfter), ended: time.Now().Add(-tt.idle)}
				start := time.Now()
				w.ops <- &result
				for _, c := range tt.come {
					time.AfterFunc(c.after*time.Millisecond, func() { w.ops <- &c.op })
				}
				n := 0
				for range w.coming(w.next()) {
					n++
				}
				if waited := time.Since(start); n != tt.want || waited != tt.waits {
					t.Errorf("%d operations after %v, want %d after %v", n, waited, tt.want, tt.waits)
				}
				for n < len(tt.come)+1 { // or one is lost, and this never ends
					for range w.coming(w.next()) {
						n++
					}
				}
			})
		})
	}
}

// A settlement waits for others after a transaction, unless something else is written or the store is prompt.
func TestASettlementWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		prompt  bool
		another time.Duration // when something else is written
		want    time.Duration
	}{
		"for others":           {another: time.Hour, want: pace},
		"not for what is else": {another: pace / 3, want: pace / 3},
		"not if it is prompt":  {prompt: true, another: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := Open(t.TempDir(), Options{Prompt: tt.prompt})
				if err != nil {
					t.Fatal(err)
				}
				together(t, s, nothing, note(s, queue.Other, queue.Normal))
				another := time.AfterFunc(tt.another, func() { _ = s.writer.do(bg, func(*tx) error { return nil }, nil) })
				start := time.Now()
				retryAll(t, s, time.Hour)
				if took := time.Since(start); took != tt.want {
					t.Errorf("it took %v, want %v", took, tt.want)
				}
				another.Stop()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			})
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
