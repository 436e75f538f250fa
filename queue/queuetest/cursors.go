package queuetest

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// FuzzCursors checks that a list takes any text for a cursor: it answers with at most a page, from which paging ends,
// or with queue.ErrBadCursor. The store is empty at first.
func FuzzCursors(f *testing.F, q queue.Queue) {
	const most = 3 // of anything in the store
	sub := submission("1", "a.example", "b.example", "c.example")
	if _, err := q.Enqueue(f.Context(), sub); err != nil {
		f.Fatal(err)
	}
	for _, id := range []string{keyID, "k1", "k2"} {
		if _, err := q.PutKey(f.Context(), queue.Key{ID: id, Sealed: []byte("sealed")}); err != nil {
			f.Fatal(err)
		}
	}
	for _, cursor := range []string{"", "*", "-1", "1-2", "1-2-3", "7-00-0", "n", "nYQ", "nYS5leGFtcGxl", "4611686018427387903", "18446744073709551615", uuid.NewString()} {
		f.Add(cursor)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		checkCursor(t, cursor, most, func(p queue.Page) (int, string, error) {
			l, err := q.Deliveries(t.Context(), sub.ID, "", p)
			return len(l.Items), l.Next, err
		})
		checkCursor(t, cursor, most, func(p queue.Page) (int, string, error) {
			l, err := q.HostDeliveries(t.Context(), "a.example", p)
			return len(l.Items), l.Next, err
		})
		checkCursor(t, cursor, most, func(p queue.Page) (int, string, error) {
			l, err := q.Hosts(t.Context(), queue.HostFilter{}, p)
			return len(l.Items), l.Next, err
		})
		checkCursor(t, cursor, most, func(p queue.Page) (int, string, error) {
			l, err := q.DeadLetters(t.Context(), queue.DeadLetterFilter{}, p)
			return len(l.Items), l.Next, err
		})
		checkCursor(t, cursor, most, func(p queue.Page) (int, string, error) {
			l, err := q.Keys(t.Context(), queue.KeyFilter{}, p)
			return len(l.Items), l.Next, err
		})
	})
}

// checkCursor reads a list by pages of one item, from a cursor on.
func checkCursor(t *testing.T, cursor string, most int, list func(queue.Page) (items int, next string, err error)) {
	t.Helper()
	first, seen := cursor, 0
	for {
		n, next, err := list(queue.Page{Limit: 1, Cursor: cursor})
		if cursor == first && errors.Is(err, queue.ErrBadCursor) {
			return
		}
		if seen += n; err != nil || n > 1 || seen > most {
			t.Fatalf("from %q on, %d of %d items, %d more at %q: %v", first, seen, most, n, cursor, err)
		}
		if next == "" {
			return
		}
		cursor = next
	}
}
