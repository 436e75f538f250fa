package main

import (
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
)

// TestClocksApart holds that a node whose clock is wrong by more than a day waits, retries, expires and leases as any
// other: what nodes share goes by Redis's clock alone. It is that clock which is wrong here, as only the difference can
// be told.
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
