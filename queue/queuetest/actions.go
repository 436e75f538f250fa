package queuetest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var actionCases = []testCase{
	{name: "are listed only if they are asked for", run: actionsAsked},
	{name: "on hosts are in the feed", run: actionsOnHosts},
	{name: "on hosts are not in the feed if they change nothing", run: actionsChangeNothing},
	{name: "with orders are in the feed if the order is another", run: actionsWithOrders},
	{name: "that nothing is left to do for are not in the feed", run: actionsCovered},
	{name: "on keys are in the feed if the key changes", run: actionsOnKeys},
	{name: "on an activity are in the feed", run: actionsOnActivity},
	{name: "of many steps are in the feed", run: actionsOfMany},
	{name: "are in the feed after a restart", run: actionsSurvive},
	{name: "are kept for their retention", run: actionsExpire, opts: limits(queue.Limits{Feed: queue.FeedLimits{Retention: second}})},
	{name: "wake those who watch the feed", run: actionsWake},
}

var onlyActions = queue.FeedFilter{Kinds: []queue.EventKind{queue.EventAction}}

// actions returns the entries of actions: what was done, to what and by whom, in the order of these texts.
func (s *suite) actions() (texts []string) {
	s.t.Helper()
	got, _ := s.entries(onlyActions, "")
	for _, e := range got {
		texts = append(texts, strings.TrimSpace(string(e.Action)+" "+cmp.Or(e.Host, e.KeyID, e.URI)+" "+e.By))
	}
	slices.Sort(texts)
	return texts
}

// did checks that the feed has entries of exactly these actions.
func (s *suite) did(want ...string) {
	s.t.Helper()
	slices.Sort(want)
	s.same("actions", want, s.actions())
}

// as returns a context of calls of a token.
func (s *suite) as(token string) context.Context { return queue.WithCaller(s.t.Context(), token) }

func actionsAsked(s *suite) {
	s.act("a.example", queue.Pause)
	s.is("FeedAction", s.FeedAction(s.as("ops"), queue.Event{Kind: queue.EventAction, Action: queue.ActionRetryDead, Count: 3}), nil)
	for _, f := range []queue.FeedFilter{
		{}, {Hosts: []string{"a.example"}}, {Kinds: []queue.EventKind{queue.EventHostState, queue.EventDead}},
	} {
		got, _ := s.entries(f, "")
		s.same("entries", []string{"host_state a.example"}, placed(got))
	}
	s.did("dead_letters.retry", "host.pause a.example")
	got, _ := s.entries(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventHostState, queue.EventAction}, Hosts: []string{"a.example"}}, "")
	s.same("entries about a host", []string{"action a.example", "host_state a.example"}, placed(got))
	got, _ = s.entries(queue.FeedFilter{Kinds: []queue.EventKind{queue.EventAction}, Hosts: []string{"b.example"}}, "")
	s.same("entries about another host", []string(nil), placed(got))
}

func actionsOnHosts(s *suite) {
	s.parked("a.example", failing(breaker.Open), time.Hour)
	s.parked("b.example", failing(breaker.Open), time.Hour)
	s.parked("c.example", failing(breaker.Open), time.Hour)
	ops := queue.Order{By: "ops"}
	s.order("a.example", queue.Reset, ops)
	s.order("b.example", queue.Probe, ops)
	s.order("c.example", queue.Seen, ops)
	s.order("new.example", queue.Block, queue.Order{By: "mods", Reason: "spam", For: time.Hour, Subdomains: true})
	s.order("new.example", queue.Unblock, queue.Order{})
	s.did("host.reset a.example ops", "host.probe b.example ops", "host.seen c.example ops", "host.block new.example mods",
		"host.unblock new.example")
	filter := onlyActions
	filter.Hosts = []string{"new.example"}
	block := s.fed(filter, "", queue.Event{Kind: queue.EventAction, Action: "host.block", Host: "new.example"},
		queue.Event{Kind: queue.EventAction, Action: "host.unblock", Host: "new.example"})[0]
	until := block.Order.Until
	if off := time.Until(until) - time.Hour; off.Abs() > 5*second {
		s.t.Errorf("the block ends at %s, want in an hour", until)
	}
	s.same("order", &queue.HostOrder{
		Action: queue.Block, Host: "new.example", Reason: "spam", By: "mods", Until: until, Subdomains: true,
	}, block.Order)
}

func actionsChangeNothing(s *suite) {
	s.put("1", "a.example")
	for _, host := range []string{"a.example", "unknown.example"} {
		for _, action := range []queue.HostAction{queue.Resume, queue.Unblock, queue.Probe, queue.Seen} {
			s.act(host, action)
		}
	}
	s.act("unknown.example", queue.Reset)
	s.parked("b.example", failing(breaker.Open), time.Hour)
	for range 3 {
		s.act("b.example", queue.Reset)
	}
	s.did("host.reset b.example")
}

func actionsWithOrders(s *suite) {
	for _, o := range []queue.Order{
		{Reason: "spam"}, {Reason: "spam"}, {Reason: "scam"}, {Reason: "scam", By: "ops"}, {Reason: "scam", By: "ops"},
		{Reason: "scam", By: "ops", For: time.Hour}, {Reason: "scam", By: "ops", For: time.Hour, Subdomains: true},
		{Reason: "scam", By: "ops", Subdomains: true}, {Reason: "scam", By: "ops", Subdomains: true},
	} {
		s.order("a.example", queue.Block, o)
	}
	for range 2 {
		s.act("a.example", queue.Unblock)
	}
	s.did("host.block a.example", "host.block a.example", "host.block a.example ops", "host.block a.example ops",
		"host.block a.example ops", "host.block a.example ops", "host.unblock a.example")
}

func actionsCovered(s *suite) {
	s.put("1", "x.a.example")
	s.order("a.example", queue.Pause, covering("they move"))
	if _, err := s.Act(s.t.Context(), "x.a.example", queue.Resume, queue.Order{}); err == nil {
		s.t.Error("a host that is covered was resumed")
	}
	s.order("b.example", queue.Pause, queue.Order{For: second})
	time.Sleep(passing)
	s.act("b.example", queue.Resume)
	s.did("host.pause a.example ops", "host.pause b.example")
}

func actionsOnKeys(s *suite) {
	key, other := testKey(keyID), testKey(keyID)
	pinned := testKey(keyID)
	other.Fingerprint = "SHA256:another"
	pinned.Pin = pinned.Fingerprint
	same := key
	same.Sealed = []byte("sealed again")
	for _, k := range []queue.Key{key, same, pinned, other} {
		if _, err := s.PutKey(s.as("app"), k); err != nil {
			s.t.Fatal(err)
		}
	}
	put := "key.put " + keyID + " app"
	s.did(put, put)
	s.is("RetireKey of an unknown ID", s.RetireKey(s.as("ops"), "unknown"), queue.ErrNotFound)
	s.is("DeleteKey of an unknown ID", s.DeleteKey(s.as("ops"), "unknown"), queue.ErrNotFound)
	s.put("1", "a.example") // it waits for the key, so that is not removed
	for range 2 {
		s.is("RetireKey", s.RetireKey(s.as("ops"), keyID), nil)
	}
	s.putKey(keyID) // it stays now, and is another
	s.is("DeleteKey", s.DeleteKey(s.as("ops"), keyID), nil)
	s.is("DeleteKey again", s.DeleteKey(s.as("ops"), keyID), queue.ErrNotFound)
	s.did(put, put, "key.retire "+keyID+" ops", "key.put "+keyID, "key.delete "+keyID+" ops")
}

func actionsOnActivity(s *suite) {
	id := s.put("1", "a.example", alsoTo(hosts("many", 9)...))
	for range 2 {
		if _, err := s.Cancel(s.as("ops"), id); err != nil {
			s.t.Fatal(err)
		}
	}
	if _, err := s.Cancel(s.as("ops"), uuid.NewString()); err == nil {
		s.t.Error("an activity was cancelled that there is not")
	}
	s.did("activity.cancel 1 ops")
	s.fed(onlyActions, "", queue.Event{Kind: queue.EventAction, Action: queue.ActionCancel, ActivityID: id, URI: "1"})
}

func actionsOfMany(s *suite) {
	names := hosts("many", 9)
	for _, host := range names {
		s.parked(host, failing(breaker.Open), time.Hour)
	}
	n, err := s.ResetHosts(s.as("ops"), queue.HostOpen)
	s.is("ResetHosts", err, nil)
	s.did()
	for _, host := range names {
		entries := s.stateEntries(host)
		last := entries[len(entries)-1]
		s.same("entry of "+host, []string{"healthy", "ops"}, []string{string(last.State), last.By})
	}
	want := queue.Event{
		Kind: queue.EventAction, Action: queue.ActionResetHosts, By: "ops", Count: n,
		Filter: &queue.ActionFilter{
			State: queue.HostOpen, Host: "a.example", Reason: queue.ReasonGone, Since: s.began, Inbox: "https://a.example/inbox",
			KeyID: keyID, URI: "1", IDs: []string{"a", "b"},
		},
	}
	s.is("FeedAction", s.FeedAction(s.t.Context(), want), nil)
	got, _ := s.entries(onlyActions, "")
	s.same("entry", want, untimed(got[0]))
	s.near("entry", time.Now(), got[0].At)
}

func actionsSurvive(s *suite) {
	s.order("a.example", queue.Pause, queue.Order{By: "ops", Reason: "they move"})
	s.putKey(keyID)
	before, _ := s.entries(onlyActions, "")
	s.reopen()
	after, _ := s.entries(onlyActions, "")
	s.same("actions", before, after)
}

func actionsExpire(s *suite) {
	s.act("a.example", queue.Pause)
	time.Sleep(2 * passing)
	s.act("b.example", queue.Pause)
	s.sweep()
	s.did("host.pause b.example")
}

func actionsWake(s *suite) {
	ch := s.watch(s.t.Context())
	for _, change := range []func(){
		func() { s.putKey(keyID) },
		func() { s.is("RetireKey", s.RetireKey(s.t.Context(), keyID), nil) },
		func() { s.is("FeedAction", s.FeedAction(s.t.Context(), queue.Event{Kind: queue.EventAction}), nil) },
	} {
		s.drainEvents(ch)
		change()
		s.hearsOf(ch, queue.EventFed)
	}
}
