package queuetest

import (
	"cmp"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// knowing names the actors behind an activity's first inbox, and what the app knows the activity by.
func knowing(metadata string, ids ...string) func(*queue.Submission) {
	return func(s *queue.Submission) { s.Metadata, s.Recipients[0].IDs = []byte(metadata), ids }
}

// entries reads the feed from a cursor to its end.
func (s *suite) entries(f queue.FeedFilter, cursor string) (all []queue.Event, end string) {
	s.t.Helper()
	for idle := 0; idle < 3; {
		list, err := s.Feed(s.t.Context(), f, queue.Page{Limit: 500, Cursor: cursor})
		if err != nil {
			s.t.Fatalf("Feed(%+v, %q): %v", f, cursor, err)
		}
		if idle++; len(list.Items) > 0 || cursor != list.Next {
			idle = 0
		}
		all, cursor = append(all, list.Items...), list.Next
	}
	return all, cursor
}

// fed checks that the feed has exactly these entries, those of each host in this order and EventActivityDone after what
// it is about, and returns them. On several partitions this may take a moment, as the parts of an activity have to inform one another.
func (s *suite) fed(f queue.FeedFilter, cursor string, want ...queue.Event) []queue.Event {
	s.t.Helper()
	var got []queue.Event
	for deadline := time.Now().Add(3 * second); ; time.Sleep(second / 20) {
		if got, _ = s.entries(f, cursor); len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	var plain []queue.Event
	done := map[string]bool{}
	for _, e := range got {
		if e.At.Before(s.began.Add(s.b.Ahead-second)) || e.At.After(time.Now().Add(s.b.Ahead+second)) {
			s.t.Errorf("the time of the entry is %s, the case began at %s", e.At, s.began)
		}
		if e.ID != "" && done[e.ActivityID] {
			s.t.Errorf("%s of %s comes after its activity is done", e.Kind, e.ID)
		}
		done[e.ActivityID] = done[e.ActivityID] || e.Kind == queue.EventActivityDone
		e.Cursor, e.At = "", time.Time{}
		e.Order, e.By = nil, "" // the cases of orders look at these
		plain = append(plain, e)
	}
	about := func(e queue.Event) string { return cmp.Or(e.Host, e.ActivityID) }
	byHost := func(a, b queue.Event) int { return cmp.Compare(about(a), about(b)) }
	slices.SortStableFunc(plain, byHost)
	want = slices.Clone(want)
	slices.SortStableFunc(want, byHost)
	s.same("feed", want, plain)
	return got
}

// hostTurned is the entry for a host's new state.
func hostTurned(host string, state queue.HostState) queue.Event {
	return queue.Event{Kind: queue.EventHostState, Host: host, State: state}
}

// states checks that the feed has exactly these states of a host.
func (s *suite) states(host string, want ...queue.HostState) {
	s.t.Helper()
	var entries []queue.Event
	for _, state := range want {
		entries = append(entries, hostTurned(host, state))
	}
	s.fed(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventHostState}, Hosts: []string{host}}, "", entries...)
}

// diedOf is the entry for a delivery of an activity without metadata that died.
func diedOf(d queue.Delivery, host string, r queue.Result) queue.Event {
	return queue.Event{
		Kind: queue.EventDead, Host: host, ID: d.ID, ActivityID: d.Activity.ID, URI: d.Activity.URI, Metadata: d.Activity.Metadata,
		Inbox: d.Inbox, IDs: d.IDs, Reason: r.Reason, Attempts: d.Attempts + 1, Attempt: r.Attempt,
	}
}

// doneWith is the entry for an activity of which nothing is pending.
func doneWith(id, uri string, c queue.Counts) queue.Event {
	c.Total = c.Delivered + c.Dead + c.Cancelled
	return queue.Event{Kind: queue.EventActivityDone, ActivityID: id, URI: uri, Counts: &c}
}
