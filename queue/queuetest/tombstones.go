package queuetest

import (
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var tombstoneCases = []testCase{
	{name: "keeps what it supersedes from being sent", run: cancelsSuperseded},
	{name: "keeps it from being sent as time passes", run: cancelsInTime, days: true},
	{name: "leaves what waits for less than a minute", run: cancelsNothingFresh},
	{name: "leaves what was attempted", run: cancelsUntried},
	{name: "leaves all but what makes its object", run: cancelsNothingElse},
	{name: "cancels a probe", run: cancelsProbe},
	{name: "cancels many", run: cancelsMany, large: true},
	{name: "leaves what was accepted after it", run: cancelsNothingLater},
	{name: "leaves what is made again", run: makesAgain},
	{name: "keeps dead letters from being retried", run: retriesNoZombies},
	{name: "keeps those chosen by ID from being retried", run: retriesNoZombiesByID},
	{name: "is left by a deletion of duplicates", run: leftByDuplicates},
	{name: "is not left where all is refused", run: notLeftWhereRefused},
	{name: "goes when the deletion is undone", run: goesWhenUndone},
	{name: "goes when the deletion is undone by its ID", run: goesWhenUndoneByID},
	{name: "stays when another deletion is undone", run: staysForAnother},
	{name: "comes back with another deletion", run: comesBack},
	{name: "outlives its deletion and a restart", run: tombstoneLasts},
	{name: "outlives all activities", run: outlivesActivities, days: true, opts: limits(queue.Limits{Retention: 24 * time.Hour})},
	{name: "goes when its time is over", run: tombstoneExpires, opts: limits(queue.Limits{DeadRetention: second})},
}

const theNote = "https://app.example/notes/1"

// about has an activity do something to an object, under the object's ordering key.
func about(object string, r queue.Role) func(*queue.Submission) {
	return func(s *queue.Submission) {
		s.Role = r
		s.Object = object
		s.OrderingKey = object
	}
}

// role has an activity do something to the note that most cases are about.
func role(r queue.Role) func(*queue.Submission) { return about(theNote, r) }

// undoes has an activity undo another that it names by its URI only.
func undoes(uri string) func(*queue.Submission) {
	return func(s *queue.Submission) {
		s.Role = queue.Restores
		s.Refers = uri
		s.OrderingKey = uri
	}
}

// pause pauses hosts.
func (s *suite) pause(hosts ...string) {
	s.t.Helper()
	for _, host := range hosts {
		s.act(host, queue.Pause)
	}
}

// aged is the record of an activity to an inbox that was accepted so long ago, and pends.
func (s *suite) aged(ago time.Duration, uri, inbox string, how ...func(*queue.Submission)) queue.Record {
	sub := submission(uri, inbox)
	for _, f := range how {
		f(sub)
	}
	sub.CreatedAt = s.ago(ago)
	m := &queue.MovedActivity{Activity: sub.Activity}
	for _, r := range sub.Recipients {
		m.Deliveries = append(m.Deliveries, queue.MovedDelivery{Recipient: r, TTL: ttl})
	}
	return queue.Record{Activity: m}
}

// ago is a time by the store's clock.
func (s *suite) ago(d time.Duration) time.Time {
	return time.Now().UTC().Add(s.b.Ahead - d).Truncate(time.Millisecond)
}

// waited stores an activity to an inbox that was accepted two minutes ago, and returns its ID.
func (s *suite) waited(uri, inbox string, how ...func(*queue.Submission)) string {
	s.t.Helper()
	r := s.aged(2*time.Minute, uri, inbox, how...)
	s.load([]queue.Record{r}, 1)
	return r.Activity.ID
}

func cancelsSuperseded(s *suite) {
	create := s.waited("create", "a.example", role(queue.Makes), alsoTo("https://a.example/second", "b.example"))
	r := s.enqueue(submissionOf("delete", "a.example", role(queue.Deletes)))
	s.same("accepted", 1, r.Accepted)
	s.counts(create, queue.Counts{Pending: 3})
	l := s.lease("a.example")
	d := s.one(l, "delete")
	s.counts(create, queue.Counts{Pending: 1, Cancelled: 2})
	s.same("pending", 1, s.host("a.example").Pending)
	s.take(l)
	s.finish(l, delivered(d))
	s.take(s.lease("b.example"))
	s.counts(create, queue.Counts{Cancelled: 3})
	s.reopen()
	s.counts(create, queue.Counts{Cancelled: 3})
	st := s.stats()
	s.same("pending, dead and delivered", []int{0, 0, 1}, []int{st.Pending, st.Dead, int(st.Delivered)})
	s.offers()
}

// submissionOf is a submission changed by how.
func submissionOf(uri, inbox string, how ...func(*queue.Submission)) *queue.Submission {
	sub := submission(uri, inbox)
	for _, f := range how {
		f(sub)
	}
	return sub
}

func cancelsInTime(s *suite) {
	s.pause("a.example")
	create := s.put("create", "a.example", role(queue.Makes))
	again := s.put("create again", "a.example", about("https://app.example/notes/2", queue.Makes))
	s.put("delete", "a.example", role(queue.Deletes))
	time.Sleep(queue.SupersededAfter + second)
	s.put("late delete", "a.example", about("https://app.example/notes/2", queue.Deletes))
	s.act("a.example", queue.Resume)
	s.take(s.lease("a.example"), "delete", "late delete")
	s.counts(create, queue.Counts{Cancelled: 1})
	s.counts(again, queue.Counts{Cancelled: 1})
}

func cancelsNothingFresh(s *suite) {
	s.pause("a.example")
	s.put("create", "a.example", role(queue.Makes))
	s.put("delete", "a.example", role(queue.Deletes))
	s.act("a.example", queue.Resume)
	s.inOrder("a.example", "create", "delete")
}

func cancelsUntried(s *suite) {
	tries := map[string]func(queue.Delivery) queue.Result{
		"retried.example":  func(d queue.Delivery) queue.Result { return retry(d, 0) },
		"deferred.example": func(d queue.Delivery) queue.Result { return deferred(d, 0) },
		"throttled.example": func(d queue.Delivery) queue.Result {
			r := deferred(d, 0)
			r.Attempt = attempt("throttled", 429)
			return r
		},
	}
	for host, result := range tries {
		id := s.waited("create", host, about(host, queue.Makes))
		l := s.lease(host)
		d := s.one(l, "create")
		s.put("delete", host, about(host, queue.Deletes))
		s.take(l) // it is being attempted
		s.finish(l, result(d))
		s.reopen()
		if host == "deferred.example" {
			s.inOrder(host, "delete")
			s.counts(id, queue.Counts{Cancelled: 1})
		} else {
			s.inOrder(host, "create", "delete")
			s.counts(id, queue.Counts{Delivered: 1})
		}
	}
}

func cancelsNothingElse(s *suite) {
	s.waited("update", "a.example", role(queue.Other))
	s.waited("undo", "a.example", role(queue.Restores))
	s.waited("other note", "a.example", about("https://app.example/notes/2", queue.Makes))
	s.waited("same key", "a.example", about("https://app.example/notes/3", queue.Makes), ordering(theNote))
	s.waited("no object", "b.example", about("", queue.Makes), ordering("makes nothing"))
	s.waited("first delete", "c.example", role(queue.Deletes))
	s.put("delete", "a.example", role(queue.Deletes))
	s.put("delete nothing", "b.example", about("", queue.Deletes), ordering("deletes nothing"))
	l := s.lease("a.example")
	ds := s.take(l, "update", "other note")
	s.settle(l, delivered(ds["update"]))
	for _, uri := range []string{"undo", "same key"} {
		s.settle(l, delivered(s.one(l, uri)))
	}
	s.one(l, "delete")
	s.take(s.lease("b.example"), "no object", "delete nothing")
	s.one(s.lease("c.example"), "first delete")
}

func cancelsProbe(s *suite) {
	s.record("a.example", failing(breaker.Open))
	create := s.waited("create", "a.example", role(queue.Makes))
	s.put("delete", "a.example", role(queue.Deletes))
	s.one(s.lease("a.example"), "delete")
	s.counts(create, queue.Counts{Cancelled: 1})
}

func cancelsMany(s *suite) {
	var records []queue.Record
	for range 250 {
		note := "https://app.example/notes/" + uuid.NewString()
		records = append(records, s.aged(2*time.Minute, note+"/create", "a.example", about(note, queue.Makes)))
	}
	s.load(records, len(records))
	kept := s.waited("kept", "a.example")
	for _, r := range records {
		s.put(r.Activity.Object+"/delete", "b.example", about(r.Activity.Object, queue.Deletes))
	}
	l := s.lease("a.example")
	for range len(records) {
		if turn := s.turn(l, 1); len(turn.Deliveries) > 0 {
			s.same("given", []string{"kept"}, uris(turn.Deliveries))
			break
		}
	}
	s.counts(kept, queue.Counts{Pending: 1})
	s.same("pending", 1, s.host("a.example").Pending)
	for _, r := range records {
		s.counts(r.Activity.ID, queue.Counts{Cancelled: 1})
	}
}

func cancelsNothingLater(s *suite) {
	first := s.aged(5*time.Minute, "create", "a.example", role(queue.Makes))
	deletion := queue.Record{Tombstone: &queue.MovedTombstone{
		Object: theNote, Deletion: "delete", ActivityID: newID(), CreatedAt: s.ago(4 * time.Minute),
	}}
	again := s.aged(3*time.Minute, "create again", "a.example", role(queue.Makes))
	s.load([]queue.Record{first, deletion, again}, 3)
	s.inOrder("a.example", "create again")
	s.counts(first.Activity.ID, queue.Counts{Cancelled: 1})
}

// makesAgain makes a note again that was deleted at one of its two inboxes: what waits for the other is cancelled, and
// so must not make the same bytes a duplicate.
func makesAgain(s *suite) {
	create := s.waited("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	s.pause("a.example", "b.example")
	s.put("delete", "a.example", role(queue.Deletes))
	again := submissionOf("create", "a.example", role(queue.Makes), alsoTo("b.example"))
	s.got(again, 2, 0)
	s.got(submissionOf("create", "a.example", role(queue.Makes), alsoTo("b.example")), 0, 2)
	s.act("a.example", queue.Resume)
	s.act("b.example", queue.Resume)
	s.inOrder("a.example", "delete", "create")
	s.inOrder("b.example", "create")
	s.counts(create, queue.Counts{Cancelled: 2})
	s.counts(again.ID, queue.Counts{Delivered: 2})
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// undone checks what comes of a Create, dead at a.example and waiting at b.example, after its Delete was undone.
func (s *suite) undone(undo func(*queue.Submission), restored bool) {
	s.t.Helper()
	s.pause("b.example")
	create := s.aged(2*time.Minute, "create", "a.example", role(queue.Makes), alsoTo("b.example"))
	s.load([]queue.Record{create}, 1)
	l := s.lease("a.example")
	s.finish(l, dead(s.one(l, "create"), queue.ReasonExhausted))
	s.put("delete", "b.example", role(queue.Deletes), alsoTo("c.example"))
	l = s.lease("c.example")
	s.finish(l, delivered(s.one(l, "delete")))
	s.put("undo", "b.example", undo)
	s.act("b.example", queue.Resume)
	if restored {
		s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
		s.inOrder("b.example", "create", "delete", "undo")
		return
	}
	s.same("count", queue.DeadLetterCount{Matched: 1, Superseded: 1}, s.retryDead(queue.DeadLetterChoice{}))
	l = s.lease("b.example")
	for uri := range s.turnURIs(l) {
		s.same("not given", false, uri == "create")
	}
	s.counts(create.Activity.ID, queue.Counts{Dead: 1, Cancelled: 1})
}

// turnURIs takes all there is.
func (s *suite) turnURIs(l lockmgr.Lease) map[string]bool {
	s.t.Helper()
	all := map[string]bool{}
	for _, uri := range uris(s.turn(l, 100).Deliveries) {
		all[uri] = true
	}
	return all
}

func goesWhenUndone(s *suite) { s.undone(role(queue.Restores), true) }

// goesWhenUndoneByID undoes a Delete while that pends, and one that was delivered long ago.
func goesWhenUndoneByID(s *suite) {
	s.undone(undoes("delete"), true)
	s.buryAbout("second create", "d.example", queue.Makes)
	s.put("second delete", "d.example", role(queue.Deletes))
	s.inOrder("d.example", "second delete")
	s.reopen()
	s.put("second undo", "e.example", undoes("second delete"))
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
}

func staysForAnother(s *suite) {
	s.put("other delete", "d.example", about("https://app.example/notes/2", queue.Deletes))
	s.undone(undoes("other delete"), false)
	s.put("other undo", "d.example", about("https://app.example/notes/2", queue.Restores))
	s.put("refers only", "d.example", func(sub *queue.Submission) { sub.Role, sub.Refers = queue.Other, "delete" })
	s.same("count", queue.DeadLetterCount{Matched: 1, Superseded: 1}, s.retryDead(queue.DeadLetterChoice{}))
}

func comesBack(s *suite) {
	s.put("first delete", "b.example", role(queue.Deletes))
	s.put("undo", "b.example", role(queue.Restores))
	s.buryAbout("create", "a.example", queue.Makes)
	s.put("second delete", "b.example", role(queue.Deletes))
	s.put("late undo", "b.example", undoes("first delete"))
	s.same("count", queue.DeadLetterCount{Matched: 1, Superseded: 1}, s.retryDead(queue.DeadLetterChoice{}))
	s.put("second undo", "b.example", undoes("second delete"))
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
}

func tombstoneLasts(s *suite) {
	s.buryAbout("create", "a.example", queue.Makes)
	s.waited("waits", "c.example", role(queue.Makes))
	s.put("delete", "b.example", role(queue.Deletes))
	s.inOrder("b.example", "delete")
	s.sweep()
	s.reopen()
	s.same("count", queue.DeadLetterCount{Matched: 1, Superseded: 1}, s.retryDead(queue.DeadLetterChoice{}))
	s.take(s.lease("c.example"))
	s.put("create again", "c.example", role(queue.Makes))
	s.inOrder("c.example", "create again")
}

// outlivesActivities has all activities be dropped, and the tombstone of one stay: it supersedes nothing that comes
// then.
func outlivesActivities(s *suite) {
	for range 3 {
		s.put("delete", "a.example", role(queue.Deletes))
		s.inOrder("a.example", "delete")
	}
	s.days(3)
	s.same("activities", 0, s.stats().Activities)
	s.reopen()
	s.pause("a.example")
	s.put("create", "a.example", role(queue.Makes))
	time.Sleep(2 * queue.SupersededAfter)
	s.act("a.example", queue.Resume)
	s.inOrder("a.example", "create")
	s.buryAbout("create again", "a.example", queue.Makes)
	s.same("count", done(1), s.retryDead(queue.DeadLetterChoice{}))
}

func tombstoneExpires(s *suite) {
	s.put("delete", "a.example", role(queue.Deletes))
	s.same("tombstones", 1, s.tombstones())
	time.Sleep(passing)
	s.sweepUntil(func() bool { return s.tombstones() == 0 })
	s.reopen()
	s.same("tombstones after a restart", 0, s.tombstones())
}

// tombstones counts the tombstones.
func (s *suite) tombstones() (n int) {
	s.t.Helper()
	for _, r := range s.export() {
		if r.Tombstone != nil {
			n++
		}
	}
	return n
}
