package queuetest

import (
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

var searchCases = []testCase{
	{name: "lists activities, newest first", run: searchesAll},
	{name: "finds activities by each of their marks", run: searchesBy},
	{name: "finds activities by their state", run: searchesStates},
	{name: "finds what is accepted since", run: searchesSince},
	{name: "puts what is moved here in its place", run: searchesMoved, large: true},
	{name: "ends with what is moved here", run: searchOfMovedEnds, days: true, opts: limits(queue.Limits{Retention: 48 * time.Hour})},
	{name: "is remembered", run: searchesAfterRestart},
	{name: "ends with the activity", run: searchEnds, days: true, opts: limits(queue.Limits{Retention: 48 * time.Hour})},
	{name: "refuses a bad cursor", run: searchRefuses},
	{name: "shows the bytes", run: showsBody},
	{name: "finds dead letters by inbox and activity", run: searchesLetters},
	{name: "finds hosts by when they changed", run: searchesHosts},
	{name: "orders hosts by what is pending", run: ordersHosts},
	{name: "refuses a bad cursor of ordered hosts", run: refusesHostCursors},
}

var cancelManyCases = []testCase{
	{name: "cancels what a key signs", run: cancelsByKey},
	{name: "cancels activities by their ids", run: cancelsByURI},
	{name: "cancels those that match both", run: cancelsByBoth},
	{name: "only counts in a dry run", run: cancelsDry},
	{name: "cancels many", run: cancelsHundreds, large: true},
	{name: "cancels a large activity, and counts it once", run: cancelsLarge},
}

// by changes who an activity is by, what signs it, and its type.
func by(actor, key, kind string) func(*queue.Submission) {
	return func(s *queue.Submission) {
		s.Actor, s.KeyID = actor, key
		s.Type = kind
	}
}

// finds checks a list of activities.
func (s *suite) finds(f queue.ActivityFilter, want ...string) {
	s.t.Helper()
	s.pages(want, func(p queue.Page) (names []string, next string, err error) {
		list, err := s.Activities(s.t.Context(), f, p)
		for _, a := range list.Items {
			s.same("activity listed", s.activity(a.ID), a)
			names = append(names, a.URI)
		}
		return names, list.Next, err
	})
}

// actors puts six activities of two actors with keys and types of their own.
func (s *suite) actors() {
	s.t.Helper()
	for i := range 6 {
		actor := []string{"https://app.example/users/ann", "https://app.example/users/bob"}[i%2]
		kind := []string{"Create", "Like", "Delete"}[i%3]
		s.put(strconv.Itoa(i), "a.example", alsoTo("b.example"), by(actor, actor+"#key", kind), knowing(`{"i":`+strconv.Itoa(i)+`}`))
		time.Sleep(second / 100)
	}
}

func searchesAll(s *suite) {
	s.finds(queue.ActivityFilter{})
	s.actors()
	s.finds(queue.ActivityFilter{}, "5", "4", "3", "2", "1", "0")
}

func searchesBy(s *suite) {
	s.actors()
	s.put("3", "c.example", by("https://app.example/users/cid", "k", "Create"))
	s.finds(queue.ActivityFilter{URI: "3"}, "3", "3")
	s.finds(queue.ActivityFilter{URI: "7"})
	s.finds(queue.ActivityFilter{Actor: "https://app.example/users/bob"}, "5", "3", "1")
	s.finds(queue.ActivityFilter{KeyID: "https://app.example/users/ann#key"}, "4", "2", "0")
	s.finds(queue.ActivityFilter{Type: "Like"}, "4", "1")
	s.finds(queue.ActivityFilter{URI: "3", Type: "Like"})
	s.finds(queue.ActivityFilter{URI: "3", Actor: "https://app.example/users/cid"}, "3")
	s.finds(queue.ActivityFilter{Actor: "https://app.example/users/bob", Type: "Delete", KeyID: "https://app.example/users/bob#key"}, "5")
	s.finds(queue.ActivityFilter{Actor: "https://app.example/users/bob", KeyID: "https://app.example/users/ann#key"})
}

func searchesStates(s *suite) {
	s.actors()
	l := s.lease("a.example")
	var results []queue.Result
	for _, d := range s.turn(l, 100).Deliveries {
		results = append(results, delivered(d))
	}
	s.finish(l, results...)
	s.act("b.example", queue.Block)
	one := s.put("one", "a.example")
	if _, err := s.Cancel(s.t.Context(), one); err != nil {
		s.t.Fatal(err)
	}
	s.put("two", "a.example")
	s.finds(queue.ActivityFilter{State: queue.ActivityCancelled}, "one")
	s.finds(queue.ActivityFilter{State: queue.ActivityPending}, "two")
	s.finds(queue.ActivityFilter{State: queue.ActivityDone, Actor: "https://app.example/users/bob"}, "5", "3", "1")
	s.finds(queue.ActivityFilter{State: queue.ActivityPending, URI: "5"})
}

func searchesSince(s *suite) {
	s.actors()
	time.Sleep(second)
	since := time.Now().Add(s.b.Ahead)
	time.Sleep(second / 10)
	s.put("6", "a.example", by("https://app.example/users/bob", "k", "Like"))
	s.finds(queue.ActivityFilter{Since: since}, "6")
	s.finds(queue.ActivityFilter{Since: since, Actor: "https://app.example/users/bob"}, "6")
	s.finds(queue.ActivityFilter{Since: since, URI: "5"})
}

// bringOld imports three activities, not in the order accepted: of two and a half hours ago, of three, and of one and a half, between
// local ones. One has something pending, and two have one actor.
func (s *suite) bringOld() (now time.Time) {
	s.t.Helper()
	now = time.Now().Add(s.b.Ahead)
	old := func(uri, actor string, ago time.Duration) queue.Record {
		sub := submission(uri, "a.example")
		sub.CreatedAt = now.Add(-ago)
		by(actor, actor+"#main-key", "Move")(sub)
		return queue.Record{Activity: &queue.MovedActivity{Activity: sub.Activity, Delivered: 1, Finished: time.Minute}}
	}
	ann, bob := "https://app.example/users/ann", "https://app.example/users/bob"
	first := old("first", bob, 3*time.Hour)
	middle, last := old("middle", ann, 150*time.Minute), old("last", ann, 90*time.Minute)
	last.Activity.Deliveries = []queue.MovedDelivery{{Recipient: submission("last", "a.example").Recipients[0], TTL: 80 * time.Hour}}
	s.put("before", "a.example", by(ann, ann+"#main-key", "Create"))
	s.load([]queue.Record{middle, first}, 2)
	s.put("between", "a.example", by(bob, "key", "Create"))
	s.load([]queue.Record{last}, 1)
	s.put("after", "b.example", by(ann, ann+"#main-key", "Create"))
	return now
}

func searchesMoved(s *suite) {
	now := s.bringOld()
	ann := "https://app.example/users/ann"
	since := func(ago time.Duration) time.Time { return now.Add(-ago) }
	for range 2 {
		s.finds(queue.ActivityFilter{}, "after", "between", "before", "last", "middle", "first")
		s.finds(queue.ActivityFilter{Since: since(time.Hour)}, "after", "between", "before")
		s.finds(queue.ActivityFilter{Since: since(2 * time.Hour)}, "after", "between", "before", "last")
		s.finds(queue.ActivityFilter{Since: since(170 * time.Minute)}, "after", "between", "before", "last", "middle")
		s.finds(queue.ActivityFilter{Actor: ann}, "after", "before", "last", "middle")
		s.finds(queue.ActivityFilter{Actor: ann, Since: since(2 * time.Hour)}, "after", "before", "last")
		s.finds(queue.ActivityFilter{KeyID: ann + "#main-key"}, "after", "before", "last", "middle")
		s.finds(queue.ActivityFilter{KeyID: "https://app.example/users/bob#main-key"}, "first")
		s.finds(queue.ActivityFilter{URI: "first"}, "first")
		s.finds(queue.ActivityFilter{URI: "first", Since: since(2 * time.Hour)})
		s.finds(queue.ActivityFilter{Type: "Move"}, "last", "middle", "first")
		s.finds(queue.ActivityFilter{State: queue.ActivityPending}, "after", "between", "before", "last")
		s.finds(queue.ActivityFilter{State: queue.ActivityPending, Actor: ann, Since: since(time.Hour)}, "after", "before")
		s.finds(queue.ActivityFilter{State: queue.ActivityDone}, "middle", "first")
		s.reopen()
	}
	choice := queue.CancelChoice{KeyID: ann + "#main-key"}
	s.same("cancelled", queue.CancelCount{Activities: 3, Deliveries: 3}, s.cancelMany(choice))
}

func searchOfMovedEnds(s *suite) {
	s.bringOld()
	for range 2 {
		time.Sleep(50 * time.Hour)
		s.sweep()
		s.act("a.example", queue.Block) // so that nothing is left
		s.act("b.example", queue.Block)
		s.deleteDead(queue.DeadLetterChoice{})
	}
	s.finds(queue.ActivityFilter{})
	s.finds(queue.ActivityFilter{URI: "first"})
	s.finds(queue.ActivityFilter{Actor: "https://app.example/users/ann"})
	s.put("new", "c.example")
	s.finds(queue.ActivityFilter{}, "new")
}

func searchesAfterRestart(s *suite) {
	s.actors()
	before := s.activity(s.found(queue.ActivityFilter{URI: "4"})[0].ID)
	s.reopen()
	s.same("activity", []queue.ActivityStatus{before}, s.found(queue.ActivityFilter{URI: "4"}))
	s.finds(queue.ActivityFilter{Actor: "https://app.example/users/bob"}, "5", "3", "1")
}

// found returns the activities that a filter lets pass.
func (s *suite) found(f queue.ActivityFilter) []queue.ActivityStatus {
	s.t.Helper()
	list, err := s.Activities(s.t.Context(), f, queue.Page{Limit: 500})
	if err != nil {
		s.t.Fatalf("Activities(%+v): %v", f, err)
	}
	return list.Items
}

func searchEnds(s *suite) {
	s.deliver("1", "a.example")
	s.finds(queue.ActivityFilter{URI: "1"}, "1")
	time.Sleep(50 * time.Hour)
	s.sweep()
	s.finds(queue.ActivityFilter{URI: "1"})
	s.finds(queue.ActivityFilter{})
}

func searchRefuses(s *suite) {
	s.actors()
	for _, f := range []queue.ActivityFilter{{}, {URI: "1"}, {Actor: "https://app.example/users/bob"}, {State: queue.ActivityPending}} {
		_, err := s.Activities(s.t.Context(), f, queue.Page{Limit: 10, Cursor: "nonsense"})
		s.is("Activities", err, queue.ErrBadCursor)
	}
}

func showsBody(s *suite) {
	sub := submission("1", "a.example", "b.example")
	s.enqueue(sub)
	body, err := s.Body(s.t.Context(), sub.ID)
	s.is("Body", err, nil)
	s.same("bytes", string(sub.Body), string(body))
	for _, host := range []string{"a.example", "b.example"} {
		l := s.lease(host)
		s.finish(l, delivered(s.one(l, "1")))
	}
	_, err = s.Body(s.t.Context(), sub.ID)
	s.is("Body once all is delivered", err, queue.ErrNotFound)
	_, err = s.Body(s.t.Context(), uuid.NewString())
	s.is("Body of nothing", err, queue.ErrNotFound)
}

func searchesLetters(s *suite) {
	s.put("1", "https://a.example/users/ann", alsoTo("https://a.example/users/bob", "https://b.example/users/ann"))
	s.put("2", "https://a.example/users/ann")
	for _, host := range []string{"a.example", "b.example"} {
		s.act(host, queue.Block)
		s.act(host, queue.Unblock)
	}
	names := func(f queue.DeadLetterFilter) (texts []string) {
		for _, d := range s.letters(f) {
			texts = append(texts, d.URI+" "+d.Inbox)
		}
		return slices.Sorted(slices.Values(texts))
	}
	ann, bob := "https://a.example/users/ann", "https://a.example/users/bob"
	other := "https://b.example/users/ann"
	s.same("letters of an inbox", []string{"1 " + ann, "2 " + ann}, names(queue.DeadLetterFilter{Inbox: ann}))
	s.same("letters of an activity", []string{"1 " + ann, "1 " + bob, "1 " + other}, names(queue.DeadLetterFilter{URI: "1"}))
	s.same("letters of both", []string{"1 " + ann}, names(queue.DeadLetterFilter{URI: "1", Inbox: ann}))
	s.same("letters of an activity at a host", []string{"1 " + other}, names(queue.DeadLetterFilter{URI: "1", Host: "b.example"}))
	s.same("letters of another reason", 0, len(names(queue.DeadLetterFilter{URI: "1", Reason: queue.ReasonGone})))
	s.same("letters of no activity", 0, len(names(queue.DeadLetterFilter{URI: "3"})))
	s.same("letters retried", done(1), s.retryDead(queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{URI: "1", Host: "b.example"}}))
	s.same("letters dropped", done(2), s.deleteDead(queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Inbox: ann}}))
	s.same("letters left", []string{"1 " + bob}, names(queue.DeadLetterFilter{}))
}

func searchesHosts(s *suite) {
	for _, host := range hosts("old", 3) {
		s.act(host, queue.Pause)
	}
	time.Sleep(second)
	since := time.Now().Add(s.b.Ahead)
	time.Sleep(second / 10)
	s.act("old0001.example", queue.Resume)
	s.act("new.example", queue.Block)
	s.put("1", "never.example")
	s.hostPages(queue.HostFilter{ChangedSince: since}, "new.example", "old0001.example")
	s.hostPages(queue.HostFilter{ChangedSince: since, State: queue.HostBlocked}, "new.example")
	s.reopen()
	s.hostPages(queue.HostFilter{ChangedSince: since, Query: "old"}, "old0001.example")
}

func ordersHosts(s *suite) {
	for i, host := range []string{"two.example", "three.example", "one.example"} {
		s.fill(host, []int{2, 3, 1}[i])
		time.Sleep(second / 10)
	}
	s.act("idle.example", queue.Pause)
	l := s.lease("gone.example")
	s.fill("gone.example", 1)
	s.finish(l, delivered(s.turn(l, 1).Deliveries[0]))
	s.hostPages(queue.HostFilter{Sort: queue.ByPending}, "three.example", "two.example", "one.example")
	s.hostPages(queue.HostFilter{Sort: queue.ByOldest}, "two.example", "three.example", "one.example")
	s.act("two.example", queue.Pause)
	s.hostPages(queue.HostFilter{Sort: queue.ByPending, State: queue.HostPaused}, "two.example")
}

func refusesHostCursors(s *suite) {
	s.fill("a.example", 1)
	for _, order := range []queue.HostSort{queue.ByPending, queue.ByOldest} {
		for _, cursor := range []string{"*", "-1", "1-2-3", uuid.NewString(), string(order), string(order) + "1", string(order) + "-1-x", "\x00\xff"} {
			_, err := s.Hosts(s.t.Context(), queue.HostFilter{Sort: order}, queue.Page{Limit: 10, Cursor: cursor})
			s.is("Hosts by "+string(order)+" after "+strconv.Quote(cursor), err, queue.ErrBadCursor)
		}
	}
}

func (s *suite) cancelMany(which queue.CancelChoice) queue.CancelCount {
	s.t.Helper()
	n, err := s.CancelMany(s.t.Context(), which)
	if err != nil {
		s.t.Fatalf("CancelMany(%+v): %v", which, err)
	}
	return n
}

func cancelsByKey(s *suite) {
	s.actors()
	bobs := queue.CancelChoice{KeyID: "https://app.example/users/bob#key"}
	s.same("count", queue.CancelCount{Activities: 3, Deliveries: 6}, s.cancelMany(bobs))
	s.finds(queue.ActivityFilter{State: queue.ActivityPending}, "4", "2", "0")
	s.take(s.lease("a.example"), "0", "2", "4")
	s.same("count of none", queue.CancelCount{}, s.cancelMany(bobs))
	s.same("count of another", queue.CancelCount{}, s.cancelMany(queue.CancelChoice{KeyID: "k"}))
}

func cancelsByURI(s *suite) {
	s.actors()
	l := s.lease("a.example")
	s.finish(l, delivered(s.take(l, "0", "1", "2", "3", "4", "5")["4"]))
	s.same("count", queue.CancelCount{Activities: 2, Deliveries: 3}, s.cancelMany(queue.CancelChoice{URIs: []string{"1", "4", "9"}}))
	s.finds(queue.ActivityFilter{State: queue.ActivityCancelled}, "4", "1")
	s.reopen()
	s.finds(queue.ActivityFilter{State: queue.ActivityCancelled}, "4", "1")
}

func cancelsByBoth(s *suite) {
	s.actors()
	both := queue.CancelChoice{URIs: []string{"0", "1", "2"}, KeyID: "https://app.example/users/bob#key"}
	s.same("count", queue.CancelCount{Activities: 1, Deliveries: 2}, s.cancelMany(both))
}

func cancelsDry(s *suite) {
	s.actors()
	choice := queue.CancelChoice{KeyID: "https://app.example/users/bob#key", DryRun: true}
	s.same("count", queue.CancelCount{Activities: 3, Deliveries: 6}, s.cancelMany(choice))
	s.same("count again", queue.CancelCount{Activities: 3, Deliveries: 6}, s.cancelMany(choice))
	s.take(s.lease("a.example"), "0", "1", "2", "3", "4", "5")
}

func cancelsHundreds(s *suite) {
	names := make([]string, 1200)
	for i := range names {
		names[i] = "https://app.example/many/" + strconv.Itoa(i)
	}
	s.putMany(names, func(i int) string { return hosts("m", 10)[i%10] }, by("actor", "https://app.example/users/eve#key", "Create"))
	s.same("count by id", queue.CancelCount{Activities: 100, Deliveries: 100}, s.cancelMany(queue.CancelChoice{URIs: names[:100]}))
	s.same("count by key", queue.CancelCount{Activities: 1100, Deliveries: 1100}, s.cancelMany(queue.CancelChoice{KeyID: "https://app.example/users/eve#key"}))
	s.same("pending", 0, s.stats().Pending)
}

func cancelsLarge(s *suite) {
	names := hosts("many", 2300)
	id := s.put("1", names[0], alsoTo(names[1:]...))
	other := s.put("2", names[0])
	s.same("count", queue.CancelCount{Activities: 1, Deliveries: 2300}, s.cancelMany(queue.CancelChoice{URIs: []string{"1"}}))
	s.fed(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventActivityDone}}, "", doneWith(id, "1", queue.Counts{Cancelled: 2300}))
	s.same("pending of another", 1, s.activity(other).Counts.Pending)
	s.take(s.lease(names[0]), "2")
	s.takeNothing(names[1])
}
