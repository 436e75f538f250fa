package queuetest

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/queue"
)

// moveDeep moves a lane in which more waits for its retry than a store may look at, and more behind that.
func moveDeep(from, to *suite) {
	waiting := from.fill("a.example", 60)
	l := from.lease("a.example")
	var results []queue.Result
	for _, d := range from.take(l, waiting...) {
		results = append(results, retry(d, time.Hour))
	}
	from.finish(l, results...)
	ready := from.fill("a.example", 60)
	accepted := from.host("a.example").OldestPendingAt
	from.move(to)
	to.same("pending", 120, to.host("a.example").Pending)
	to.near("oldest pending", accepted, to.host("a.example").OldestPendingAt)
	l = to.lease("a.example")
	var got []string
	for len(got) < len(ready) {
		ds := to.turn(l, 10).Deliveries
		if len(ds) == 0 {
			break
		}
		for _, d := range ds {
			got = append(got, d.Activity.URI)
			to.settle(l, delivered(d))
		}
	}
	to.same("what is due", ready, got)
	to.take(l)
	to.same("pending", 60, to.host("a.example").Pending)
}

// moveDeepOrder moves a lane in which the second of an ordering key was tried, as it may be after a move that mended
// the order.
func moveDeepOrder(from, to *suite) {
	want := from.fill("a.example", 40)
	for _, uri := range []string{"1", "2"} {
		from.put(uri, "a.example", ordering("https://app.example/notes/1"))
	}
	records := from.export()
	for _, r := range records {
		if r.Activity != nil && r.Activity.URI == "2" {
			r.Activity.Deliveries[0].Attempts = 1
		}
	}
	to.load(records, len(records))
	l := to.lease("a.example")
	ds := to.take(l, append(want, "1")...)
	to.settle(l, delivered(ds["1"]))
	to.same("attempts", 1, to.one(l, "2").Attempts)
}

// moveLarge moves an activity with more deliveries than a store may take at once.
func moveLarge(from, to *suite) {
	const n = 700
	var inboxes []string
	for i := range n {
		inboxes = append(inboxes, fmt.Sprintf("https://a.example/users/%d/inbox", i))
	}
	sub := submission("1", append(inboxes, hosts("h", n)...)...)
	from.enqueue(sub)
	l := from.lease("a.example")
	from.finish(l, retry(from.turn(l, 1).Deliveries[0], 0))
	records := from.export()
	for range 2 {
		if _, err := to.Import(to.t.Context(), records); err != nil {
			to.t.Fatal(err)
		}
		to.counts(sub.ID, queue.Counts{Pending: 2 * n})
	}
	l = to.lease("a.example")
	for i, d := range to.turn(l, 5).Deliveries {
		to.same("inbox", inboxes[i], d.Inbox)
		to.settle(l, delivered(d))
	}
	to.same("lanes due", n, len(to.due(2*n).Hosts))
	to.counts(sub.ID, queue.Counts{Pending: 2*n - 5, Delivered: 5})
	to.sameRecords(records[:1], to.export()[:1])
}
