package queuetest

import (
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

var orderCases = []testCase{
	{name: "gives only the oldest of an ordering key", run: headsOnly},
	{name: "keeps order within an inbox and a key only", run: otherInboxesAndKeys},
	{name: "gives the deliveries of one activity together", run: siblingsTogether},
	{name: "gives every inbox but the one that fails", run: inboxesApart},
	{name: "keeps order at every inbox", run: orderAtEachInbox},
	{name: "keeps order behind a retry", run: func(s *suite) { behind(s, retry) }},
	{name: "keeps order behind a retry for the host", run: func(s *suite) { behind(s, hostFailed) }},
	{name: "keeps order behind what is deferred", run: func(s *suite) { behind(s, deferred) }},
	{name: "keeps order behind what waits for its key", run: behindKey},
	{name: "keeps order across priorities", run: orderAcrossPriorities},
	{name: "moves on behind a dead letter", run: behindDead},
	{name: "moves on behind what is cancelled", run: behindCancelled},
	{name: "keeps order when a later lease takes over", run: orderAcrossLeases},
}

// chain stores three activities with one ordering key for a host.
func (s *suite) chain(host string) {
	s.t.Helper()
	for _, uri := range []string{"1", "2", "3"} {
		s.put(uri, host, ordering("https://app.example/notes/1"))
	}
}

func headsOnly(s *suite) {
	s.chain("a.example")
	l := s.lease("a.example")
	for _, uri := range []string{"1", "2", "3"} {
		turn := s.turn(l, 10)
		s.same("deliveries", []string{uri}, uris(turn.Deliveries))
		s.take(l)
		s.settle(l, delivered(turn.Deliveries[0]))
	}
	s.take(l)
}

func otherInboxesAndKeys(s *suite) {
	s.chain("a.example")
	s.chain("b.example")
	s.chain("https://b.example/other")
	s.put("other", "a.example", alsoTo("b.example"))
	s.take(s.lease("a.example"), "1", "other")
	ds := s.turn(s.lease("b.example"), 10).Deliveries
	s.same("deliveries", []string{"1", "1", "other"}, slices.Sorted(slices.Values(uris(ds))))
}

// inboxesOf sorts deliveries by inbox, one each.
func (s *suite) inboxesOf(ds []queue.Delivery) map[string]queue.Delivery {
	s.t.Helper()
	byInbox := map[string]queue.Delivery{}
	for _, d := range ds {
		if _, twice := byInbox[d.Inbox]; twice {
			s.t.Errorf("%s is given twice", d.Inbox)
		}
		byInbox[d.Inbox] = d
	}
	return byInbox
}

const firstInbox, secondInbox, thirdInbox = "https://a.example/first", "https://a.example/second", "https://a.example/third"

func siblingsTogether(s *suite) {
	id := s.put("1", firstInbox, alsoTo(secondInbox, thirdInbox))
	l := s.lease("a.example")
	var results []queue.Result
	for _, d := range s.inboxesOf(s.turn(l, 10).Deliveries) {
		results = append(results, delivered(d))
	}
	s.same("deliveries", 3, len(results))
	s.finish(l, results...)
	s.counts(id, queue.Counts{Delivered: 3})
}

// inboxesApart has the first of three inboxes of a host fail: what follows goes to the others.
func inboxesApart(s *suite) {
	for _, uri := range []string{"1", "2", "3"} {
		s.put(uri, firstInbox, ordering("key"), alsoTo(secondInbox, thirdInbox))
	}
	for _, uri := range []string{"1", "2", "3"} {
		l := s.lease("a.example")
		ds := s.inboxesOf(s.turn(l, 10).Deliveries)
		if d, given := ds[firstInbox]; given {
			s.same("first", "1", d.Activity.URI)
			s.settle(l, retry(d, time.Hour))
		}
		for _, inbox := range []string{secondInbox, thirdInbox} {
			s.same("given to "+inbox, uri, ds[inbox].Activity.URI)
			s.settle(l, delivered(ds[inbox]))
		}
		s.finish(l)
	}
	s.same("pending", 3, s.host("a.example").Pending)
	s.take(s.lease("a.example"))
}

// orderAtEachInbox has inboxes go on at a pace of their own.
func orderAtEachInbox(s *suite) {
	for _, uri := range []string{"1", "2", "3", "4"} {
		s.put(uri, firstInbox, ordering("key"), alsoTo(secondInbox, thirdInbox))
	}
	got := map[string][]string{}
	l := s.lease("a.example")
	for round := range 20 {
		for _, d := range s.turn(l, 10).Deliveries {
			if len(d.Inbox)%(round+2) == 0 {
				s.settle(l, retry(d, 0))
				continue
			}
			got[d.Inbox] = append(got[d.Inbox], d.Activity.URI)
			s.settle(l, delivered(d))
		}
		if round == 1 {
			s.finish(l)
			s.reopen()
			l = s.lease("a.example")
		}
	}
	want := []string{"1", "2", "3", "4"}
	s.same("what inboxes got", map[string][]string{firstInbox: want, secondInbox: want, thirdInbox: want}, got)
}

// behind checks that what shares an ordering key with a delivery that was put off waits with it.
func behind(s *suite, putOff func(queue.Delivery, time.Duration) queue.Result) {
	s.chain("a.example")
	l := s.lease("a.example")
	s.settle(l, putOff(s.one(l, "1"), second))
	s.take(l)
	s.finish(l)
	l = s.lease("a.example")
	s.take(l)
	time.Sleep(passing)
	s.settle(l, delivered(s.one(l, "1")))
	s.one(l, "2")
}

func behindKey(s *suite) {
	s.chain("a.example")
	l := s.lease("a.example")
	s.settle(l, waitKey(s.one(l, "1")))
	s.take(l)
	s.putKey(keyID)
	s.settle(l, delivered(s.one(l, "1")))
	s.one(l, "2")
}

func orderAcrossPriorities(s *suite) {
	s.put("1", "a.example", ordering("key"), priority(queue.Low))
	s.put("2", "a.example", ordering("key"), priority(queue.High))
	s.put("3", "a.example", ordering("key"), priority(queue.Normal))
	l := s.lease("a.example")
	for _, uri := range []string{"1", "2", "3"} {
		s.settle(l, delivered(s.one(l, uri)))
	}
}

func behindDead(s *suite) {
	s.chain("a.example")
	l := s.lease("a.example")
	s.settle(l, dead(s.one(l, "1"), queue.ReasonRejected))
	s.one(l, "2")
}

func behindCancelled(s *suite) {
	first := s.put("1", "a.example", ordering("key"))
	second := s.put("2", "a.example", ordering("key"))
	s.put("3", "a.example", ordering("key"))
	s.put("4", "a.example", ordering("key"))
	s.cancel(second)
	s.cancel(first)
	l := s.lease("a.example")
	s.settle(l, delivered(s.one(l, "3")))
	s.put("5", "a.example", ordering("key"))
	s.cancel(s.put("6", "a.example", ordering("key")))
	s.put("7", "a.example", ordering("key"))
	for _, uri := range []string{"4", "5", "7"} {
		s.settle(l, delivered(s.one(l, uri)))
	}
}

func orderAcrossLeases(s *suite) {
	s.chain("a.example")
	s.one(s.lease("a.example"), "1")
	l := s.lease("a.example")
	s.settle(l, delivered(s.one(l, "1")))
	s.one(l, "2")
}
