package embedded

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// A call that is repeated while the first is on its way into the same transaction gets its receipt, and one of the same
// activity in other words counts duplicates.
func TestRepeatedTogether(t *testing.T) {
	s := open(t, t.TempDir())
	first, again, reworded, other := note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal)
	again.sub.Idempotency = first.sub.Idempotency
	reworded.sub.URI = first.sub.URI
	other.sub.Idempotency.Key = first.sub.Idempotency.Key
	other.sub.Idempotency.Fingerprint[0]++
	s.together(t, nothing, first, again, reworded, other)
	if r := again.receipt; !r.Replayed || r.ID != first.sub.ID {
		t.Errorf("repeated: %+v, want the first receipt", r)
	}
	if r := reworded.receipt; r.Duplicates != 1 || r.Accepted != 0 {
		t.Errorf("reworded: %+v, want a duplicate", r)
	}
	if other.err != queue.ErrIdempotencyMismatch { //nolint:errorlint // it is what was set
		t.Errorf("other words with the same key: %v", other.err)
	}
	if st := statsOf(t, s); st.Pending != 1 {
		t.Errorf("%d pending, want 1", st.Pending)
	}
}

// What shares a hash or the start of a key with something else is not taken for it.
func TestLookAlikes(t *testing.T) {
	const one, other = "8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ" // URIs of one hash
	s := open(t, t.TempDir())
	first, second, third := note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal)
	first.sub.URI, second.sub.URI, third.sub.URI = one, other, one
	second.sub.Idempotency.Key = first.sub.Idempotency.Key
	second.sub.Idempotency.Key[31]++
	s.together(t, nothing, first)
	s.together(t, nothing, second)
	s.together(t, nothing, third)
	if r := second.receipt; r.Replayed || r.Accepted != 1 || r.Duplicates != 0 {
		t.Errorf("another URI and key: %+v, want it accepted", r)
	}
	if r := third.receipt; r.Duplicates != 1 {
		t.Errorf("the first URI: %+v, want a duplicate", r)
	}
}

// Keys are known for a day at least, and not for much longer.
func TestReceiptsAreForgotten(t *testing.T) {
	const hour = int64(time.Hour / time.Millisecond)
	r := newReceipts(0)
	for at := range int64(100) {
		r.add(map[uint64]int64{uint64(at): at}, at*hour) //nolint:gosec // not negative
		for key := range at {
			_, known := r.find(uint64(key)) //nolint:gosec // not negative
			if age := at - key; age <= 24 && !known || age > 32 && known {
				t.Fatalf("a key of %d hours ago is known: %v", age, known)
			}
		}
	}
}

// Of activities with one URI those are looked at that have something pending.
func TestNamesakesLeave(t *testing.T) {
	s := open(t, t.TempDir())
	var ids []string
	for _, name := range []string{"1", "2", "3", "4"} {
		n := note(s, queue.Other, queue.Normal)
		n.sub.URI = "https://app.example/same"
		n.sub.Recipients[0].Inbox = "https://a.example/" + name
		s.together(t, nothing, n)
		ids = append(ids, n.sub.ID)
	}
	for _, step := range []struct {
		cancel int
		want   []int64
	}{{1, []int64{1, 3, 4}}, {3, []int64{1, 3}}, {0, []int64{3}}, {2, nil}} {
		if _, err := s.Cancel(bg, ids[step.cancel]); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, dump(s).URIs[hashOf("https://app.example/same")]); diff != "" {
			t.Errorf("after %d was cancelled (-want +got):\n%s", step.cancel+1, diff)
		}
	}
}

// A delivery keeps its headers when it is retried and when it moves to another store.
func TestHeadersStay(t *testing.T) {
	s, to := open(t, t.TempDir()), open(t, t.TempDir())
	n := note(s, queue.Other, queue.Normal)
	want := []queue.Header{{Name: "X-A", Value: "b"}}
	n.sub.Recipients[0].Headers = want
	s.together(t, nothing, n)
	first := takeAll(t, s, 1)
	retry := queue.Result{ID: first[0].ID, Verdict: queue.Retry, Spent: true}
	if err := s.Settle(bg, lease(1), queue.Settlement{Results: []queue.Result{retry}, Release: true}); err != nil {
		t.Fatal(err)
	}
	err := s.Export(bg, func(r queue.Record) error {
		_, err := to.Import(bg, []queue.Record{r})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, took := range map[string][]queue.Delivery{"new": first, "retried": takeAll(t, s, 2), "moved": takeAll(t, to, 1)} {
		if len(took) != 1 || !cmp.Equal(took[0].Headers, want) {
			t.Errorf("%s: %+v, want the headers %v", name, took, want)
		}
	}
}
