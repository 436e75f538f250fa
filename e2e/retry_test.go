package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestSchemeIsLearnt checks that a host that only understands RFC 9421 costs a second knock only once.
func TestSchemeIsLearnt(t *testing.T) { onBothStores(t, testSchemeIsLearnt) }

func testSchemeIsLearnt(t *testing.T, s store) {
	for name, script := range map[string]func(testinbox.Request) testinbox.Reply{
		"401": nil,
		"400": func(r testinbox.Request) testinbox.Reply {
			if r.Scheme != testinbox.RFC9421 {
				return testinbox.Reply{Status: http.StatusBadRequest}
			}
			return testinbox.Reply{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			options := scripted(script)
			if script == nil {
				options = testinbox.Options{Accept: []testinbox.Scheme{testinbox.RFC9421}}
			}
			h := startHost(t, options)
			node := s.startNode(t)
			if got := node.host(h.Host(0)).Scheme; got != "unknown" {
				t.Errorf("scheme of a new host: %s", got)
			}
			node.settled(node.deliver(like("1"), h.Inbox(0, "/inbox")))
			node.settled(node.deliver(like("2"), h.Inbox(0, "/inbox")))
			node.Restart()
			a := node.deliver(like("3"), h.Inbox(0, "/inbox"))
			if got := node.settled(a); got.Delivered != 1 {
				t.Errorf("counts %+v", got)
			}
			if got := node.host(h.Host(0)); got.Scheme != "rfc9421" || got.Breaker.Failures != 0 || got.State != "healthy" {
				t.Errorf("host %+v", got)
			}
			var got []string
			for _, r := range h.inboxes[0].Received() {
				got = append(got, lastPart(r.ActivityID)+string(r.Scheme))
			}
			if want := []string{"1cavage", "1rfc9421", "2rfc9421", "3rfc9421"}; !slices.Equal(got, want) {
				t.Errorf("requests %v, want %v", got, want)
			}
		})
	}
}

// TestRetriedUntilFine checks that every retried delivery arrives in the end, with a new signature.
func TestRetriedUntilFine(t *testing.T) { onBothStores(t, testRetriedUntilFine) }

func testRetriedUntilFine(t *testing.T, s store) {
	const failing = 3 // attempts
	status := func(s int) testinbox.Reply { return testinbox.Reply{Status: s} }
	rows := []struct {
		reply testinbox.Reply
		knock int // requests in one attempt
	}{
		{status(301), 1}, {status(401), 2}, {status(408), 1}, {status(425), 1}, {status(429), 1}, {status(500), 1},
		{status(503), 1}, {testinbox.Reply{Close: true}, 1}, {testinbox.Reply{Hang: true}, 1},
		{testinbox.Reply{Status: 307, Header: http.Header{"Location": {"/inbox"}}}, 2},
	}
	counts := make([]atomic.Int64, len(rows))
	h := startHosts(t, len(rows), func(i int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply {
			if counts[i].Add(1) <= int64(failing*rows[i].knock) {
				return rows[i].reply
			}
			return testinbox.Reply{}
		})
	})
	node := s.startNode(t, "--retry-base", "20ms", "--attempt-timeout", "2s")
	a := node.accept(submission{activity: like("patient"), inboxes: h.urls()})
	if got := node.settled(a); got.Delivered != len(rows) {
		t.Errorf("counts %+v, dead letters %+v", got, node.deadLetters(""))
	}
	for i, in := range h.inboxes {
		if want := failing*rows[i].knock + 1; in.Count() != want {
			t.Errorf("%+v: %d requests, want %d", rows[i].reply, in.Count(), want)
		}
		schemes(t, in.Received())
		if got := node.host(h.Host(i)); got.State != "healthy" || got.Breaker.Failures != 0 || got.FailureDays != 0 || got.LastSuccessAt.IsZero() {
			t.Errorf("%+v: host %+v", rows[i].reply, got)
		}
	}
}

// TestRetryAfterIsKept checks that the whole host waits as long as it asked, and that waiting costs no attempt.
func TestRetryAfterIsKept(t *testing.T) { onBothStores(t, testRetryAfterIsKept) }

func testRetryAfterIsKept(t *testing.T, s store) {
	const wait, backlog = 2 * time.Second, 20
	var asked atomic.Bool
	h := startHost(t, scripted(func(testinbox.Request) testinbox.Reply {
		if asked.Swap(true) {
			return testinbox.Reply{}
		}
		return testinbox.Reply{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"2"}}}
	}))
	node := s.startNode(t, "--max-attempts", "1")
	var all []acceptedView
	for i := range backlog {
		all = append(all, node.deliver(like(fmt.Sprint(i)), h.Inbox(0, "/inbox")))
	}
	for _, a := range all {
		if got := node.settled(a); got.Delivered != 1 { // its only attempt was not spent
			t.Errorf("counts %+v", got)
		}
	}
	got := h.inboxes[0].Received()
	if len(got) != backlog+1 {
		t.Fatalf("%d requests", len(got))
	}
	if gap := got[1].At.Sub(got[0].At); gap < wait {
		t.Errorf("asked to wait %s, the host got the next request after %s", wait, gap)
	}
}

func TestAttemptsAreUsedUp(t *testing.T) { onBothStores(t, testAttemptsAreUsedUp) }

func testAttemptsAreUsedUp(t *testing.T, s store) {
	h := startHosts(t, 3, func(int) testinbox.Options {
		return replies(testinbox.Reply{Status: http.StatusMovedPermanently, Header: http.Header{"Location": {"/elsewhere"}}})
	})
	node := s.startNode(t, "--retry-base", "1ms", "--max-attempts", "11")
	want := map[string]int{"high": 11, "normal": 11, "low": 9}
	for i, priority := range []string{"high", "normal", "low"} {
		a := node.deliver(like(priority), h.Inbox(i, "/inbox"), `,"priority":`, harness.JSON(priority))
		if got := node.settled(a); got.Dead != 1 {
			t.Errorf("%s: %+v", priority, got)
		}
		letters := node.deadLetters("host=" + h.Host(i))
		if len(letters) != 1 || letters[0].Reason != "exhausted" || letters[0].Attempts != want[priority] || h.inboxes[i].Count() != want[priority] {
			t.Errorf("%s: %d requests, %+v", priority, h.inboxes[i].Count(), letters)
		}
	}
}

func TestDeliveriesExpire(t *testing.T) { onBothStores(t, testDeliveriesExpire) }

func testDeliveriesExpire(t *testing.T, s store) {
	h := startHost(t, replies(testinbox.Reply{Status: http.StatusFound}))
	node := s.startNode(t, "--retry-base", "100h", "--breaker-cool-off", "100h", "--breaker-cool-off-max", "100h", "--breaker-threshold", "1")
	alive := node.deliver(like("alive"), h.Inbox(0, "/inbox"), `,"expires_in":"1s"`)
	deadHost := node.deliver(like("dead"), nobody, `,"expires_in":"1s"`)
	untried := node.deliver(like("untried"), nobody, `,"expires_in":"1500ms"`)
	stays := node.deliver(like("stays"), nobody)
	for _, a := range []acceptedView{alive, deadHost, untried} {
		if got := node.settled(a); got.Dead != 1 {
			t.Errorf("counts %+v", got)
		}
	}
	var got []string
	for _, d := range node.deadLetters("reason=expired") {
		got = append(got, fmt.Sprintf("%s %d", lastPart(d.ActivityID), d.Attempts))
	}
	slices.Sort(got)
	if len(got) != 3 || !strings.HasPrefix(got[0], "alive 1") {
		t.Errorf("expired %v", got)
	}
	if got := node.activity(stays); got.State != "pending" {
		t.Errorf("what has 72 h is %+v", got)
	}
}
