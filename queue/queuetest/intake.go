package queuetest

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

var intakeCases = []testCase{
	{name: "stores an activity as it came", run: storesAsItCame},
	{name: "stores a large fan-out", run: storesFanOut},
	{name: "replays a repeated submission", run: replays},
	{name: "replays what it refused and found twice", run: replaysWhole},
	{name: "stores a submission once, however many bring it", run: storesOnce},
	{name: "replays for a day", run: replaysForADay, days: true, opts: limits(queue.Limits{Retention: second})},
	{name: "does not confuse bytes under one idempotency key", run: mismatch},
	{name: "takes each submission without an idempotency key for itself", run: noIdempotency},
	{name: "refuses unavailable hosts", run: refusesUnavailable},
	{name: "stores nothing where all is refused", run: storesNothing},
}

func storesAsItCame(s *suite) {
	sub := submission("https://app.example/a/1", "https://b.example:8443/users/bob/inbox", "https://[2001:db8::1]/inbox")
	sub.Body = []byte("{\"id\": \"https://app.example/a/1\",\n \"x\": \"\\u0000<\x7f\u00e9\u2028\"}")
	sub.OrderingKey = "https://app.example/notes/1"
	sub.Priority = queue.High
	sub.Note = []byte(`{"rejected":[]}`)
	sub.Role = queue.Makes
	sub.Object = "https://app.example/notes/1"
	sub.Final = []int{401, 403}
	sub.Pin = "SHA256:abc"
	sub.Trace = []byte("\x00trace\xff")
	sub.Recipients[0].Headers = []queue.Header{{Name: "Collection-Synchronization", Value: `collectionId="x", digest="y"`}}
	before := time.Now()
	r := s.enqueue(sub)
	s.same("receipt", queue.Receipt{ID: sub.ID, URI: sub.URI, Accepted: 2, Note: sub.Note}, r)

	a, err := s.Activity(s.t.Context(), sub.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	s.near("created", before, a.CreatedAt)
	want := queue.ActivityStatus{
		ID: sub.ID, URI: sub.URI, Type: "Create", KeyID: keyID, CreatedAt: a.CreatedAt,
		State: queue.ActivityPending, Counts: queue.Counts{Total: 2, Pending: 2},
	}
	s.same("activity", want, a)

	full := sub.Activity
	full.Digest, full.CreatedAt = sha256.Sum256(sub.Body), a.CreatedAt
	ids := map[string]bool{}
	for _, to := range sub.Recipients {
		d := s.one(s.lease(to.Host), sub.URI)
		s.same("delivery", queue.Delivery{ID: d.ID, Activity: &full, Inbox: to.Inbox, Headers: to.Headers}, d)
		ids[d.ID] = true
	}
	if len(ids) != 2 {
		s.t.Errorf("the IDs of two deliveries are %v", ids)
	}
}

func storesFanOut(s *suite) {
	sub := submission("https://app.example/a/1", hosts("a", 500)...)
	for _, host := range hosts("a", 500) {
		sub.Recipients = append(sub.Recipients, recipient("https://"+host+"/second"), recipient("https://"+host+"/third"))
	}
	if r := s.enqueue(sub); r.Accepted != 1500 {
		s.t.Fatalf("%d of 1500 deliveries were accepted", r.Accepted)
	}
	s.counts(sub.ID, queue.Counts{Pending: 1500})
	if h := s.host("a0499.example"); h.Pending != 3 {
		s.t.Errorf("a host has %d deliveries pending, want 3", h.Pending)
	}
	s.same("pending", 1500, s.stats().Pending)
}

func replays(s *suite) {
	sub := submission("https://app.example/a/1", "a.example", "b.example")
	sub.Note = []byte("first")
	first := s.enqueue(sub)
	if first.Replayed {
		s.t.Fatal("the first receipt says that it is a replay")
	}
	first.Replayed = true
	again := *sub
	again.ID, again.Note = uuid.Must(uuid.NewV7()).String(), []byte("second")
	s.same("second receipt", first, s.enqueue(&again))

	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, sub.URI)))
	l = s.lease("b.example")
	s.finish(l, dead(s.one(l, sub.URI), queue.ReasonRejected))
	s.same("receipt when all is done", first, s.enqueue(&again))
	s.counts(sub.ID, queue.Counts{Delivered: 1, Dead: 1})
	_, err := s.Activity(s.t.Context(), again.ID)
	s.is("Activity of a replay", err, queue.ErrNotFound)
	st := s.stats()
	s.same("activities and pending", []int{1, 0}, []int{st.Activities, st.Pending})
}

func replaysWhole(s *suite) {
	s.unavailable("sick.example", time.Hour)
	s.put("https://app.example/a/1", "a.example")
	sub := submission("https://app.example/a/1", "a.example", "b.example", "sick.example")
	first := s.enqueue(sub)
	want := queue.Receipt{
		ID: sub.ID, URI: sub.URI, Accepted: 1, Duplicates: 1,
		Refused: []queue.Refusal{{Inbox: "https://sick.example/inbox", Reason: queue.ReasonHostUnavailable}},
	}
	s.same("receipt", want, first)
	want.Replayed = true
	s.same("second receipt", want, s.enqueue(sub))
}

func storesOnce(s *suite) {
	subs := make([]*queue.Submission, 8)
	for i := range subs {
		subs[i] = submission("https://app.example/a/1", hosts("a", 20)...)
		subs[i].Idempotency = subs[0].Idempotency
	}
	receipts := make([]queue.Receipt, len(subs))
	var wg sync.WaitGroup
	for i := range subs {
		wg.Go(func() {
			r, err := s.Enqueue(s.t.Context(), subs[i])
			if err != nil {
				s.t.Errorf("Enqueue: %v", err)
			}
			receipts[i] = r
		})
	}
	wg.Wait()
	stored := 0
	for i, r := range receipts {
		if !r.Replayed {
			stored++
		}
		if r.ID != receipts[0].ID || r.Accepted != 20 {
			s.t.Errorf("receipt %d is %+v, the first %+v", i, r, receipts[0])
		}
	}
	s.same("submissions stored", 1, stored)
	s.same("pending", 20, s.stats().Pending)
}

func replaysForADay(s *suite) {
	sub := submission("https://app.example/a/1", "a.example")
	s.enqueue(sub)
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, sub.URI)))
	for range 23 {
		time.Sleep(time.Hour)
		s.sweep()
	}
	time.Sleep(59 * time.Minute)
	if r := s.enqueue(sub); !r.Replayed || r.ID != sub.ID {
		s.t.Errorf("after a minute less than a day the receipt is %+v", r)
	}
}

func mismatch(s *suite) {
	sub := submission("https://app.example/a/1", "a.example")
	s.enqueue(sub)
	other := submission("https://app.example/a/2", "b.example")
	other.Idempotency.Key = sub.Idempotency.Key
	_, err := s.Enqueue(s.t.Context(), other)
	s.is("Enqueue of other bytes", err, queue.ErrIdempotencyMismatch)
	_, err = s.Activity(s.t.Context(), other.ID)
	s.is("Activity of other bytes", err, queue.ErrNotFound)
	s.same("pending", 1, s.stats().Pending)
	if r := s.enqueue(sub); !r.Replayed {
		s.t.Error("after a mismatch the first submission is not known any more")
	}
}

func noIdempotency(s *suite) {
	sub := submission("https://app.example/a/1", "a.example")
	sub.Idempotency = queue.Idempotency{}
	for n := range 3 {
		again := *sub
		again.ID = uuid.Must(uuid.NewV7()).String()
		want := queue.Receipt{ID: again.ID, URI: sub.URI, Accepted: 1}
		s.same("receipt", want, s.enqueue(&again))
		want = queue.Receipt{ID: uuid.Must(uuid.NewV7()).String(), URI: sub.URI, Duplicates: 1}
		twice := *sub
		twice.ID = want.ID
		s.same("receipt while it pends", want, s.enqueue(&twice))
		if n == 1 {
			s.reopen()
		}
		l := s.lease("a.example")
		s.finish(l, delivered(s.one(l, sub.URI)))
	}
	other := submission("https://app.example/a/2", "a.example")
	other.Idempotency = queue.Idempotency{}
	s.same("accepted of other bytes", 1, s.enqueue(other).Accepted)
}

func refusesUnavailable(s *suite) {
	s.unavailable("sick.example", time.Hour)
	sub := submission("https://app.example/a/1", "a.example", "https://sick.example/inbox", "https://sick.example/second", "b.example")
	r := s.enqueue(sub)
	slices.SortFunc(r.Refused, func(a, b queue.Refusal) int { return strings.Compare(a.Inbox, b.Inbox) })
	want := queue.Receipt{ID: sub.ID, URI: sub.URI, Accepted: 2, Refused: []queue.Refusal{
		{Inbox: "https://sick.example/inbox", Reason: queue.ReasonHostUnavailable},
		{Inbox: "https://sick.example/second", Reason: queue.ReasonHostUnavailable},
	}}
	s.same("receipt", want, r)
	s.counts(sub.ID, queue.Counts{Pending: 2})
	s.put("https://app.example/a/2", "sick.example", priority(queue.High))
	s.same("pending", 1, s.host("sick.example").Pending)
}

func storesNothing(s *suite) {
	s.unavailable("sick.example", time.Hour)
	before := s.totals()
	sub := submission("https://app.example/a/1", "sick.example")
	r := s.enqueue(sub)
	if r.ID != "" || r.Accepted != 0 || len(r.Refused) != 1 {
		s.t.Errorf("the receipt is %+v, want no ID and one refusal", r)
	}
	_, err := s.Activity(s.t.Context(), sub.ID)
	s.is("Activity", err, queue.ErrNotFound)
	s.same("stats", before, s.totals())

	s.put("https://app.example/probe", "sick.example", priority(queue.High))
	s.act("sick.example", queue.Probe)
	l, well := s.lease("sick.example"), healthy()
	d := s.one(l, "https://app.example/probe")
	s.settlement(l, queue.Settlement{Results: []queue.Result{delivered(d)}, Host: &well, Release: true})
	if r := s.enqueue(sub); r.Replayed || r.Accepted != 1 {
		s.t.Errorf("once the host is well the receipt is %+v, want the delivery accepted", r)
	}
}
