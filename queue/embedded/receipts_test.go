package embedded

import (
	"testing"
	"time"

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
