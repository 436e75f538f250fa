package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// act does something to a host and returns how it is then.
func (n *testNode) act(host, action string) hostView {
	n.T.Helper()
	return read[hostView](n, http.StatusOK, n.Call(http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/"+action, ""))
}

// lettersView is the answer of calls that change dead letters.
type lettersView struct {
	Matched, Retried, Deleted, Superseded int
	DryRun                                bool `json:"dry_run"`
}

func (n *testNode) letters(method, path, body string) lettersView {
	n.T.Helper()
	return read[lettersView](n, http.StatusOK, n.Call(method, "/v1/dead-letters"+path, body))
}

// refused makes a call that must be refused, and returns the reason.
func (n *testNode) refused(s submission) []faultView {
	n.T.Helper()
	p, err := problemOf(n.Call(http.MethodPost, "/v1/activities", s.String()))
	if err != nil || p.Status != http.StatusUnprocessableEntity {
		n.T.Fatalf("answered %+v: %v", p, err)
	}
	return p.Errors
}

// startSick starts a host that fails while sick is set.
func startSick(t *testing.T) (h *hosts, sick *atomic.Bool) {
	t.Helper()
	sick = new(atomic.Bool)
	sick.Store(true)
	return startHost(t, scripted(func(testinbox.Request) testinbox.Reply {
		if sick.Load() {
			return testinbox.Reply{Status: http.StatusInternalServerError}
		}
		return testinbox.Reply{}
	})), sick
}

// TestPause checks that a paused host gets nothing, and that its deliveries wait and go out in the end.
func TestPause(t *testing.T) { onBothStores(t, testPause) }

func testPause(t *testing.T, s store) {
	h := startHosts(t, 2, fine)
	node := s.startNode(t)
	if got := node.act(strings.ToUpper(h.Host(0)), "pause"); got.Host != h.Host(0) || got.State != "paused" {
		t.Errorf("paused before anything was known: %+v", got)
	}
	var all []acceptedView
	for i := range 3 {
		all = append(all, node.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls()}))
	}
	for _, a := range all {
		harness.Eventually(t, "the other host is served", func() bool { return node.activity(a).Counts.Delivered == 1 })
	}
	if got := node.host(h.Host(0)); got.State != "paused" || got.Pending != 3 || h.inboxes[0].Count() != 0 {
		t.Errorf("the paused host got %d requests: %+v", h.inboxes[0].Count(), got)
	}
	node.Restart()
	if got := node.act(h.Host(0), "resume"); got.State != "healthy" {
		t.Errorf("after resume %+v", got)
	}
	for _, a := range all {
		if got := node.settled(a); got.Delivered != 2 {
			t.Errorf("counts %+v", got)
		}
	}
}

// TestBlock checks that a blocked host's deliveries are dead at once and for good, and that nothing more is accepted.
func TestBlock(t *testing.T) { onBothStores(t, testBlock) }

func testBlock(t *testing.T, s store) {
	h := startHosts(t, 2, fine)
	node := s.startNode(t)
	node.act(h.Host(0), "pause")
	waiting := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	if got := node.act(h.Host(0), "block"); got.State != "blocked" || got.Pending != 0 {
		t.Errorf("blocked: %+v", got)
	}
	if got := node.activity(waiting).Counts; got.Dead != 1 {
		t.Errorf("what waited for a host that is blocked: %+v", got)
	}
	if got := node.deadLetters("reason=host_blocked&host=" + h.Host(0)); len(got) != 1 || got[0].Inbox != h.Inbox(0, "/inbox") || got[0].Attempts != 0 {
		t.Errorf("dead letters %+v", got)
	}
	if got := node.refused(submission{activity: like("2"), inboxes: []string{h.Inbox(0, "/inbox")}, more: `,"priority":"high"`}); len(got) != 1 || got[0].Reason != "host_blocked" {
		t.Errorf("refused: %+v", got)
	}
	both := node.accept(submission{activity: like("3"), inboxes: h.urls()})
	if both.Accepted != 1 || len(both.Rejected) != 1 || both.Rejected[0].Reason != "host_blocked" {
		t.Errorf("accepted %+v", both)
	}
	if got := node.letters(http.MethodPost, "/retry", ""); got.Matched != 1 || got.Retried != 0 {
		t.Errorf("retried for a blocked host: %+v", got)
	}
	node.Restart()
	if got := node.act(h.Host(0), "unblock"); got.State != "paused" {
		t.Errorf("unblocked, but paused before: %+v", got)
	}
	node.act(h.Host(0), "resume")
	if got := node.settled(node.deliver(like("4"), h.Inbox(0, "/inbox"))); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
	if got := node.activity(waiting).Counts; got.Dead != 1 || h.inboxes[0].Count() != 1 {
		t.Errorf("what was dead came to life: %+v, %d requests", got, h.inboxes[0].Count())
	}
}

// TestResetAndProbe checks that a probe makes one attempt and changes nothing else, and that a reset forgets all.
func TestResetAndProbe(t *testing.T) { onBothStores(t, testResetAndProbe) }

func testResetAndProbe(t *testing.T, s store) {
	h, sick := startSick(t)
	node := s.startNode(t, "--breaker-threshold", "1", "--breaker-cool-off", "1h", "--breaker-cool-off-max", "1h", "--retry-base", "1h")
	all := []acceptedView{node.deliver(like("1"), h.Inbox(0, "/inbox")), node.deliver(like("2"), h.Inbox(0, "/inbox"))}
	opened := func(failures int) func() bool {
		return func() bool {
			got := node.host(h.Host(0))
			return got.State == "open" && got.Breaker.Failures == failures && !got.Breaker.RetryAt.IsZero()
		}
	}
	harness.Eventually(t, "the breaker opens", opened(1))
	node.act(h.Host(0), "probe")
	harness.Eventually(t, "the probe fails", opened(2))
	if got := h.count(); got != 2 {
		t.Errorf("%d requests after one probe", got)
	}
	sick.Store(false)
	if got := node.act(h.Host(0), "reset"); got.State != "healthy" || got.Breaker.State != "closed" || got.Breaker.Failures != 0 ||
		got.FailureDays != 0 || !got.Breaker.RetryAt.IsZero() || got.LastError.Outcome != "" {
		t.Errorf("reset: %+v", got)
	}
	for _, a := range all {
		if got := node.settled(a); got.Delivered != 1 {
			t.Errorf("counts %+v", got)
		}
	}
}

// TestSeen checks that a host that was heard from is probed soon, however long its breaker would be open, and that
// this does not close the breaker.
func TestSeen(t *testing.T) { onBothStores(t, testSeen) }

func testSeen(t *testing.T, s store) {
	h, sick := startSick(t)
	node := s.startNode(t, "--breaker-threshold", "1", "--breaker-cool-off", "1h", "--breaker-cool-off-max", "1h", "--retry-base", "1h")
	a := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	harness.Eventually(t, "the breaker opens", func() bool { return node.host(h.Host(0)).State == "open" })
	before := node.host(h.Host(0))
	for range 3 {
		got := node.act(h.Host(0), "seen")
		if wait := time.Until(got.Breaker.RetryAt); wait > 10*time.Second || got.State != "open" || got.Breaker.Failures != 1 {
			t.Errorf("seen: %+v, before %+v", got, before)
		}
	}
	sick.Store(false)
	if got := node.settled(a); got.Delivered != 1 || h.count() != 2 {
		t.Errorf("counts %+v after %d requests", got, h.count())
	}
	if got := node.host(h.Host(0)); got.State != "healthy" {
		t.Errorf("host %+v", got)
	}
	if got := node.act("never.example", "seen"); got.State != "healthy" {
		t.Errorf("a host never heard of: %+v", got)
	}
}

// TestUnavailable checks that a host is unavailable after a number of days of failure, probed from time to time, and
// available again as soon as a probe succeeds.
func TestUnavailable(t *testing.T) { onBothStores(t, testUnavailable) }

func testUnavailable(t *testing.T, s store) {
	h, sick := startSick(t)
	node := s.startNode(t, "--unavailable-days", "1")
	inbox := h.Inbox(0, "/inbox")
	node.act(h.Host(0), "pause")
	const n = 5
	var all []acceptedView
	for i := range n {
		all = append(all, node.deliver(like(fmt.Sprint(i)), inbox))
	}
	node.act(h.Host(0), "resume")
	harness.Eventually(t, "the host is given up", func() bool {
		got := node.host(h.Host(0))
		return got.State == "unavailable" && got.Pending == 1 && got.FailureDays == 1
	})
	if got := node.activity(all[n-1]).Counts; got.Pending != 1 || h.count() != 1 {
		t.Errorf("the newest is kept for the probe: %+v, %d requests", got, h.count())
	}
	if got := node.deadLetters("reason=host_unavailable"); len(got) != n-1 {
		t.Errorf("dead letters %+v", got)
	}
	if got := node.refused(submission{activity: like("normal"), inboxes: []string{inbox}}); len(got) != 1 || got[0].Reason != "host_unavailable" {
		t.Errorf("refused: %+v", got)
	}
	if got := node.letters(http.MethodPost, "/retry?reason=host_unavailable", ""); got.Matched != n-1 || got.Retried != 0 {
		t.Errorf("retried for a host that is given up: %+v", got)
	}
	sick.Store(false)
	probe := node.deliver(like("high"), inbox, `,"priority":"high"`)
	if wait := time.Until(node.host(h.Host(0)).Breaker.RetryAt); wait > 10*time.Second {
		t.Errorf("the probe is %s away", wait)
	}
	for _, a := range []acceptedView{probe, all[n-1]} {
		if got := node.settled(a); got.Total != 1 || got.Delivered+got.Dead != 1 {
			t.Errorf("counts %+v", got)
		}
	}
	harness.Eventually(t, "the host is taken up again", func() bool { return node.host(h.Host(0)).State == "healthy" })
	if got := node.activity(probe).Counts; got.Delivered != 1 {
		t.Errorf("the probe: %+v", got)
	}
	if got := node.letters(http.MethodPost, "/retry", `{"reason":"host_unavailable"}`); got.Matched < n-1 || got.Retried != got.Matched {
		t.Errorf("retried: %+v", got)
	}
	for _, a := range append(all, node.deliver(like("normal"), inbox)) {
		if got := node.settled(a); got.Delivered != 1 {
			t.Errorf("counts %+v", got)
		}
	}
}

// TestDeadLetterCalls checks that dead letters can be retried and dropped, by ID and by filter, and counted before.
func TestDeadLetterCalls(t *testing.T) { onBothStores(t, testDeadLetterCalls) }

func testDeadLetterCalls(t *testing.T, s store) {
	var healed atomic.Bool
	h := startHosts(t, 2, func(int) testinbox.Options {
		return scripted(func(r testinbox.Request) testinbox.Reply {
			if healed.Load() && strings.HasPrefix(r.Path, "/inbox") {
				return testinbox.Reply{}
			}
			return testinbox.Reply{Status: http.StatusGone}
		})
	})
	node := s.startNode(t)
	var all []acceptedView
	for i := range 3 {
		all = append(all, node.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls()}))
	}
	for _, a := range all {
		node.settled(a)
	}
	healed.Store(true)
	first := url.QueryEscape(h.Host(0))
	for _, dry := range []string{"/retry?dry_run=true&host=" + first, "/retry?dry_run=1&reason=gone&host=" + first} {
		if diff := cmp.Diff(lettersView{Matched: 3, DryRun: true}, node.letters(http.MethodPost, dry, "")); diff != "" {
			t.Errorf("%s: %s", dry, diff)
		}
	}
	if diff := cmp.Diff(lettersView{Matched: 6, DryRun: true}, node.letters(http.MethodDelete, "", `{"dry_run":true}`)); diff != "" {
		t.Error(diff)
	}
	one := node.deadLetters("host=" + first)[0]
	byID := fmt.Sprintf(`{"ids":[%q,"nothing","%s-99"]}`, one.ID, all[0].ID)
	if diff := cmp.Diff(lettersView{Matched: 1, Retried: 1}, node.letters(http.MethodPost, "/retry", byID)); diff != "" {
		t.Error(diff)
	}
	harness.Eventually(t, "the one is delivered", func() bool { return requestsOf(h.inboxes[0], lastPart(one.ActivityID)) == 2 })
	if diff := cmp.Diff(lettersView{}, node.letters(http.MethodDelete, "?host="+first+"&reason=expired", "")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(lettersView{Matched: 2, Retried: 2}, node.letters(http.MethodPost, "/retry", fmt.Sprintf(`{"host":%q}`, h.Host(0)))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(lettersView{Matched: 3, Deleted: 3}, node.letters(http.MethodDelete, "", "")); diff != "" {
		t.Error(diff)
	}
	for _, a := range all {
		harness.Eventually(t, "all is done", func() bool { return node.activity(a).Counts == countsView{Total: 2, Delivered: 1, Dead: 1} })
	}
	if got := node.deadLetters(""); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

// TestCaps checks that neither a host nor dead letters can fill the store, and that those that are dropped are counted.
func TestCaps(t *testing.T) { onBothStores(t, testCaps) }

// capsView is the part of the stats about caps.
type capsView struct {
	Fleet struct {
		Pending, Dead, Dropped int
		Died                   map[string]int
	}
}

func testCaps(t *testing.T, s store) {
	h := startHost(t, testinbox.Options{})
	node := s.startNode(t, "--lane-cap", "2", "--dead-letter-cap", "1")
	node.act(h.Host(0), "pause")
	var all []acceptedView
	for i := range 5 {
		all = append(all, node.deliver(like(fmt.Sprint(i)), h.Inbox(0, "/inbox")))
	}
	high := node.deliver(like("high"), h.Inbox(0, "/inbox"), `,"priority":"high"`)
	harness.Eventually(t, "both are within their caps", func() bool {
		got := get[capsView](node, "/v1/stats").Fleet
		return got.Pending == 2 && got.Died["lane_full"] == 4 && got.Dead == 1 && got.Dropped == 3
	})
	if got := node.deadLetters(""); len(got) != 1 || got[0].Reason != "lane_full" {
		t.Errorf("dead letters %+v", got)
	}
	node.act(h.Host(0), "resume")
	for i, a := range append(all, high) {
		if got := node.settled(a); (got.Delivered == 1) != (i >= 4) {
			t.Errorf("%d: counts %+v", i, got)
		}
	}
}
