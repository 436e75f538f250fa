package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// patient is a host that can fail and recover, and counts the requests while it fails.
type patient struct {
	*hosts
	sick atomic.Bool

	mu       sync.Mutex
	failures []time.Time // the times of the requests that failed; guarded by mu
	now      int         // failing requests at work; guarded by mu
	most     int         // guarded by mu: now's maximum since the breaker first opened
}

// startPatient starts a host that takes some time for each request, so that a window fills.
func startPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{}
	p.hosts = startHost(t, scripted(func(testinbox.Request) testinbox.Reply {
		const work = 20 * time.Millisecond
		if !p.sick.Load() {
			return testinbox.Reply{Delay: work}
		}
		p.fail(work)
		return testinbox.Reply{Status: http.StatusInternalServerError}
	}))
	return p
}

func (p *patient) fail(work time.Duration) {
	p.mu.Lock()
	p.failures = append(p.failures, time.Now())
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	<-time.After(work)
	p.mu.Lock()
	p.now--
	p.mu.Unlock()
}

// seen returns when failing requests came.
func (p *patient) seen() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.failures)
}

// resetMost restarts the count of concurrent failing requests, and returns its maximum.
func (p *patient) resetMost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.most
	p.most = 0
	return most
}

const (
	breakerThreshold = 10
	hostConcurrency  = 8
	backlog          = 50
)

// sicken opens the host's window with good answers, then lets it fail with a backlog waiting, until its breaker opens.
func (p *patient) sicken(t *testing.T, node *testNode) (waiting []acceptedView) {
	t.Helper()
	var warm []acceptedView
	for i := range backlog {
		warm = append(warm, node.deliver(like(fmt.Sprintf("warm-%d", i)), p.Inbox(0, "/inbox")))
	}
	for _, a := range warm {
		node.settled(a)
	}
	p.sick.Store(true)
	for i := range backlog {
		waiting = append(waiting, node.deliver(like(fmt.Sprint(i)), p.Inbox(0, "/inbox")))
	}
	harness.Eventually(t, "the breaker opens", func() bool { return node.host(p.Host(0)).State == "open" })
	return waiting
}

// TestOpenBreakerSparesTheHost checks that a host gets no more failing requests than the threshold, and then none while
// its breaker is open, not even from a node that was restarted.
func TestOpenBreakerSparesTheHost(t *testing.T) { onBothStores(t, testOpenBreakerSparesTheHost) }

func testOpenBreakerSparesTheHost(t *testing.T, s store) {
	p, other := startPatient(t), startHost(t, testinbox.Options{})
	node := s.startProcess(t, "--breaker-threshold", strconv.Itoa(breakerThreshold), "--host-concurrency", strconv.Itoa(hostConcurrency),
		"--breaker-cool-off", "1h", "--breaker-cool-off-max", "1h")
	p.sicken(t, node)
	before := node.host(p.Host(0))
	if wait := time.Until(before.Breaker.RetryAt); before.Breaker.State != "open" || before.Breaker.Failures != breakerThreshold ||
		before.Pending != backlog || wait < 58*time.Minute || wait > 67*time.Minute {
		t.Errorf("host %+v", before)
	}
	for _, again := range []func(){func() {}, node.Restart, node.Kill} {
		again()
		if got := node.host(p.Host(0)); got.State != "open" || got.Breaker != before.Breaker {
			t.Errorf("host %+v, before it was %+v", got, before)
		}
		// Others are served, so the node would have come to this host too.
		a := node.accept(submission{activity: like(fmt.Sprint("both", p.count(), other.count())), inboxes: []string{p.Inbox(0, "/inbox"), other.Inbox(0, "/inbox")}})
		harness.Eventually(t, "the other host is served", func() bool { return node.activity(a).Counts.Delivered == 1 })
		if got := len(p.seen()); got != breakerThreshold {
			t.Errorf("%d requests failed, the breaker opens after %d", got, breakerThreshold)
		}
	}
	if got := p.inboxes[0].MaxInFlight()[p.Host(0)]; got > hostConcurrency || got < 2 {
		t.Errorf("%d requests were in flight at once", got)
	}
}

// TestProbesGrowRareAndHeal checks that an open breaker lets one probe at a time through, at gaps that double, and that
// after the first good one the host gets all that waited.
func TestProbesGrowRareAndHeal(t *testing.T) { onBothStores(t, testProbesGrowRareAndHeal) }

func testProbesGrowRareAndHeal(t *testing.T, s store) {
	const coolOff, probes = 200 * time.Millisecond, 3
	p := startPatient(t)
	node := s.startNode(t, "--breaker-threshold", strconv.Itoa(breakerThreshold), "--host-concurrency", strconv.Itoa(hostConcurrency),
		"--breaker-cool-off", coolOff.String(), "--breaker-cool-off-max", "1h", "--max-attempts", "2", "--retry-base", "1h")
	waiting := p.sicken(t, node)
	if p.resetMost() < 2 {
		t.Error("only one request at a time failed: the window was not open")
	}
	harness.Eventually(t, "probes are made", func() bool { return len(p.seen()) >= breakerThreshold+probes })
	if got := p.resetMost(); got > 1 {
		t.Errorf("%d probes at once", got)
	}
	p.sick.Store(false)
	seen := p.seen()
	for i := range probes {
		gap := seen[breakerThreshold+i].Sub(seen[breakerThreshold+i-1])
		if least := coolOff << i; gap < least {
			t.Errorf("probe %d came after %s, the breaker was open for %s", i+1, gap, least)
		}
	}
	for _, a := range waiting { // two attempts each are enough, and none waits for its own time
		if got := node.settled(a); got.Delivered != 1 {
			t.Errorf("counts %+v, dead letters %+v", got, node.deadLetters(""))
		}
	}
	if got := node.host(p.Host(0)); got.State != "healthy" || got.Breaker.State != "closed" || got.Breaker.Failures != 0 || !got.Breaker.RetryAt.IsZero() {
		t.Errorf("host %+v", got)
	}
	if got := p.inboxes[0].MaxInFlight()[p.Host(0)]; got > hostConcurrency {
		t.Errorf("%d requests were in flight at once", got)
	}
}

// TestProbeIsSeen checks that a breaker is shown half open while its probe is on its way.
func TestProbeIsSeen(t *testing.T) { onBothStores(t, testProbeIsSeen) }

func testProbeIsSeen(t *testing.T, s store) {
	var asked atomic.Int32
	answer := make(chan struct{})
	h := startHost(t, scripted(func(testinbox.Request) testinbox.Reply {
		if asked.Add(1) == 1 {
			return testinbox.Reply{Status: http.StatusInternalServerError}
		}
		<-answer
		return testinbox.Reply{}
	}))
	node := s.startNode(t, "--breaker-threshold", "1", "--breaker-cool-off", "1h", "--breaker-cool-off-max", "1h")
	a := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	shows := func(state string) func() bool {
		return func() bool { return node.host(h.Host(0)).Breaker.State == state }
	}
	harness.Eventually(t, "the breaker opens", shows("open"))
	node.act(h.Host(0), "probe")
	harness.Eventually(t, "the breaker is half open", shows("half_open"))
	close(answer)
	if got := node.settled(a); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
	harness.Eventually(t, "the breaker closes", shows("closed"))
}

// TestProbingSpendsNoAttempt checks that a delivery whose own retry is far away may be the probe as often as it takes.
func TestProbingSpendsNoAttempt(t *testing.T) { onBothStores(t, testProbingSpendsNoAttempt) }

func testProbingSpendsNoAttempt(t *testing.T, s store) {
	const probes = 3
	p := startPatient(t)
	p.sick.Store(true)
	node := s.startNode(t, "--breaker-threshold", "1", "--breaker-cool-off", "100ms", "--breaker-cool-off-max", "200ms",
		"--max-attempts", "2", "--retry-base", "1h")
	a := node.deliver(like("1"), p.Inbox(0, "/inbox"))
	harness.Eventually(t, "probes are made", func() bool { return len(p.seen()) > probes })
	p.sick.Store(false)
	if got := node.settled(a); got.Delivered != 1 {
		t.Errorf("counts %+v, dead letters %+v", got, node.deadLetters(""))
	}
}

// TestHangingHostsTakeNothingFromTheOthers checks that the healthy are served while all others still hang.
func TestHangingHostsTakeNothingFromTheOthers(t *testing.T) {
	onBothStores(t, testHangingHostsTakeNothingFromTheOthers)
}

func testHangingHostsTakeNothingFromTheOthers(t *testing.T, s store) {
	const n, hanging, activities, concurrency = 100, 30, 10, 64
	serve := func(hangs bool) time.Duration {
		healthy := n
		if hangs {
			healthy -= hanging
		}
		h := startHosts(t, n, func(i int) testinbox.Options { return replies(testinbox.Reply{Hang: hangs && i < hanging}) })
		node := s.startNode(t, "--concurrency", strconv.Itoa(concurrency), "--attempt-timeout", "1h", "--shutdown-timeout", "100ms")
		defer node.Stop() // or it would go on for the other on a store they share
		began := time.Now()
		var all []acceptedView
		for i := range activities {
			all = append(all, node.accept(submission{activity: like(fmt.Sprint(i)), inboxes: h.urls()}))
		}
		for _, a := range all {
			harness.Eventually(t, "the healthy are served", func() bool { return node.activity(a).Counts.Delivered == healthy })
		}
		took := time.Since(began)
		for i := range hanging {
			if got := node.host(h.Host(i)); hangs && (got.Pending != activities || got.Breaker.Failures != 0 || h.inboxes[i].Count() > 1) {
				t.Errorf("a host that hangs got %d requests: %+v", h.inboxes[i].Count(), got)
			}
		}
		for i := hanging; i < n; i++ {
			if h.inboxes[i].Count() != activities {
				t.Errorf("a healthy host got %d requests", h.inboxes[i].Count())
			}
		}
		return took
	}
	without, with := serve(false), serve(true)
	t.Logf("%d of %d hosts hang: the others were served in %s, without them in %s (%.2f times)", hanging, n, with, without, float64(with)/float64(without))
}

// TestResetHostsAfterOutage has all hosts fail at the same time, as in an outage of our own network, and resets those that
// are open by one call. A host that is paused stays so.
func TestResetHostsAfterOutage(t *testing.T) {
	onBothStores(t, testResetHostsAfterOutage)
}

func testResetHostsAfterOutage(t *testing.T, s store) {
	var back atomic.Bool
	h := startHosts(t, 5, func(int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply { return testinbox.Reply{Close: !back.Load()} })
	})
	node := s.startNode(t, "--breaker-threshold", "1", "--breaker-cool-off", "1h", "--breaker-cool-off-max", "1h")
	a := node.accept(submission{activity: like("1"), inboxes: h.urls()})
	harness.Eventually(t, "all hosts are open", func() bool {
		return len(get[page[hostView]](node, "/v1/hosts?state=open").Items) == len(h.inboxes)
	})
	node.act(h.Host(4), "pause")
	back.Store(true)
	got := node.Call(http.MethodPost, "/v1/hosts/reset?state=open", "")
	if got.Status != http.StatusOK || strings.TrimSpace(got.Body) != `{"reset":4}` {
		t.Errorf("answered %d %s", got.Status, got.Body)
	}
	harness.Eventually(t, "all but the paused host get theirs", func() bool { return node.activity(a).Counts.Delivered == 4 })
	if paused := node.host(h.Host(4)); paused.State != "paused" || paused.Pending != 1 {
		t.Errorf("the paused host is %+v", paused)
	}
}
