package queuetest

import (
	"slices"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var feedCases = []testCase{
	{name: "has dead letters", run: feedsDead},
	{name: "has what expires and what a block ends", run: feedsBuried},
	{name: "has activities that are done", run: feedsDone},
	{name: "has activities that are done, whatever ended them", run: feedsDoneOtherwise},
	{name: "has activities that are done again", run: feedsDoneAgain},
	{name: "has activities that are done at once, as all of them is duplicate", run: feedsDuplicates},
	{name: "has large activities that are done", run: feedsLarge, large: true},
	{name: "has changes of hosts", run: feedsStates},
	{name: "has nothing twice that is settled twice", run: feedsOnce},
	{name: "has what is delivered if it should", run: feedsDelivered, opts: limits(queue.Limits{Feed: queue.FeedLimits{Delivered: true}})},
	{name: "goes on behind each entry", run: feedGoesOn},
	{name: "goes on at its end", run: feedEnds},
	{name: "is filtered", run: feedFiltered},
	{name: "is read newest first", run: feedNewestFirst},
	{name: "newest first ends at the oldest, whatever comes meanwhile", run: feedBackwardEnds},
	{name: "newest first finds few among many", run: feedBackwardFinds},
	{name: "newest first refuses a cursor of the other order", run: feedBackwardRefuses},
	{name: "survives a restart", run: feedSurvives},
	{name: "is kept for its retention", run: feedExpires, opts: limits(queue.Limits{Feed: queue.FeedLimits{Retention: second}})},
	{name: "keeps the newest entries", run: feedCapped, opts: limits(queue.Limits{Feed: queue.FeedLimits{Cap: 1000}})},
	{name: "refuses a bad cursor", run: feedRefuses},
	{name: "wakes those who watch", run: feedWakes},
	{name: "keeps the positions of readers", run: feedPositions},
}

func feedsDead(s *suite) {
	s.put("1", "a.example", alsoTo("b.example"), knowing(`{"status":42}`, "https://a.example/users/ann", "https://a.example/users/al"))
	l := s.lease("a.example")
	d := s.one(l, "1")
	s.same("IDs taken", []string{"https://a.example/users/ann", "https://a.example/users/al"}, d.IDs)
	s.same("metadata taken", `{"status":42}`, string(d.Activity.Metadata))
	r := dead(d, queue.ReasonGone)
	s.finish(l, r)
	want := diedOf(d, "a.example", r)
	s.same("metadata told", `{"status":42}`, string(want.Metadata))
	s.fed(queue.FeedFilter{}, "", want)

	letter := s.letters(queue.DeadLetterFilter{})[0]
	s.same("IDs and metadata of the dead letter", []any{want.IDs, string(want.Metadata)}, []any{letter.IDs, string(letter.Metadata)})
}

func feedsBuried(s *suite) {
	id := s.put("1", "a.example", lasting(second))
	blocked := s.put("2", "b.example", knowing(`{"n":2}`, "https://b.example/users/bob"))
	l := s.lease("a.example")
	d := s.one(l, "1")
	r := retry(d, time.Hour)
	s.finish(l, r)
	s.act("b.example", queue.Block)
	time.Sleep(passing)
	s.sweep()
	expired := diedOf(d, "a.example", r)
	expired.Reason = queue.ReasonExpired
	done := doneWith(blocked, "2", queue.Counts{Dead: 1})
	done.Metadata = []byte(`{"n":2}`)
	s.fed(queue.FeedFilter{}, "", expired, doneWith(id, "1", queue.Counts{Dead: 1}),
		hostTurned("b.example", queue.HostBlocked), queue.Event{
			Kind: queue.EventDead, Host: "b.example", ID: s.letters(queue.DeadLetterFilter{Host: "b.example"})[0].ID, ActivityID: blocked,
			URI: "2", Metadata: []byte(`{"n":2}`), Inbox: "https://b.example/inbox", IDs: []string{"https://b.example/users/bob"},
			Reason: queue.ReasonHostBlocked,
		}, done)
}

func feedsDone(s *suite) {
	one := s.put("one", "a.example", knowing(`{"x":1}`))
	three := s.put("three", "b.example", alsoTo("c.example", "d.example"))
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, "one")))
	done := doneWith(one, "one", queue.Counts{Delivered: 1})
	done.Metadata = []byte(`{"x":1}`)
	s.fed(queue.FeedFilter{}, "", done)
	_, cursor := s.entries(queue.FeedFilter{}, "")

	l = s.lease("b.example")
	s.finish(l, delivered(s.one(l, "three")))
	l = s.lease("c.example")
	d := s.one(l, "three")
	refused := dead(d, queue.ReasonRejected)
	s.finish(l, refused)
	s.fed(queue.FeedFilter{}, cursor, diedOf(d, "c.example", refused))
	l = s.lease("d.example")
	s.finish(l, delivered(s.one(l, "three")))
	s.fed(queue.FeedFilter{}, cursor, diedOf(d, "c.example", refused), doneWith(three, "three", queue.Counts{Delivered: 2, Dead: 1}))
}

func feedsDoneOtherwise(s *suite) {
	cancelled := s.put("1", "a.example", alsoTo("b.example"))
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	if _, err := s.Cancel(s.t.Context(), cancelled); err != nil {
		s.t.Fatal(err)
	}
	s.fed(queue.FeedFilter{}, "", doneWith(cancelled, "1", queue.Counts{Delivered: 1, Cancelled: 1}))
	_, cursor := s.entries(queue.FeedFilter{}, "")
	if _, err := s.Cancel(s.t.Context(), cancelled); err != nil {
		s.t.Fatal(err)
	}
	expires := s.put("2", "c.example", alsoTo("d.example"), lasting(second))
	time.Sleep(passing)
	s.sweep()
	s.fed(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventActivityDone}}, cursor, doneWith(expires, "2", queue.Counts{Dead: 2}))
}

func feedsDoneAgain(s *suite) {
	id := s.put("1", "a.example", alsoTo("b.example"))
	l := s.lease("a.example")
	s.finish(l, dead(s.one(l, "1"), queue.ReasonRejected))
	l = s.lease("b.example")
	s.finish(l, delivered(s.one(l, "1")))
	only := queue.FeedFilter{Kinds: []queue.EventKind{queue.EventActivityDone}}
	s.fed(only, "", doneWith(id, "1", queue.Counts{Delivered: 1, Dead: 1}))
	_, cursor := s.entries(only, "")
	s.retryDead(queue.DeadLetterChoice{})
	l = s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.fed(only, cursor, doneWith(id, "1", queue.Counts{Delivered: 2}))
}

func feedsDuplicates(s *suite) {
	names := hosts("many", 6)
	s.put("1", names[0], alsoTo(names[1:]...))
	for _, to := range [][]string{names[:1], names} {
		_, cursor := s.entries(queue.FeedFilter{}, "")
		again := submission("1", to...)
		s.got(again, 0, len(to))
		s.fed(queue.FeedFilter{}, cursor, doneWith(again.ID, "1", queue.Counts{}))
	}
}

func feedsLarge(s *suite) {
	names := hosts("many", 700)
	id := s.put("1", names[0], alsoTo(names[1:]...))
	for _, host := range names[1:] {
		l := s.lease(host)
		s.finish(l, delivered(s.one(l, "1")))
	}
	only := queue.FeedFilter{Kinds: []queue.EventKind{queue.EventActivityDone}}
	s.fed(only, "")
	l := s.lease(names[0])
	s.finish(l, dead(s.one(l, "1"), queue.ReasonRejected))
	s.fed(only, "", doneWith(id, "1", queue.Counts{Delivered: 699, Dead: 1}))
}

func feedsStates(s *suite) {
	s.put("1", "a.example")
	s.put("2", "b.example") // a new host is no change
	for _, record := range []queue.HostRecord{healthy(), failing(breaker.Closed), failing(breaker.Open), failing(breaker.HalfOpen), healthy()} {
		s.settlement(s.takeNothing("a.example"), queue.Settlement{Host: &record, Release: true})
	}
	s.act("a.example", queue.Pause)
	s.act("a.example", queue.Pause)
	s.act("new.example", queue.Block)
	s.act("a.example", queue.Resume)
	var want []queue.Event
	for _, state := range []queue.HostState{queue.HostFailing, queue.HostOpen, queue.HostHealthy, queue.HostPaused, queue.HostHealthy} {
		want = append(want, hostTurned("a.example", state))
	}
	s.fed(queue.FeedFilter{}, "", append(want, hostTurned("new.example", queue.HostBlocked))...)
	s.near("change", time.Now(), s.host("a.example").ChangedAt)
	s.same("change of a new host", time.Time{}, s.host("b.example").ChangedAt)
}

func feedsOnce(s *suite) {
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	d := s.one(l, "1")
	r, well := dead(d, queue.ReasonGone), failing(breaker.Closed)
	for range 2 {
		s.settlement(l, queue.Settlement{Results: []queue.Result{r}, Host: &well})
	}
	s.fed(queue.FeedFilter{}, "", diedOf(d, "a.example", r), hostTurned("a.example", queue.HostFailing), doneWith(id, "1", queue.Counts{Dead: 1}))
}

func feedsDelivered(s *suite) {
	id := s.put("1", "a.example", knowing(`{"x":1}`, "https://a.example/users/ann"))
	l := s.lease("a.example")
	d := s.one(l, "1")
	r := delivered(d)
	s.finish(l, r)
	told := diedOf(d, "a.example", r)
	told.Kind = queue.EventDelivered
	done := doneWith(id, "1", queue.Counts{Delivered: 1})
	done.Metadata = []byte(`{"x":1}`)
	s.fed(queue.FeedFilter{}, "", told, done)
}

// buryAll lets a delivery to each of the hosts die, each host in a state of its own.
func (s *suite) buryAll(names ...string) {
	s.t.Helper()
	for _, host := range names {
		s.bury(host, host, queue.ReasonRejected)
	}
}

// placed are the entries with their places, as text.
func placed(entries []queue.Event) (texts []string) {
	for _, e := range entries {
		texts = append(texts, string(e.Kind)+" "+e.URI+e.Host)
	}
	return texts
}

func feedGoesOn(s *suite) {
	s.buryAll(hosts("a", 7)...)
	dead := queue.FeedFilter{Kinds: []queue.EventKind{queue.EventDead}}
	all, end := s.entries(dead, "")
	if len(all) != 7 {
		s.t.Fatalf("the feed has %d entries, want 7", len(all))
	}
	for i, e := range all {
		rest, after := s.entries(dead, e.Cursor)
		s.same("rest of the feed", placed(all[i+1:]), placed(rest))
		_, again := s.entries(dead, after)
		s.same("end", after, again)
	}
	var paged []queue.Event
	for cursor := ""; ; {
		list, err := s.Feed(s.t.Context(), dead, queue.Page{Limit: 2, Cursor: cursor})
		if err != nil || len(list.Items) > 2 || list.Next == "" {
			s.t.Fatalf("Feed(%q) gave %d entries and the cursor %q, %v", cursor, len(list.Items), list.Next, err)
		}
		if paged = append(paged, list.Items...); len(list.Items) == 0 && list.Next == cursor {
			break
		}
		cursor = list.Next
	}
	s.same("feed by pages", placed(all), placed(paged))
	s.bury("later", "later.example", queue.ReasonGone)
	later, _ := s.entries(dead, end)
	s.same("what came later", []string{"dead laterlater.example"}, placed(later))
}

func feedEnds(s *suite) {
	s.buryAll("a.example", "b.example")
	s.fed(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventActivityDone}}, queue.FeedEnd)
	list, err := s.Feed(s.t.Context(), queue.FeedFilter{}, queue.Page{Limit: 10, Cursor: queue.FeedEnd})
	if err != nil || len(list.Items) != 0 || list.Next == "" || list.Next == queue.FeedEnd {
		s.t.Fatalf("the end has %d entries and the cursor %q, %v", len(list.Items), list.Next, err)
	}
	s.bury("c", "c.example", queue.ReasonGone)
	got, _ := s.entries(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventDead}}, list.Next)
	s.same("what came after the end", []string{"dead cc.example"}, placed(got))
}

func feedFiltered(s *suite) {
	s.buryAll("a.example", "b.example", "c.example")
	s.act("b.example", queue.Pause)
	for _, c := range []struct {
		filter queue.FeedFilter
		want   []string
	}{
		{queue.FeedFilter{Hosts: []string{"b.example"}}, []string{"dead b.exampleb.example", "host_state b.example"}},
		{queue.FeedFilter{Hosts: []string{"b.example"}, Kinds: []queue.EventKind{queue.EventHostState}}, []string{"host_state b.example"}},
		{queue.FeedFilter{Hosts: []string{"d.example"}}, nil},
	} {
		got, _ := s.entries(c.filter, "")
		s.same("entries", c.want, placed(got))
	}
	got, _ := s.entries(queue.FeedFilter{Hosts: []string{"a.example", "c.example"}}, "")
	s.same("entries of two hosts", []string{"dead a.examplea.example", "dead c.examplec.example"}, slices.Sorted(slices.Values(placed(got))))
}

func feedSurvives(s *suite) {
	s.buryAll("a.example")
	s.fed(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventHostState}}, "")
	before, cursor := s.entries(queue.FeedFilter{}, "")
	s.reopen()
	after, _ := s.entries(queue.FeedFilter{}, "")
	s.same("feed", before, after)
	s.act("a.example", queue.Pause)
	got, _ := s.entries(queue.FeedFilter{}, cursor)
	s.same("what came later", []string{"host_state a.example"}, placed(got))
}

func feedExpires(s *suite) {
	s.act("a.example", queue.Pause)
	first, cursor := s.entries(queue.FeedFilter{}, "")
	time.Sleep(2 * passing)
	s.act("b.example", queue.Pause)
	s.sweep()
	got, _ := s.entries(queue.FeedFilter{}, "")
	s.same("entries kept", []string{"host_state b.example"}, placed(got))
	for _, from := range []string{first[0].Cursor, cursor} {
		got, _ = s.entries(queue.FeedFilter{}, from)
		s.same("entries behind one that is gone", []string{"host_state b.example"}, placed(got))
	}
}

func feedCapped(s *suite) {
	const most = 3000
	s.buryMany(most)
	s.sweep()
	dead := queue.FeedFilter{Kinds: []queue.EventKind{queue.EventDead}}
	got, _ := s.entries(dead, "")
	if len(got) < 900 || len(got) > 1600 {
		s.t.Errorf("the feed has %d entries, want about 1000 of %d", len(got), most)
	}
}

func feedRefuses(s *suite) {
	s.buryAll("a.example")
	_, here := s.entries(queue.FeedFilter{}, "")
	other := &suite{t: s.t, b: s.b, began: s.began, Queue: s.b.Open(s.t, Options{})}
	other.act("a.example", queue.Pause)
	_, there := other.entries(queue.FeedFilter{}, "")
	for _, cursor := range []string{"nonsense", "-1", "18446744073709551615", "*", here + "x", there} {
		_, err := s.Feed(s.t.Context(), queue.FeedFilter{}, queue.Page{Limit: 10, Cursor: cursor})
		s.is("Feed("+cursor+")", err, queue.ErrBadCursor)
	}
}

func feedWakes(s *suite) {
	ch := s.watch(s.t.Context())
	for _, change := range []func(){
		func() { s.act("a.example", queue.Pause) },
		func() { s.buryAll("b.example") },
		func() { s.act("c.example", queue.Block) },
	} {
		s.drainEvents(ch)
		change()
		s.hearsOf(ch, queue.EventFed)
	}
}

func feedPositions(s *suite) {
	position := func(reader string) string {
		s.t.Helper()
		cursor, err := s.FeedPosition(s.t.Context(), reader)
		s.is("FeedPosition", err, nil)
		return cursor
	}
	s.same("position of a new reader", "", position("webhook"))
	s.buryAll("a.example")
	_, end := s.entries(queue.FeedFilter{}, "")
	for _, cursor := range []string{"elsewhere", end} {
		s.is("SetFeedPosition", s.SetFeedPosition(s.t.Context(), "webhook", cursor), nil)
		s.same("position", cursor, position("webhook"))
	}
	s.reopen()
	s.same("positions", []string{end, ""}, []string{position("webhook"), position("another")})
}
