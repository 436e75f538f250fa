package queuetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// RunMove checks that all a store of one back-end holds can be moved to one of another.
func RunMove(t *testing.T, from, to Backend) {
	if from.Wrap == nil {
		from.Wrap = func(t *testing.T, f func(t *testing.T)) { f(t) }
	}
	for _, c := range []struct {
		name string
		run  func(from, to *suite)
	}{
		{"keeps every field", moveKeepsAll},
		{"can be repeated", moveRepeated},
		{"can be cut short anywhere", moveCutShort},
		{"keeps order and priorities", moveOrder},
		{"keeps attempts and waits", moveWaits},
		{"keeps the records of hosts", moveHosts},
		{"keeps who waits for a host to recover", moveHostFailed},
		{"keeps who waits for a key", moveWaitKey},
		{"keeps receipts", moveReceipts},
		{"keeps dead letters and counts", moveLetters},
		{"keeps TTLs", moveExpiry},
		{"keeps what operators did to hosts", moveActed},
		{"keeps orders", moveOrders},
		{"keeps unavailable hosts", moveUnavailable},
		{"keeps what deletions supersede", moveSupersedes},
		{"keeps tombstones", moveTombstones},
		{"keeps what is a duplicate and what others refer to", moveRepeats},
		{"keeps the places of dead letters", moveRetried},
		{"keeps the TTLs of what was retried", moveRevived},
		{"keeps deep lanes that wait", moveDeep},
		{"keeps order in deep lanes", moveDeepOrder},
		{"takes a large fan-out whole", moveLarge},
		{"stops at an error of the reader", moveStops},
		{"marks stores", marksStores},
	} {
		t.Run(c.name, func(t *testing.T) {
			from.Wrap(t, func(t *testing.T) {
				c.run(&suite{t: t, b: from, Queue: from.Open(t, Options{})}, &suite{t: t, b: to, Queue: to.Open(t, Options{})})
			})
		})
	}
}

// export returns all that a store holds.
func (s *suite) export() (records []queue.Record) {
	s.t.Helper()
	err := s.Export(s.t.Context(), func(r queue.Record) error {
		records = append(records, r)
		return nil
	})
	if err != nil {
		s.t.Fatalf("Export: %v", err)
	}
	return records
}

// load stores records, and checks how many were new.
func (s *suite) load(records []queue.Record, want int) {
	s.t.Helper()
	n, err := s.Import(s.t.Context(), records)
	if err != nil || n != want {
		s.t.Fatalf("Import of %d records stored %d, %v, want %d", len(records), n, err, want)
	}
}

// move moves everything, in calls of a few records each.
func (s *suite) move(to *suite) []queue.Record {
	s.t.Helper()
	all := s.export()
	for some := range slices.Chunk(all, 3) {
		to.load(some, len(some))
	}
	return all
}

// change does something to all deliveries of an activity among records, and returns how many there are.
func change(records []queue.Record, uri string, f func(a *queue.MovedActivity, d *queue.MovedDelivery)) (n int) {
	for _, r := range records {
		if r.Activity == nil || r.Activity.URI != uri {
			continue
		}
		for i := range r.Activity.Deliveries {
			f(r.Activity, &r.Activity.Deliveries[i])
			n++
		}
	}
	return n
}

// expire makes records look as if they were moved after what pends of an activity has expired, but for what has more
// than a TTL left.
func expire(records []queue.Record, uri string, most time.Duration) {
	change(records, uri, func(_ *queue.MovedActivity, d *queue.MovedDelivery) {
		if d.Reason == "" && d.TTL <= most {
			d.TTL = -second
		}
	})
}

// moved is near for the end of a wait: as much of it is left after a move that began then as was left before.
func (s *suite) moved(what string, began, want, got time.Time) {
	s.t.Helper()
	s.near(what, want.Add(min(time.Since(began), max(0, got.Sub(want)))), got)
}

// left returns durations that pass while a store is moved.
var left = gocmp.FilterPath(func(p gocmp.Path) bool {
	return slices.Contains([]string{"Wait", "Waited", "After", "TTL", "Finished", "For"}, strings.TrimPrefix(p.Last().String(), "."))
}, gocmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < time.Minute }))

// sameRecords checks that two stores held the same. Records without a promised order may be in any.
func (s *suite) sameRecords(want, got []queue.Record) {
	s.t.Helper()
	if diff := gocmp.Diff(inOrder(want), inOrder(got), left, sameTime, noneIsEmpty); diff != "" {
		s.t.Fatalf("what was moved is other than what was there (-want +got):\n%s", diff)
	}
}

// inOrder sorts what Export gives in any order: activities without pending deliveries, tombstones, receipts, and the
// deliveries of an activity, which are in order only within a lane.
func inOrder(records []queue.Record) []queue.Record {
	rank := func(r queue.Record) string {
		switch {
		case r.Key != nil:
			return "1" + r.Key.ID
		case r.Order != nil:
			return "2" + r.Order.Host + string(r.Order.Action)
		case r.Host != nil:
			return "2." + r.Host.Host
		case r.Tombstone != nil:
			return "5" + r.Tombstone.Object
		case r.Receipt != nil:
			return "6" + r.Receipt.ID
		case r.Activity.Finished == 0 && slices.ContainsFunc(r.Activity.Deliveries, isPending):
			return "3"
		}
		return "4" + r.Activity.ID
	}
	sorted := slices.Clone(records)
	for _, r := range sorted {
		if r.Activity != nil {
			slices.SortStableFunc(r.Activity.Deliveries, func(a, b queue.MovedDelivery) int { return cmp.Compare(a.Host, b.Host) })
		}
	}
	slices.SortStableFunc(sorted, func(a, b queue.Record) int { return cmp.Compare(rank(a), rank(b)) })
	return sorted
}

func isPending(d queue.MovedDelivery) bool { return d.Reason == "" }

// furnish gives a store something of everything.
func furnish(s *suite) {
	hosts := []queue.Record{
		{Host: &queue.MovedHost{Host: "blocked.example", Orders: []queue.MovedOrder{{Host: "blocked.example", Action: queue.Block, Since: time.Now()}}}},
		{Host: &queue.MovedHost{Host: "paused.example", Wait: time.Hour, Record: fullRecord(), Orders: []queue.MovedOrder{{
			Host: "paused.example", Action: queue.Pause, Since: time.Now().Add(-time.Hour),
			Order: queue.Order{Reason: "moves house", By: "ops", For: time.Hour},
		}}}},
		{Host: &queue.MovedHost{Host: "reset.example", Record: queue.HostRecord{Scheme: "cavage", Epoch: 3}}},
	}
	s.load(hosts, 3)
	s.load([]queue.Record{{Activity: oldActivity()}}, 1)
	s.putKey("https://app.example/users/bob#main-key")
	s.putKey("other")
	s.record("recorded.example", fullRecord())
	mixed := submission("https://app.example/mixed", "fine.example", "gone.example", "later.example", "new.example", "blocked.example",
		"https://odd.example:8443/users/eve/inbox", "http://plain.example/inbox")
	mixed.Note = []byte("note\x00")
	mixed.OrderingKey = "https://app.example/notes/1"
	mixed.Priority = queue.High
	mixed.Object = "https://app.example/notes/1"
	mixed.Role = queue.Deletes
	mixed.Final = []int{401, 403}
	mixed.Pin = "SHA256:abc"
	mixed.Trace = []byte("\x00trace\xff")
	for i := range mixed.Recipients {
		mixed.Recipients[i].Headers = []queue.Header{{Name: "X-Place", Value: fmt.Sprint(i)}}
	}
	s.enqueue(mixed)
	for host, verdict := range map[string]func(queue.Delivery) queue.Result{
		"fine.example":     delivered,
		"gone.example":     func(d queue.Delivery) queue.Result { return dead(d, queue.ReasonGone) },
		"later.example":    func(d queue.Delivery) queue.Result { return hostFailed(d, time.Hour) },
		"odd.example:8443": func(d queue.Delivery) queue.Result { return retry(d, 2*time.Hour) },
	} {
		l := s.lease(host)
		s.finish(l, verdict(s.one(l, mixed.URI)))
	}
	s.put("waits", "key.example", func(sub *queue.Submission) { sub.KeyID = "missing" }, lasting(5*time.Hour))
	l := s.lease("key.example")
	s.finish(l, waitKey(s.one(l, "waits")))
	s.cancel(s.put("cancelled", "a.example"))
	s.bury("dead", "gone.example", queue.ReasonRejected)
	s.put("behind", "new.example", ordering("https://app.example/notes/1"), priority(queue.Low))
	s.got(submissionOf("behind", "new.example", ordering("https://app.example/notes/1")), 0, 1)
}

// oldActivity was finished hours ago; of its dead letters one is kept.
func oldActivity() *queue.MovedActivity {
	sub := submission("https://app.example/old", "old.example")
	ago := func(d time.Duration) time.Time { return time.Now().UTC().Add(-d).Truncate(time.Millisecond) }
	sub.CreatedAt = ago(70 * time.Hour)
	return &queue.MovedActivity{
		Activity: sub.Activity, Delivered: 3, Dead: 2, Cancelled: 1, Finished: 2 * time.Hour,
		Deliveries: []queue.MovedDelivery{{
			Recipient: sub.Recipients[0], Attempts: 7, History: queue.History{*attempt("server_error", 502), *attempt("unreachable", 0)}, Reason: queue.ReasonExhausted, DiedAt: ago(50 * time.Hour),
		}},
	}
}

func moveKeepsAll(from, to *suite) {
	furnish(from)
	records := from.move(to)
	var kinds [5]int
	for _, r := range records {
		for i, is := range []bool{r.Key != nil, r.Host != nil, r.Activity != nil, r.Tombstone != nil, r.Receipt != nil} {
			if is {
				kinds[i]++
			}
		}
	}
	from.same("keys, hosts, activities, tombstones and receipts", [5]int{2, 12, 8, 1, 7}, kinds)
	to.sameRecords(records, to.export())
	want, got := from.stats(), to.stats()
	want.Delivered = got.Delivered
	want.Died = got.Died
	want.PerSecond = got.PerSecond // since the store was made
	to.same("stats", want, got)
	to.reopen()
	to.sameRecords(records, to.export())
}

// moveRepeated checks that a second move brings nothing back that is done since the first.
func moveRepeated(from, to *suite) {
	furnish(from)
	records := from.move(to)
	to.load(records, 0)
	to.sameRecords(records, to.export())
	l := to.lease("new.example")
	to.finish(l, delivered(to.one(l, "https://app.example/mixed")))
	to.load(records, 0)
	l = to.lease("new.example")
	to.finish(l, delivered(to.one(l, "behind")))
	to.load(records, 0)
	to.take(to.lease("new.example"))
	to.same("pending", 0, to.host("new.example").Pending)
}

func moveCutShort(from, to *suite) {
	furnish(from)
	records := from.export()
	for _, n := range []int{1, len(records) / 2, len(records) - 3} { // after a key, and among activities and receipts
		s := &suite{t: to.t, b: to.b, Queue: to.b.Open(to.t, Options{})}
		s.load(records[:n], n)
		s.load(records, len(records)-n)
		s.sameRecords(records, s.export())
	}
}
