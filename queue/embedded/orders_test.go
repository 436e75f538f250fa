package embedded

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// TestOrderCutShort checks that an order that covers hosts is complete after a restart, though nothing but the order itself was
// written before.
func TestOrderCutShort(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sub := &queue.Submission{
		Activity: queue.Activity{ID: uuid.NewString(), URI: "1", Body: []byte("1")}, TTL: time.Hour,
	}
	const n = 2500 // more than one step looks at, or one transaction writes
	for i := range n {
		host := fmt.Sprintf("h%04d.a.example", i)
		sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: "https://" + host + "/inbox", Host: host})
	}
	if _, err := s.Enqueue(bg, sub); err != nil {
		t.Fatal(err)
	}
	o := &act{s: s, host: "a.example", action: queue.Block, asked: queue.Order{Subdomains: true, Reason: "spam"}}
	if err := s.writer.do(bg, o.run, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	for next := int64(0); next == 0; {
		wait, err := s.Sweep(bg)
		if err != nil {
			t.Fatal(err)
		}
		next = int64(wait)
	}
	st, err := s.Stats(bg)
	want := map[queue.HostState]int{queue.HostBlocked: n + 1}
	if diff := cmp.Diff(want, st.Hosts); err != nil || diff != "" || st.Pending != 0 || st.Died[queue.ReasonHostBlocked] != n {
		t.Errorf("stats are %+v, %v: %s", st, err, diff)
	}
	seen := map[string]int{}
	f := queue.FeedFilter{Kinds: []queue.EventKind{queue.EventHostState}}
	for cursor := ""; ; {
		list, err := s.Feed(bg, f, queue.Page{Limit: 500, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		if list.Next == cursor {
			break
		}
		cursor = list.Next
		for _, e := range list.Items {
			seen[e.Host]++
		}
	}
	if len(seen) != n+1 || seen["h0000.a.example"] != 1 || seen["h2499.a.example"] != 1 {
		t.Errorf("%d hosts have entries, want all, and each one entry", len(seen))
	}
}
