package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

var feedFlag = flag.Int("feed-deliveries", 1000, "about how many deliveries TestFeedLosesNothing makes")

// TestFeedLosesNothing kills nodes ten times with SIGKILL, and restarts Redis twice, while they deliver to inboxes that are
// healthy, gone, dead or fail now and then. At the end, the feed has the entries of the final state and no others, in order
// for each host. So has what three apps got of it meanwhile: a client that reconnects and crashes, a subscriber of events
// that hangs up, and an app behind the webhook that fails half of its calls.
func TestFeedLosesNothing(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		feedLosesNothing(t, nil, 1, func() {}, "--feed-delivered")
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		redis := durable(t)
		feedLosesNothing(t, onRedis(redis.URL()), 3, func() {
			redis.Kill()
			redis.Run()
		})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := testredis.StartCluster(t, 6)
		next := 0
		feedLosesNothing(t, append(onRedis(c.URL()), "--redis-partitions", "12"), 3, func() {
			c.Nodes[next].Restart()
			next++
		})
	})
}

// The hosts of a troubled fediverse, in this order.
const (
	goneHosts, flakyHosts, healthyHosts = 5, 3, 7
	livingHosts                         = goneHosts + flakyHosts + healthyHosts
	deadHosts                           = 5
)

// startTroubled starts a fediverse in which a quarter of the hosts is gone, a quarter dead, and some fail now and then.
func startTroubled(t *testing.T) *hosts {
	return startHosts(t, livingHosts+deadHosts, func(i int) testinbox.Options {
		var n atomic.Int64
		return scripted(func(testinbox.Request) testinbox.Reply {
			switch {
			case i < goneHosts:
				return testinbox.Reply{Status: http.StatusGone}
			case i < goneHosts+flakyHosts && n.Add(1)%3 == 0:
				return testinbox.Reply{Status: http.StatusBadGateway}
			case i >= livingHosts:
				return testinbox.Reply{Close: true}
			}
			return testinbox.Reply{}
		})
	})
}

const feedKills = 10

func feedLosesNothing(t *testing.T, s store, nodes int, restartStore func(), args ...string) {
	h := startTroubled(t)
	app, flags := startApp(t)
	f := startNodes(t, s, nodes, append(append(args, flags...), "--max-attempts", "3")...)
	rs := startReaders(t, f)
	rs.all = append(rs.all, app)

	rounds := feedKills + 1
	units := max(1, *feedFlag/(3*livingHosts+deadHosts)/rounds) // for each round: three activities for the living and one for the dead
	for round := range rounds {
		var posting sync.WaitGroup
		before := h.count()
		posting.Go(func() { f.postTroubled(h, 4*units) })
		harness.Eventually(t, "a third of the round is attempted", func() bool { return h.count() >= before+units*livingHosts })
		if round < feedKills {
			victim := f.nodes[round%nodes]
			victim.Crash()
			if round == 3 || round == 7 {
				restartStore()
			}
			victim.Start()
		}
		posting.Wait()
	}
	checkFeed(t, f, h, rs, slices.Contains(args, "--feed-delivered"))
}

// postTroubled posts activities to the living, and every fourth to the dead, until n are accepted. One without an answer is not
// posted again: it may be accepted or not.
func (f *fleet) postTroubled(h *hosts, n int) {
	try := f.balancer()
	for accepted := 0; accepted < n && f.nodes[0].T.Context().Err() == nil; {
		to, more := h.urls()[:livingHosts], ""
		if accepted%4 == 3 {
			to, more = h.urls()[livingHosts:], `,"expires_in":"4s"`
		}
		id := f.posted.Add(1)
		more += fmt.Sprintf(`,"metadata":{"status_id":%d},"recipients":%s`, id, actorsAt(to))
		call := submission{activity: like(fmt.Sprint(id)), inboxes: []string{}, more: more}
		a, err := try(http.MethodPost, "/v1/activities", strings.NewReader(call.String()))
		if err == nil && a.Status == http.StatusAccepted {
			accepted++
		} else {
			time.Sleep(retryPause)
		}
	}
}

// actorsAt is the recipients that name an actor behind each inbox.
func actorsAt(inboxes []string) string {
	var recipients []map[string]any
	for _, inbox := range inboxes {
		recipients = append(recipients, map[string]any{"inbox": inbox, "ids": []string{strings.TrimSuffix(inbox, "/inbox") + "/users/bob"}})
	}
	return harness.JSON(recipients)
}

// finalView is the final state: what the feed has to say, by the names of entries.
type finalView map[string]entryView

// final waits until nothing is pending, and returns the final state.
func (n *testNode) final() finalView {
	n.T.Helper()
	want := finalView{}
	harness.Eventually(n.T, "nothing is pending", func() bool {
		clear(want)
		return get[statsView](n, "/v1/stats").Fleet.Pending == 0 && n.addActivities(want)
	})
	for cursor := ""; ; {
		list := get[page[deadLetterView]](n, "/v1/dead-letters?limit=500&cursor="+cursor)
		for _, l := range list.Items {
			id, _, _ := strings.Cut(l.ID, ".")
			e := entryView{
				Type: "dead", ID: l.ID, ActivityID: l.ActivityID, Metadata: l.Metadata, Inbox: l.Inbox, Host: l.Host, IDs: l.IDs,
				Reason: l.Reason, Attempts: l.Attempts, LastAttempt: l.LastAttempt, At: l.DiedAt, URL: "/v1/activities/" + id,
			}
			want[e.name()] = e
		}
		if cursor = list.Next; cursor == "" {
			return want
		}
	}
}

// addActivities adds the activities, and reports whether all are done.
func (n *testNode) addActivities(want finalView) (done bool) {
	n.T.Helper()
	for cursor := ""; ; {
		list := get[page[activityView]](n, "/v1/activities?limit=500&cursor="+cursor)
		for _, a := range list.Items {
			if a.Counts.Pending > 0 {
				return false
			}
			e := entryView{
				Type: "activity_done", ID: a.ID, ActivityID: a.ActivityID, Metadata: a.Metadata, State: "done", Counts: a.Counts,
				URL: "/v1/activities/" + a.ID,
			}
			want[e.name()] = e
		}
		if cursor = list.Next; cursor == "" {
			return true
		}
	}
}

// wholeFeed reads the feed from its beginning, and counts what was delivered.
func (n *testNode) wholeFeed() (r *reading, delivered int) {
	n.T.Helper()
	r = newReading(n.T, "the whole feed")
	for cursor := ""; ; {
		list := get[page[entryView]](n, "/v1/feed?limit=500&after="+cursor)
		for _, e := range list.Items {
			if e.Type == "delivered" {
				delivered++
			} else {
				r.add(e)
			}
		}
		if len(list.Items) == 0 && list.Next == cursor {
			return r, delivered
		}
		cursor = list.Next
	}
}

// sum adds up the counts of all activities.
func (f finalView) sum() (sum countsView) {
	for _, e := range f {
		sum.Total += e.Counts.Total
		sum.Delivered += e.Counts.Delivered
		sum.Dead += e.Counts.Dead
	}
	return sum
}

// checkFeed holds the feed, and what readers got of it, against the final state.
func checkFeed(t *testing.T, f *fleet, h *hosts, rs *readers, arrivals bool) {
	t.Helper()
	node := f.nodes[0]
	want := node.final()
	sum := want.sum()
	activities := len(want) - sum.Dead
	var whole *reading
	var delivered int
	harness.Eventually(t, "the feed has the final state", func() bool { // the parts of an activity may have to tell each other
		whole, delivered = node.wholeFeed()
		return len(whole.missing(want)) == 0
	})
	for _, r := range rs.all {
		harness.Eventually(t, r.name+" has all entries", func() bool { return r.count() >= whole.count() })
	}
	rs.stop()
	rs.work.Wait()
	for _, r := range rs.all {
		if diff := gocmp.Diff(whole.byHost(), r.byHost()); diff != "" {
			t.Errorf("%s did not get what the feed has: %s", r.name, diff)
		}
		t.Logf("%s got %d entries, %d of them again", r.name, r.count()+r.repeats, r.repeats)
	}
	whole.check(want)
	if sum.Delivered == 0 || sum.Dead == 0 {
		t.Errorf("the final state is %+v", sum)
	}
	if arrivals && delivered != sum.Delivered {
		t.Errorf("%d delivered, and %d entries", sum.Delivered, delivered)
	}
	for i := range h.inboxes {
		if got, state := whole.lastState(h.Host(i)), node.host(h.Host(i)).State; got != state {
			t.Errorf("the last entry of host %d says %s, but it is %s", i, got, state)
		}
	}
	t.Logf("%d activities, %+v, %d entries of the whole feed, %d of them again", activities, sum, whole.count(), whole.repeats)
}

// check holds all that was read against the final state.
func (r *reading) check(want finalView) {
	r.t.Helper()
	ended, before := map[string]bool{}, map[string]entryView{}
	states := map[string]string{}
	for _, e := range r.entries {
		if last := before[e.Host]; e.Host != "" && e.At.Before(last.At) {
			r.t.Errorf("%s comes after %s", e.text(), last.text())
		}
		before[e.Host] = e
		if e.Type == "host_state" {
			if cmp.Or(states[e.Host], "healthy") == e.State {
				r.t.Errorf("%s is no change", e.text())
			}
			states[e.Host] = e.State
			continue
		}
		end := want[e.name()]
		if e.Type == "activity_done" {
			ended[e.URL] = true
			end.At = e.At // no other answer says it
		} else if ended[e.URL] {
			r.t.Errorf("%s comes after its activity is done", e.text())
		}
		if e.text() != end.text() {
			r.t.Errorf("the feed has %s, the final state is %s", e.text(), end.text())
		}
	}
}

// missing lists the entries that were not read. An activity without deliveries, as all were duplicates, needs none.
func (r *reading) missing(want finalView) (names []string) {
	for name, e := range want {
		if _, ok := r.known[name]; !ok && (e.Type == "dead" || e.Counts.Total > 0) {
			names = append(names, name)
		}
	}
	return names
}

// lastState returns the last state of a host that was read.
func (r *reading) lastState(host string) string {
	state := "healthy"
	for _, e := range r.entries {
		if e.Type == "host_state" && e.Host == host {
			state = e.State
		}
	}
	return state
}
