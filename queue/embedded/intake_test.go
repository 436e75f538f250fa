package embedded

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// However many deliveries are written at once, each is its recipient's, in their order.
func TestFanOutIsWrittenAsGiven(t *testing.T) {
	for _, n := range []int{1, atOnce - 1, atOnce, atOnce + 1, 3*atOnce + 7} {
		s := open(t, t.TempDir())
		before := note(s, queue.Other, queue.Normal)
		fan := note(s, queue.Other, queue.Normal)
		fan.sub.Recipients = nil
		for i := range n {
			r := queue.Recipient{Host: fmt.Sprintf("h%d.example", i%10), Inbox: fmt.Sprintf("https://h%d.example/%d", i%10, i)}
			if i == 5 || i == 2*atOnce+10 { // between them there are enough without headers
				r.Headers = []queue.Header{{Name: "X-Place", Value: fmt.Sprint(i)}}
			}
			fan.sub.Recipients = append(fan.sub.Recipients, r)
		}
		together(t, s, nothing, before, fan)
		var got []queue.Recipient
		err := s.Export(bg, func(r queue.Record) error {
			if r.Activity != nil && r.Activity.ID == fan.sub.ID {
				for _, d := range r.Activity.Deliveries {
					got = append(got, queue.Recipient{Inbox: d.Inbox, Host: d.Host, Headers: d.Headers})
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fan.sub.Recipients, got); diff != "" {
			t.Errorf("%d recipients (-want +got):\n%s", n, diff)
		}
	}
}
