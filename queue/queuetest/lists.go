package queuetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var listCases = []testCase{
	{name: "of deliveries have all in one order", run: pagesDeliveries},
	{name: "of hosts are by name", run: pagesHosts},
	{name: "of hosts are filtered", run: filtersHosts},
	{name: "of dead letters are newest first", run: pagesLetters},
	{name: "of dead letters do not shift as they grow", run: lettersGrow},
	{name: "of dead letters are filtered", run: filtersLetters},
	{name: "refuse a bad cursor", run: refuseBadCursor},
}

// pages checks that the pages of a list, of any size, join to want without a gap or a repeat.
func (s *suite) pages(want []string, read func(p queue.Page) (names []string, next string, err error)) {
	s.t.Helper()
	for _, limit := range []int{1, 2, max(1, len(want)-1), max(1, len(want)), 500} {
		var got []string
		p := queue.Page{Limit: limit}
		for pages := 0; ; pages++ {
			names, next, err := read(p)
			if err != nil {
				s.t.Fatalf("page %d of %d items each: %v", pages, limit, err)
			}
			if len(names) > limit || (next != "" && len(names) < limit) || (pages > 0 && len(names) == 0) {
				s.t.Fatalf("page %d has %d items, want %d, or fewer on the last", pages, len(names), limit)
			}
			got = append(got, names...)
			if p.Cursor = next; next == "" || pages > len(want) {
				break
			}
		}
		s.same("list", want, got)
	}
}

func pagesDeliveries(s *suite) {
	names := hosts("a", 12)
	id := s.put("1", names[0], alsoTo(names[1:]...))
	for i, host := range names[:9] {
		l := s.lease(host)
		d := s.one(l, "1")
		switch i % 3 {
		case 0:
			s.finish(l, delivered(d))
		case 1:
			s.finish(l, dead(d, queue.ReasonRejected))
		case 2:
			s.finish(l, retry(d, time.Hour))
		}
	}
	for state, n := range map[queue.DeliveryState]int{"": 9, queue.StatePending: 6, queue.StateDead: 3} {
		var want []string
		list, err := s.Deliveries(s.t.Context(), id, state, queue.Page{Limit: 500})
		if err != nil || len(list.Items) != n {
			s.t.Fatalf("Deliveries in the state %q gave %d, %v, want %d", state, len(list.Items), err, n)
		}
		for _, d := range list.Items {
			want = append(want, d.ID)
		}
		s.pages(want, func(p queue.Page) (ids []string, next string, err error) {
			list, err := s.Deliveries(s.t.Context(), id, state, p)
			for _, d := range list.Items {
				ids = append(ids, d.ID)
			}
			return ids, list.Next, err
		})
	}
}

// hostPages checks the list of hosts through a filter.
func (s *suite) hostPages(f queue.HostFilter, want ...string) {
	s.t.Helper()
	s.pages(want, func(p queue.Page) (names []string, next string, err error) {
		list, err := s.Hosts(s.t.Context(), f, p)
		for _, h := range list.Items {
			s.same("host listed", s.host(h.Host), h)
			names = append(names, h.Host)
		}
		return names, list.Next, err
	})
}

func pagesHosts(s *suite) {
	names := []string{"[2001:db8::1]", "a.example", "a.example:8443", "b.example", "x--1.example", "xn--bcher-kva.example"}
	shuffled := []int{3, 0, 5, 2, 4, 1}
	for _, i := range shuffled {
		s.put("https://app.example/"+names[i], names[i])
	}
	s.hostPages(queue.HostFilter{}, names...)
}

func filtersHosts(s *suite) {
	for _, host := range hosts("well", 3) {
		s.record(host, healthy())
	}
	for _, host := range hosts("sick", 3) {
		s.record(host, failing(breaker.Open))
	}
	s.hostPages(queue.HostFilter{State: queue.HostOpen}, hosts("sick", 3)...)
	s.hostPages(queue.HostFilter{Query: "well"}, hosts("well", 3)...)
	s.hostPages(queue.HostFilter{Query: "0001"}, "sick0001.example", "well0001.example")
	s.hostPages(queue.HostFilter{Query: "0001", State: queue.HostHealthy}, "well0001.example")
	for _, f := range []queue.HostFilter{{Query: "%"}, {Query: "*"}, {State: queue.HostPaused}} {
		list, err := s.Hosts(s.t.Context(), f, queue.Page{Limit: 10})
		if err != nil || len(list.Items) != 0 || list.Next != "" {
			s.t.Errorf("Hosts(%+v) gave %+v, %v, want none", f, list, err)
		}
	}
}

// letterPages checks the list of dead letters through a filter.
func (s *suite) letterPages(f queue.DeadLetterFilter, want ...string) {
	s.t.Helper()
	s.pages(want, func(p queue.Page) (names []string, next string, err error) {
		list, err := s.DeadLetters(s.t.Context(), f, p)
		return letterURIs(list.Items), list.Next, err
	})
}

func pagesLetters(s *suite) {
	var want []string
	for _, uri := range []string{"1", "2", "3", "4", "5", "6"} {
		s.bury(uri, "a.example", queue.ReasonRejected)
		want = append(want, uri)
		time.Sleep(second / 100)
	}
	slices.Reverse(want)
	s.letterPages(queue.DeadLetterFilter{}, want...)

	s.put("many", "b.example", alsoTo(hosts("b", 9)...), lasting(second/2)) // these all die in one sweep
	time.Sleep(second)
	s.sweep()
	seen := map[string]bool{}
	p := queue.Page{Limit: 3}
	for {
		list, err := s.DeadLetters(s.t.Context(), queue.DeadLetterFilter{}, p)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, d := range list.Items {
			if seen[d.ID] {
				s.t.Fatalf("the dead letter %s is listed twice", d.ID)
			}
			seen[d.ID] = true
		}
		if p.Cursor = list.Next; list.Next == "" {
			break
		}
	}
	s.same("dead letters listed", 16, len(seen))
}

func lettersGrow(s *suite) {
	for _, uri := range []string{"1", "2", "3", "4"} {
		s.bury(uri, "a.example", queue.ReasonRejected)
		time.Sleep(second / 100)
	}
	first, err := s.DeadLetters(s.t.Context(), queue.DeadLetterFilter{}, queue.Page{Limit: 2})
	if err != nil {
		s.t.Fatal(err)
	}
	s.same("first page", []string{"4", "3"}, letterURIs(first.Items))
	s.bury("5", "a.example", queue.ReasonRejected)
	rest, err := s.DeadLetters(s.t.Context(), queue.DeadLetterFilter{}, queue.Page{Limit: 2, Cursor: first.Next})
	if err != nil {
		s.t.Fatal(err)
	}
	s.same("second page", []string{"2", "1"}, letterURIs(rest.Items))
}

func filtersLetters(s *suite) {
	s.bury("1", "a.example", queue.ReasonRejected)
	s.bury("2", "b.example", queue.ReasonGone)
	time.Sleep(second)
	since := time.Now().Add(s.b.Ahead)
	time.Sleep(second / 10)
	s.bury("3", "a.example", queue.ReasonGone)
	time.Sleep(second / 100)
	s.bury("4", "b.example", queue.ReasonGone)
	s.letterPages(queue.DeadLetterFilter{Host: "a.example"}, "3", "1")
	s.letterPages(queue.DeadLetterFilter{Since: since}, "4", "3")
	s.letterPages(queue.DeadLetterFilter{Host: "b.example", Reason: queue.ReasonGone}, "4", "2")
	s.letterPages(queue.DeadLetterFilter{Host: "b.example", Reason: queue.ReasonGone, Since: since}, "4")
	s.same("letters of no host", 0, len(s.letters(queue.DeadLetterFilter{Host: "example"})))
	s.same("letters of no reason", 0, len(s.letters(queue.DeadLetterFilter{Reason: queue.ReasonExpired})))
}

func refuseBadCursor(s *suite) {
	id := s.put("1", "a.example")
	s.putKey(keyID)
	for _, cursor := range []string{"*", "-1", "1-2-3", uuid.NewString(), "{\"x\":1}", "\x00\xff"} {
		p := queue.Page{Limit: 10, Cursor: cursor}
		_, err := s.Deliveries(s.t.Context(), id, "", p)
		s.is("Deliveries", err, queue.ErrBadCursor)
		_, err = s.Hosts(s.t.Context(), queue.HostFilter{}, p)
		s.is("Hosts", err, queue.ErrBadCursor)
		_, err = s.DeadLetters(s.t.Context(), queue.DeadLetterFilter{}, p)
		s.is("DeadLetters", err, queue.ErrBadCursor)
		_, err = s.Keys(s.t.Context(), queue.KeyFilter{}, p)
		s.is("Keys", err, queue.ErrBadCursor)
	}
}
