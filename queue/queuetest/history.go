package queuetest

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

var historyCases = []testCase{
	{name: "keeps the last attempts", run: keepsHistory},
	{name: "goes with a delivery that dies and is retried", run: historyOfLetters},
	{name: "survives a restart", run: historySurvives},
	{name: "is that of one delivery", run: showsDelivery},
	{name: "knows no other delivery", run: showsNoOther},
}

// failsOften lets the delivery of an activity fail n times, each time with another error, and returns how.
func (s *suite) failsOften(uri, host string, n int) (id string, want queue.History) {
	s.t.Helper()
	for i := range n {
		l := s.lease(host)
		d := s.one(l, uri)
		r := retry(d, 0)
		r.Attempt.Error = fmt.Sprintf("failure %d", i)
		s.finish(l, r)
		id, want = d.ID, want.With(r.Attempt)
	}
	return id, want
}

func (s *suite) delivery(id string) queue.DeliveryStatus {
	s.t.Helper()
	d, err := s.Delivery(s.t.Context(), id)
	if err != nil {
		s.t.Fatalf("Delivery(%s): %v", id, err)
	}
	return d
}

func keepsHistory(s *suite) {
	s.put("1", "a.example")
	for range 7 {
		id, want := s.failsOften("1", "a.example", 1)
		before := s.delivery(id).History
		s.same("newest attempt", want.Last(), before.Last())
	}
	id, want := s.failsOften("1", "a.example", 3)
	got := s.delivery(id)
	s.same("attempts and how many are kept", []int{10, queue.HistoryLength}, []int{got.Attempts, len(got.History)})
	s.same("history", want, got.History[:3])

	l := s.lease("a.example")
	s.finish(l, deferred(s.one(l, "1"), 0))
	s.same("history after one that made no attempt", got.History, s.delivery(id).History)
}

func historyOfLetters(s *suite) {
	s.put("1", "a.example")
	id, want := s.failsOften("1", "a.example", 2)
	l := s.lease("a.example")
	r := dead(s.one(l, "1"), queue.ReasonRejected)
	s.finish(l, r)
	want = want.With(r.Attempt)
	s.same("history of the dead letter", want, s.letters(queue.DeadLetterFilter{})[0].History)
	s.same("history of the delivery", want, s.delivery(id).History)
	s.retryDead(queue.DeadLetterChoice{})
	got := s.delivery(id)
	s.same("state and attempts", []any{queue.StatePending, 0}, []any{got.State, got.Attempts})
	s.same("history once it is retried", want, got.History)
}

func historySurvives(s *suite) {
	activity := s.put("1", "a.example", knowing(`{"n":1}`, "https://a.example/users/ann"))
	id, want := s.failsOften("1", "a.example", 3)
	before := s.delivery(id)
	s.reopen()
	s.same("history", want, s.delivery(id).History)
	s.same("delivery", before, s.delivery(id))
	s.same("delivery in the list", want, s.listed(activity, "")["https://a.example/inbox"].History)
	a := s.activity(activity)
	s.same("metadata", `{"n":1}`, string(a.Metadata))
	l := s.lease("a.example")
	d := s.one(l, "1")
	s.same("IDs", []string{"https://a.example/users/ann"}, d.IDs)
	s.same("metadata taken", `{"n":1}`, string(d.Activity.Metadata))
}

func showsDelivery(s *suite) {
	activity := s.put("1", "a.example", alsoTo("b.example"), knowing(`{"n":1}`, "https://a.example/users/ann"))
	id, history := s.failsOften("1", "a.example", 1)
	got := s.delivery(id)
	s.near("next attempt", time.Now(), got.NextAttemptAt)
	want := queue.DeliveryStatus{
		ID: id, Inbox: "https://a.example/inbox", Host: "a.example", IDs: []string{"https://a.example/users/ann"}, ActivityID: activity,
		URI: "1", Type: "Create", Metadata: []byte(`{"n":1}`), Priority: queue.Normal, CreatedAt: s.activity(activity).CreatedAt,
		State: queue.StatePending, Waits: got.Waits, Attempts: 1, NextAttemptAt: got.NextAttemptAt, History: history,
	}
	s.same("delivery", want, got)

	l := s.lease("a.example")
	r := dead(s.one(l, "1"), queue.ReasonGone)
	s.finish(l, r)
	got = s.delivery(id)
	s.near("death", time.Now(), got.DiedAt)
	want.State, want.Reason = queue.StateDead, queue.ReasonGone
	want.Waits = ""
	want.Attempts, want.NextAttemptAt = 2, time.Time{}
	want.DiedAt = got.DiedAt
	want.History = history.With(r.Attempt)
	s.same("dead delivery", want, got)

	l = s.lease("b.example")
	d := s.one(l, "1")
	s.same("IDs of another", 0, len(d.IDs))
	s.finish(l, delivered(d))
	_, err := s.Delivery(s.t.Context(), d.ID)
	s.is("Delivery of one that is delivered", err, queue.ErrNotFound)
}

func showsNoOther(s *suite) {
	id := s.put("1", "a.example")
	d := s.one(s.lease("a.example"), "1")
	for _, other := range []string{"", "nonsense", id, d.ID + "0", uuid.NewString() + d.ID[len(id):], d.ID + "." + d.ID} {
		_, err := s.Delivery(s.t.Context(), other)
		s.is("Delivery("+other+")", err, queue.ErrNotFound)
	}
}
