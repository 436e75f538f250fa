package queuetest

import (
	"crypto/sha256"
	"reflect"
	"strings"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var restartCases = []testCase{
	{name: "keeps what is pending", run: restartPending},
	{name: "keeps order and priorities", run: restartOrder},
	{name: "gives back what was taken", run: restartTaken, alone: true},
	{name: "keeps retries", run: restartRetries},
	{name: "keeps a host's record", run: restartRecord},
	{name: "keeps each field of a host's record", run: restartEachField},
	{name: "keeps the wait of a lane", run: restartWait},
	{name: "keeps who waits for a host to recover", run: restartHostFailed},
	{name: "keeps keys and that they came", run: restartKeys},
	{name: "keeps receipts and counts", run: restartReceipts},
	{name: "keeps TTLs", run: restartExpiry},
	{name: "keeps dead letters", run: restartLetters},
}

func restartPending(s *suite) {
	sub := submission("https://app.example/a/1", "a.example")
	sub.OrderingKey = "https://app.example/notes/1"
	sub.Object = "https://app.example/notes/1"
	sub.Role = queue.Makes
	sub.Final, sub.Pin = []int{401}, "SHA256:abc"
	sub.Trace = []byte("\x00trace\xff")
	sub.Recipients[0].Headers = []queue.Header{{Name: "X-Test", Value: "1"}}
	s.enqueue(sub)
	s.reopen()
	s.counts(sub.ID, queue.Counts{Pending: 1})
	s.offers("a.example")
	d := s.one(s.lease("a.example"), sub.URI)
	full := sub.Activity
	full.Digest, full.CreatedAt = sha256.Sum256(sub.Body), d.Activity.CreatedAt
	s.near("created", time.Now(), full.CreatedAt)
	s.same("delivery", queue.Delivery{ID: d.ID, Activity: &full, Inbox: "https://a.example/inbox", Headers: sub.Recipients[0].Headers}, d)
	s.same("ID listed", d.ID, s.listed(sub.ID, "")["https://a.example/inbox"].ID)
}

func restartOrder(s *suite) {
	s.chain("a.example")
	s.put("low", "a.example", priority(queue.Low))
	s.put("high", "a.example", priority(queue.High))
	s.reopen()
	s.put("4", "a.example", ordering("https://app.example/notes/1"))
	l := s.lease("a.example")
	s.same("first", []string{"high"}, uris(s.turn(l, 1).Deliveries))
	ds := s.take(l, "1", "low")
	for _, next := range []string{"2", "3", "4"} {
		for _, d := range ds {
			s.settle(l, delivered(d))
		}
		ds = s.take(l, next)
	}
}

func restartTaken(s *suite) {
	s.put("1", "a.example")
	s.put("2", "a.example")
	l := s.lease("a.example")
	s.settle(l, delivered(s.take(l, "1", "2")["1"]))
	s.reopen()
	s.same("in flight", 0, s.host("a.example").InFlight)
	s.offers("a.example")
	s.same("attempts", 0, s.one(s.lease("a.example"), "2").Attempts)
}

func restartRetries(s *suite) {
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	r := retry(s.one(l, "1"), 2*second)
	s.finish(l, r)
	due := time.Now().Add(2 * second)
	s.reopen()
	got := s.listed(id, "")["https://a.example/inbox"]
	s.near("next attempt", due, got.NextAttemptAt)
	s.same("last attempt", r.Attempt, got.History.Last())
	s.offers()
	s.take(s.lease("a.example"))
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Release: true})
	time.Sleep(time.Until(due) + second/10)
	s.offers("a.example")
	s.same("attempts", 1, s.one(s.lease("a.example"), "1").Attempts)
}

func restartRecord(s *suite) {
	want := fullRecord()
	s.record("a.example", want)
	s.unavailable("sick.example", time.Hour)
	s.reopen()
	s.same("record", want, s.host("a.example").Record)
	s.same("record in the turn", want, s.turn(s.lease("a.example"), 1).Host)
	s.same("state", queue.HostUnavailable, s.host("sick.example").State)
	s.same("accepted", 0, s.enqueue(submission("1", "sick.example")).Accepted)
}

// restartEachField changes one field of a record that was settled before: none may count as not worth writing.
func restartEachField(s *suite) {
	full := reflect.ValueOf(fullRecord())
	want := map[string]queue.HostRecord{}
	for i := range full.NumField() {
		field := full.Type().Field(i)
		if field.Name == "Epoch" || full.Field(i).IsZero() { // an epoch is the store's
			continue
		}
		host := strings.ToLower(field.Name) + ".example"
		record := healthy()
		s.record(host, record)
		reflect.ValueOf(&record).Elem().Field(i).Set(full.Field(i))
		s.record(host, record)
		want[host] = record
	}
	s.reopen()
	for host, record := range want {
		s.same("record of "+host, record, s.host(host).Record)
	}
}

func restartWait(s *suite) {
	s.put("1", "a.example")
	s.put("2", "a.example")
	l, record := s.lease("a.example"), failing(breaker.Open)
	ds := s.take(l, "1", "2")
	s.settlement(l, queue.Settlement{
		Results: []queue.Result{hostFailed(ds["1"], time.Hour)}, Host: &record, Wait: 2 * second, Release: true,
	})
	until := time.Now().Add(2 * second)
	s.reopen()
	s.near("end of the wait", until, s.host("a.example").RetryAt)
	s.offers()
	s.take(s.lease("a.example"))
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Release: true})
	time.Sleep(time.Until(until) + second/10)
	s.offers("a.example")
	s.one(s.lease("a.example"), "2")
}

func restartHostFailed(s *suite) {
	s.put("1", "a.example")
	s.put("2", "a.example")
	l := s.lease("a.example")
	ds := s.take(l, "1", "2")
	s.finish(l, hostFailed(ds["1"], time.Hour), retry(ds["2"], time.Hour))
	s.reopen()
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Recovered: true, Release: true})
	s.reopen()
	s.one(s.lease("a.example"), "1")
}

func restartKeys(s *suite) {
	s.putKey("other")
	s.put("1", "a.example")
	l := s.lease("a.example")
	s.finish(l, waitKey(s.one(l, "1")))
	s.reopen()
	s.key(testKey("other"))
	s.putKey(keyID)
	s.reopen()
	s.key(testKey(keyID))
	s.offers("a.example")
	s.one(s.lease("a.example"), "1")
}

func restartReceipts(s *suite) {
	sub := submission("1", "a.example", "b.example", "c.example")
	sub.Note = []byte("note")
	want := s.enqueue(sub)
	a, b := s.lease("a.example"), s.lease("b.example")
	s.finish(a, delivered(s.one(a, "1")))
	s.finish(b, dead(s.one(b, "1"), queue.ReasonRejected))
	before := s.totals()
	s.reopen()
	want.Replayed = true
	s.same("second receipt", want, s.enqueue(sub))
	other := submission("2", "a.example")
	other.Idempotency.Key = sub.Idempotency.Key
	_, err := s.Enqueue(s.t.Context(), other)
	s.is("Enqueue of other bytes", err, queue.ErrIdempotencyMismatch)
	s.counts(sub.ID, queue.Counts{Pending: 1, Delivered: 1, Dead: 1})
	s.same("stats", before, s.totals())
	s.same("duplicates", 1, s.enqueue(submission("1", "c.example")).Duplicates)
	s.cancel(sub.ID)
	s.reopen()
	s.counts(sub.ID, queue.Counts{Delivered: 1, Dead: 1, Cancelled: 1})
	s.take(s.lease("c.example"))
}

func restartExpiry(s *suite) {
	id := s.put("1", "a.example", lasting(2*second))
	missing := s.put("2", "a.example", lasting(2*second))
	l := s.lease("a.example")
	s.finish(l, waitKey(s.take(l, "1", "2")["2"]))
	s.reopen()
	s.sweep()
	s.counts(id, queue.Counts{Pending: 1})
	time.Sleep(second + passing)
	s.sweep()
	s.same("reason", queue.ReasonExpired, s.listed(id, "")["https://a.example/inbox"].Reason)
	s.same("reason", queue.ReasonKeyMissing, s.listed(missing, "")["https://a.example/inbox"].Reason)
}

func restartLetters(s *suite) {
	s.bury("1", "a.example", queue.ReasonGone)
	want := s.letters(queue.DeadLetterFilter{})
	s.same("dead letters", 1, len(want))
	s.reopen()
	s.same("dead letters after a restart", want, s.letters(queue.DeadLetterFilter{}))
	s.same("pending", 0, s.stats().Pending)
}
