package embedded

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// A call that is repeated while the first is on its way into the same transaction gets its receipt, and one with the
// same bytes and another key counts duplicates.
func TestRepeatedTogether(t *testing.T) {
	s := open(t, t.TempDir())
	var all [4]*enqueue
	for i := range all {
		all[i] = noteWith(s, queue.Other, queue.Normal, "the same")
	}
	first, again := all[0], all[1]
	repeated, other := all[2], all[3]
	again.sub.Idempotency = first.sub.Idempotency
	other.sub.Idempotency.Key = first.sub.Idempotency.Key
	other.sub.Idempotency.Fingerprint[0]++
	together(t, s, nothing, first, again, repeated, other)
	if r := again.receipt; !r.Replayed || r.ID != first.sub.ID {
		t.Errorf("repeated: %+v, want the first receipt", r)
	}
	if r := repeated.receipt; r.Duplicates != 1 || r.Accepted != 0 {
		t.Errorf("the same bytes: %+v, want a duplicate", r)
	}
	if other.err != queue.ErrIdempotencyMismatch { //nolint:errorlint // it is what was set
		t.Errorf("other words with the same key: %v", other.err)
	}
	if st := statsOf(t, s); st.Pending != 1 {
		t.Errorf("%d pending, want 1", st.Pending)
	}
}

// A call that shares a hash or the start of a key with another one is not taken for it.
func TestLookAlikes(t *testing.T) {
	const one, other = "text 48347", "text 112386" // texts of one hash
	if hashOf(one) != hashOf(other) {
		t.Fatal("the two texts don't share a hash any more")
	}
	s := open(t, t.TempDir())
	first, second := note(s, queue.Other, queue.Normal), note(s, queue.Other, queue.Normal)
	first.sub.URI, second.sub.URI = one, other
	first.sub.OrderingKey, second.sub.OrderingKey = "first", "second"
	second.sub.Idempotency.Key = first.sub.Idempotency.Key
	second.sub.Idempotency.Key[31]++
	together(t, s, nothing, first)
	together(t, s, nothing, second)
	if r := second.receipt; r.Replayed || r.Accepted != 1 {
		t.Errorf("another URI and key: %+v, want it accepted", r)
	}
	for uri, want := range map[string]string{one: "first", other: "second"} {
		refers := note(s, queue.Other, queue.Normal)
		refers.sub.Refers, refers.sub.OrderingKey = uri, uri
		together(t, s, nothing, refers)
		if got := refers.full.OrderingKey; got != want {
			t.Errorf("what refers to %s has the ordering key %s, want %s", uri, got, want)
		}
	}
}

// Keys are known for a day at least, and not for much longer.
func TestReceiptsAreForgotten(t *testing.T) {
	const hour = int64(time.Hour / time.Millisecond)
	r := newReceipts(0)
	for at := range int64(100) {
		r.add(map[uint64]int64{uint64(at): at}, at*hour)
		for key := range at {
			_, known := r.find(uint64(key))
			if age := at - key; age <= 24 && !known || age > 32 && known {
				t.Fatalf("a key of %d hours ago is known: %v", age, known)
			}
		}
	}
}

// Activities with one URI are found from the newest on, in whatever order they end.
func TestNamesakesLeave(t *testing.T) {
	s := open(t, t.TempDir())
	var ids []string
	for _, name := range []string{"1", "2", "3", "4"} {
		n := note(s, queue.Other, queue.Normal)
		n.sub.URI = "https://app.example/same"
		n.sub.Recipients[0].Inbox = "https://a.example/" + name
		together(t, s, nothing, n)
		ids = append(ids, n.sub.ID)
	}
	for _, step := range []struct {
		cancel int
		want   []int64
	}{{1, []int64{4, 3, 1}}, {3, []int64{3, 1}}, {0, []int64{3}}, {2, nil}} {
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
	together(t, s, nothing, n)
	first := takeAll(t, s, 1)
	retry := queue.Result{ID: first[0].ID, Verdict: queue.Retry, Spent: true}
	if _, err := s.Settle(bg, lease(1), queue.Settlement{Results: []queue.Result{retry}, Release: true}, 0); err != nil {
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
