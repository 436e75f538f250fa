package queuetest

import (
	"slices"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var retryOrderCases = []testCase{
	{name: "keeps to that accepted", run: retriesInOrder},
	{name: "overtakes nothing that is taken", run: retriesBehindTaken},
	{name: "goes before what is handed back", run: retriesBeforeHandedBack},
	{name: "goes before what was handed back", run: retriesAfterHandedBack},
	{name: "goes before what a later lease takes over", run: retriesBeforeTakenOver},
	{name: "goes before what is retried", run: func(s *suite) { retriesBefore(s, retry) }},
	{name: "goes before what is retried for the host", run: func(s *suite) { retriesBefore(s, hostFailed) }},
	{name: "goes before what is deferred", run: func(s *suite) { retriesBefore(s, deferred) }},
	{name: "goes before what the host recovers for", run: retriesBeforeRecovered},
	{name: "goes before what waits for its key", run: retriesBeforeKey},
	{name: "keeps the order of many", run: retriesInDeepLane},
	{name: "leaves what it goes before to recover", run: retriesBeforeFailed},
}

// row stores activities of one ordering key, and buries some of them.
func (s *suite) row(host string, bury []string, names ...string) {
	s.t.Helper()
	for _, uri := range names {
		s.put(uri, host, ordering("key"))
		if slices.Contains(bury, uri) {
			for _, ahead := range s.aheadOf(host, uri) {
				s.t.Fatalf("%s is ahead of %s", ahead, uri)
			}
		}
	}
}

// aheadOf buries an activity that must be the head of its lane, and returns what is there instead.
func (s *suite) aheadOf(host, uri string) []string {
	s.t.Helper()
	l := s.lease(host)
	ds := s.turn(l, 1).Deliveries
	if len(ds) != 1 || ds[0].Activity.URI != uri {
		return uris(ds)
	}
	s.finish(l, dead(ds[0], queue.ReasonRejected))
	return nil
}

// inOrder has activities delivered one after another.
func (s *suite) inOrder(host string, want ...string) {
	s.t.Helper()
	l := s.lease(host)
	for _, uri := range want {
		s.settle(l, delivered(s.one(l, uri)))
	}
	s.take(l)
	s.finish(l)
}

func retriesInOrder(s *suite) {
	s.row("a.example", []string{"1", "2"}, "1", "2", "3", "4")
	s.retryDead(queue.DeadLetterChoice{IDs: s.letterIDs("2")})
	s.retryDead(queue.DeadLetterChoice{})
	s.put("5", "a.example", ordering("key"))
	s.inOrder("a.example", "1", "2", "3", "4", "5")

	s.row("b.example", []string{"11"}, "11", "12") // 12 waits for its retry, which 11 does not
	l := s.lease("b.example")
	s.finish(l, retry(s.one(l, "12"), time.Hour))
	s.retryDead(queue.DeadLetterChoice{})
	s.inOrder("b.example", "11")

	s.put("21", "c.example", ordering("key"))
	s.put("22", "c.example", ordering("key"))
	s.put("23", "c.example", ordering("key"), lasting(second))
	s.put("24", "c.example", ordering("key"))
	time.Sleep(passing)
	s.sweep()
	s.retryDead(queue.DeadLetterChoice{})
	s.inOrder("c.example", "21", "22", "23", "24")
}

func retriesBeforeFailed(s *suite) {
	s.row("a.example", []string{"1"}, "1", "2")
	l := s.lease("a.example")
	s.finish(l, hostFailed(s.one(l, "2"), time.Hour))
	s.retryDead(queue.DeadLetterChoice{})
	l = s.lease("a.example")
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(s.one(l, "1"))}, Recovered: true, Release: true})
	s.reopen()
	s.one(s.lease("a.example"), "2")
}

func retriesBehindTaken(s *suite) {
	s.row("a.example", []string{"1", "2"}, "1", "2", "3", "4")
	l := s.lease("a.example")
	d := s.one(l, "3")
	s.retryDead(queue.DeadLetterChoice{})
	s.take(l)
	s.settle(l, delivered(d))
	s.finish(l)
	s.inOrder("a.example", "1", "2", "4")
}

// retriesWhile has two older ones than what is taken be retried, before back puts that back.
func retriesWhile(s *suite, back func(lockmgr.Lease, queue.Delivery)) {
	s.t.Helper()
	s.row("a.example", []string{"1", "2"}, "1", "2", "3", "4")
	l := s.lease("a.example")
	d := s.one(l, "3")
	s.retryDead(queue.DeadLetterChoice{})
	back(l, d)
}

func retriesBeforeHandedBack(s *suite) {
	retriesWhile(s, func(l lockmgr.Lease, _ queue.Delivery) { s.finish(l) })
	s.inOrder("a.example", "1", "2", "3", "4")
}

func retriesAfterHandedBack(s *suite) {
	s.row("a.example", []string{"1", "2"}, "1", "2", "3", "4")
	l := s.lease("a.example")
	s.one(l, "3")
	s.retryDead(queue.DeadLetterChoice{IDs: s.letterIDs("2")})
	s.finish(l)
	s.retryDead(queue.DeadLetterChoice{IDs: s.letterIDs("1")})
	s.inOrder("a.example", "1", "2", "3", "4")
}

func retriesBeforeTakenOver(s *suite) {
	retriesWhile(s, func(lockmgr.Lease, queue.Delivery) { s.take(s.lease("a.example"), "1") })
	s.inOrder("a.example", "1", "2", "3", "4")
}

func retriesBefore(s *suite, how func(queue.Delivery, time.Duration) queue.Result) {
	retriesWhile(s, func(l lockmgr.Lease, d queue.Delivery) { s.settle(l, how(d, 2*second)) })
	s.inOrder("a.example", "1", "2")
	time.Sleep(2*second + second/10)
	s.inOrder("a.example", "3", "4")
}

func retriesBeforeRecovered(s *suite) {
	retriesWhile(s, func(l lockmgr.Lease, d queue.Delivery) {
		s.settlement(l, queue.Settlement{Results: []queue.Result{hostFailed(d, time.Hour)}, Recovered: true, Release: true})
	})
	s.reopen()
	s.inOrder("a.example", "1", "2", "3", "4")
}

func retriesBeforeKey(s *suite) {
	retriesWhile(s, func(l lockmgr.Lease, d queue.Delivery) { s.settle(l, waitKey(d)) })
	l := s.lease("a.example")
	d := s.one(l, "1")
	s.putKey(keyID)
	s.take(l)
	s.finish(l, delivered(d))
	s.inOrder("a.example", "2", "3", "4")
}

func retriesInDeepLane(s *suite) {
	put := func(uri string, ttl time.Duration) { s.put(uri, "a.example", ordering("key"), lasting(ttl)) }
	put("1", time.Hour)
	put("2", second)
	put("3", time.Hour)
	others := s.fill("a.example", 50)
	put("4", time.Hour)
	put("5", second)
	put("6", time.Hour)
	time.Sleep(passing)
	s.sweep()
	s.buried(queue.ReasonExpired, "2", "5")
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	s.retryDead(queue.DeadLetterChoice{})
	for _, uri := range []string{"2", "3"} {
		s.settle(l, delivered(d))
		d = s.turn(l, 1).Deliveries[0]
		s.same("oldest", uri, d.Activity.URI)
	}
	s.settle(l, delivered(d))
	var results []queue.Result
	for _, d := range s.take(l, append(others, "4")...) {
		results = append(results, delivered(d))
	}
	s.finish(l, results...)
	s.inOrder("a.example", "5", "6")
}
