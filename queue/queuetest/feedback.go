package queuetest

import (
	"fmt"
	"slices"

	"github.com/postrider/postrider/queue"
)

// backward reads the feed newest first, from a cursor to its end, by pages of so many.
func (s *suite) backward(f queue.FeedFilter, cursor string, limit int) (all []queue.Event) {
	s.t.Helper()
	f.NewestFirst = true
	for {
		list, err := s.Feed(s.t.Context(), f, queue.Page{Limit: limit, Cursor: cursor})
		if err != nil || len(list.Items) > limit || list.Next != "" && list.Next == cursor {
			s.t.Fatalf("Feed(%+v, %q) gave %d entries and the cursor %q, %v", f, cursor, len(list.Items), list.Next, err)
		}
		all, cursor = append(all, list.Items...), list.Next
		if cursor == "" {
			return all
		}
	}
}

// plain are entries without their cursors, in the order of their times and hosts, if they have one time.
func plain(entries []queue.Event) []string {
	texts := make([]string, len(entries))
	for i, e := range entries {
		texts[i] = fmt.Sprint(e.At.UnixMilli(), " ", e.Kind, e.Host, e.State, e.URI)
	}
	return texts
}

func feedNewestFirst(s *suite) {
	s.buryAll(hosts("a", 9)...)
	for _, action := range []queue.HostAction{queue.Pause, queue.Resume, queue.Block} {
		s.act("a0003.example", action)
	}
	every := queue.FeedFilter{Kinds: []queue.EventKind{queue.EventDead, queue.EventHostState}}
	for _, f := range []queue.FeedFilter{
		every, {Kinds: []queue.EventKind{queue.EventDead}}, {Hosts: hosts("a", 4)}, {Hosts: []string{"a0003.example"}},
		{Hosts: []string{"a0003.example"}, Kinds: []queue.EventKind{queue.EventHostState}}, {Hosts: []string{"b.example"}},
	} {
		forward, _ := s.entries(f, "")
		for _, limit := range []int{1, 2, 5, 500} {
			got := s.backward(f, "", limit)
			s.same("entries", slices.Sorted(slices.Values(plain(forward))), slices.Sorted(slices.Values(plain(got))))
			for i := 1; i < len(got); i++ {
				if got[i].At.After(got[i-1].At) {
					s.t.Errorf("an entry of %s comes behind one of %s", got[i].At, got[i-1].At)
				}
			}
		}
		for i, e := range s.backward(f, queue.FeedEnd, 500) {
			s.same("entries before one", len(forward)-i-1, len(s.backward(f, e.Cursor, 500)))
		}
	}
	var states []queue.HostState
	for _, e := range s.backward(queue.FeedFilter{Hosts: []string{"a0003.example"}, Kinds: []queue.EventKind{queue.EventHostState}}, "", 2) {
		states = append(states, e.State)
	}
	s.same("states", []queue.HostState{queue.HostBlocked, queue.HostHealthy, queue.HostPaused}, states)
}

func feedBackwardEnds(s *suite) {
	s.same("entries of a new feed", 0, len(s.backward(queue.FeedFilter{}, "", 10)))
	for _, host := range hosts("a", 5) {
		s.act(host, queue.Pause)
	}
	f := queue.FeedFilter{NewestFirst: true}
	list, err := s.Feed(s.t.Context(), f, queue.Page{Limit: 2})
	if err != nil || len(list.Items) != 2 || list.Next == "" {
		s.t.Fatalf("Feed gave %d entries and the cursor %q, %v", len(list.Items), list.Next, err)
	}
	for _, host := range hosts("b", 5) {
		s.act(host, queue.Pause)
	}
	s.reopen()
	got := []string{list.Items[0].Host, list.Items[1].Host}
	for _, e := range s.backward(f, list.Next, 2) {
		got = append(got, e.Host)
	}
	s.same("hosts", hosts("a", 5), slices.Sorted(slices.Values(got)))
}

func feedBackwardFinds(s *suite) {
	s.act("a.example", queue.Pause)
	s.buryMany(800)
	s.act("a.example", queue.Resume)
	var states []queue.HostState
	for _, e := range s.backward(queue.FeedFilter{Hosts: []string{"a.example"}, Kinds: []queue.EventKind{queue.EventHostState}}, "", 10) {
		states = append(states, e.State)
	}
	s.same("states", []queue.HostState{queue.HostHealthy, queue.HostPaused}, states)
}

func feedBackwardRefuses(s *suite) {
	s.buryAll("a.example", "b.example")
	forth, back := queue.FeedFilter{}, queue.FeedFilter{NewestFirst: true}
	_, here := s.entries(forth, "")
	list, err := s.Feed(s.t.Context(), back, queue.Page{Limit: 1})
	if err != nil || list.Next == "" {
		s.t.Fatalf("Feed gave the cursor %q, %v", list.Next, err)
	}
	for _, c := range []struct {
		filter queue.FeedFilter
		cursor string
	}{{back, here}, {forth, list.Next}, {back, "."}, {back, ".now"}, {back, "nonsense"}, {back, ".nonsense"}, {forth, "."}} {
		_, err := s.Feed(s.t.Context(), c.filter, queue.Page{Limit: 10, Cursor: c.cursor})
		s.is(fmt.Sprintf("Feed(%+v, %s)", c.filter, c.cursor), err, queue.ErrBadCursor)
	}
}
