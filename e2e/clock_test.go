package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// TestClocksApart checks that a node whose clock is wrong by more than a day waits, retries, expires and leases as any
// other: nodes use only Redis's clock for shared state. Here that clock is wrong, since only the
// difference matters.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	const behind, ahead = 26 * time.Hour, -26 * time.Hour
	for _, c := range []struct {
		name  string
		redis time.Duration // how far its clock is ahead of the nodes'
		test  func(*testing.T, store)
	}{
		{"Retry-After, behind", behind, testRetryAfterIsKept},
		{"Retry-After, ahead", ahead, testRetryAfterIsKept},
		{"expiry, behind", behind, testDeliveriesExpire},
		{"expiry, ahead", ahead, testDeliveriesExpire},
		{"breaker, ahead", ahead, testProbesGrowRareAndHeal},
		{"missing key, behind", behind, testMissingKeyParks},
		{"repeated calls, ahead", ahead, testRepeatedCallsSendNothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, onRedis(testredis.StartAhead(t, c.redis).URL()))
		})
	}
}

// TestClockOfRedisJumps checks that retries are made in time though Redis's clock is set back by days, and
// that nothing expires as it is set ahead.
func TestClockOfRedisJumps(t *testing.T) {
	t.Parallel()
	server := testredis.StartAhead(t, 0)
	var status atomic.Int64
	status.Store(http.StatusInternalServerError)
	h := startHost(t, scripted(func(testinbox.Request) testinbox.Reply { return testinbox.Reply{Status: int(status.Load())} }))
	node := onRedis(server.URL()).startNode(t, "--retry-base", "2s", "--breaker-threshold", "100")
	a := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	stays := node.deliver(like("stays"), nobody)
	for _, by := range []time.Duration{-100 * time.Hour, 200 * time.Hour} {
		before := len(h.inboxes[0].Received())
		harness.Eventually(t, "an attempt", func() bool { return len(h.inboxes[0].Received()) > before })
		server.Jump(by)
	}
	status.Store(http.StatusAccepted)
	if got := node.settled(a); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
	if got := node.settled(node.deliver(like("2"), nobody, `,"expires_in":"1s"`)); got.Dead != 1 {
		t.Errorf("what expires has %+v", got)
	}
	if got := node.activity(stays); got.State != "pending" {
		t.Errorf("what has 72 h is %+v", got)
	}
}
