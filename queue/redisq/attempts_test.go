package redisq

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// TestAttemptsAreStored checks that a history is what it was when it is read again.
func TestAttemptsAreStored(t *testing.T) {
	other := queue.LastAttempt{At: aTime.Add(-time.Hour), Status: 503, Outcome: "server_error", Error: "Service Unavailable", Duration: time.Minute}
	again := refused
	again.At, again.Duration = aTime.Add(-2*time.Hour), 5*time.Second
	for name, h := range map[string]queue.History{
		"one": {refused}, "the same again": {refused, again, again}, "others": {other, refused, other, other, again},
		"nothing of it": {queue.LastAttempt{}, refused, queue.LastAttempt{}},
	} {
		past := pastOf(h)
		attempt, err := attemptOf(shrinkAttempt(h.Last()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := historyOf(attempt, past)
		if diff := cmp.Diff(h, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		for i := range past {
			if got, err := historyOf(attempt, past[:i]); err == nil && len(got) == len(h) {
				t.Errorf("%s: %d of %d bytes are read as a whole", name, i, len(past))
			}
		}
	}
}

// TestKeepsAttempts checks that scripts keep attempts as they are read, and the last five.
func TestKeepsAttempts(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	sub := submission("1", 100, "a.example")
	sub.Recipients[0].IDs = []string{"https://a.example/users/ann"}
	enqueue(t, s, sub)
	var want queue.History
	for i := range 9 {
		a := refused
		a.At = aTime.Add(time.Duration(i) * time.Second)
		if i%3 == 1 {
			a.Status, a.Outcome = 500+i, "server_error"
			a.Error = ""
		}
		want = want.With(&a)
		l := lockmgr.Lease{Host: "a.example", Token: 1, TTL: time.Minute}
		turns, err := s.Take(t.Context(), []lockmgr.Lease{l}, 1)
		if err != nil || len(turns[0].Deliveries) != 1 {
			t.Fatal(turns, err)
		}
		st := queue.Settlement{Results: []queue.Result{{ID: turns[0].Deliveries[0].ID, Verdict: queue.Retry, Attempt: &a}}}
		if i%2 == 0 { // it stands for the host's last error
			st.Host = &queue.HostRecord{LastError: &a}
		}
		if _, err := s.Settle(t.Context(), l, st, 0); err != nil {
			t.Fatal(err)
		}
		d, err := s.Delivery(t.Context(), turns[0].Deliveries[0].ID)
		if diff := cmp.Diff(want, d.History); diff != "" || err != nil || !slices.Equal(d.IDs, sub.Recipients[0].IDs) {
			t.Errorf("after %d attempts, %v, with the IDs %v (-want +got):\n%s", i+1, err, d.IDs, diff)
		}
	}
}
