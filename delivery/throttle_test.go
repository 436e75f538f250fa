package delivery

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
)

// A host that always asks for a second gets at most 21 requests in three days, not 259,000, and they cost no attempt.
func TestAHostThatThrottlesOnAndOnIsAskedLessAndLess(t *testing.T) {
	for _, code := range []int{429, 503} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			pooled(t, func(*http.Request) Answer { return Answer{Status: code, RetryAfter: "1"} }, nil, func(r *rig) {
				id := r.submit("https://app.example/1", "k", queue.Normal, 96*time.Hour, oneHost)
				time.Sleep(72 * time.Hour)
				rs := r.to(oneHost)
				if len(rs) < 10 || len(rs) > 21 {
					t.Errorf("%d requests in three days, want 10 to 21", len(rs))
				}
				if first := rs[1].at.Sub(rs[0].at); first > 2*time.Second {
					t.Errorf("the first time it waited %s, the host asked for a second", first)
				}
				for i := 1; i < len(rs); i++ {
					if gap := rs[i].at.Sub(rs[i-1].at); gap > maxRetryAfter+time.Minute {
						t.Errorf("request %d came %s after the one before", i, gap)
					}
				}
				if d := r.delivery(id); d.State != queue.StatePending || d.Attempts != 0 {
					t.Errorf("the delivery is %s after %d attempts", d.State, d.Attempts)
				}
				if h := r.host(oneHost); h.State != queue.HostThrottled {
					t.Errorf("the host is %s while it waits", h.State)
				}
			})
		})
	}
}

// A host that stops throttling is served within twice the time that it throttled, however much pends.
func TestAHostThatStopsThrottlingIsServedSoon(t *testing.T) {
	for _, throttled := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour} {
		t.Run(throttled.String(), func(t *testing.T) {
			t.Parallel()
			var healed atomic.Bool
			pooled(t, func(*http.Request) Answer {
				if healed.Load() {
					return Answer{Status: 202}
				}
				return Answer{Status: 429, RetryAfter: "1"}
			}, nil, func(r *rig) {
				r.backlog(30, oneHost)
				time.Sleep(throttled)
				healed.Store(true)
				time.Sleep(2 * throttled)
				if h := r.host(oneHost); h.Pending != 0 || h.Record.Throttles != 0 || h.State != queue.HostHealthy {
					t.Errorf("%s with %d pending and %d throttles", h.State, h.Pending, h.Record.Throttles)
				}
			})
		})
	}
}

// A host that has a limit and takes what is within it is not slowed beyond what it asks, in whichever order it answers.
func TestAHostThatKeepsItsLimitWaitsAsItAsks(t *testing.T) {
	for _, first := range []bool{false, true} { // of two in flight the first is refused, or the second
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			t.Parallel()
			var served atomic.Int64
			var second atomic.Int64 // the last one in which something was taken
			pooled(t, func(req *http.Request) Answer {
				now := time.Now().Unix()
				taken := second.Swap(now) != now
				if taken == first {
					lasting(req, 10*time.Millisecond)
				}
				if taken {
					served.Add(1)
					return Answer{Status: 202}
				}
				return Answer{Status: 429, RetryAfter: "1"}
			}, nil, func(r *rig) {
				r.backlog(200, oneHost)
				time.Sleep(10 * time.Minute)
				if served.Load() != 200 {
					t.Errorf("%d of 200 served in ten minutes by a host that takes one a second", served.Load())
				}
			})
		})
	}
}

// A host that answers only 503 for days becomes unavailable, though it asks for patience each time. One that answers
// 429 works, and is not.
func TestOverloadForDaysIsFailure(t *testing.T) {
	for code, want := range map[int]queue.HostState{503: queue.HostUnavailable, 429: queue.HostThrottled} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			pooled(t, func(*http.Request) Answer { return Answer{Status: code, RetryAfter: "3600"} }, rarely, func(r *rig) {
				r.stream(oneHost, 6)
				if h := r.host(oneHost); h.State != queue.HostThrottled || h.Record.Breaker.Failures != 0 {
					t.Errorf("after six days the host is %s with %d failures", h.State, h.Record.Breaker.Failures)
				}
				r.stream(oneHost, 3)
				if h := r.host(oneHost); h.State != want {
					t.Errorf("after nine days the host is %s, want %s", h.State, want)
				}
				before := len(r.to(oneHost))
				r.stream(oneHost, 5)
				if n := len(r.to(oneHost)) - before; code == 503 && (n < 4 || n > 6) {
					t.Errorf("unavailable, it got %d requests in five days, want one a day", n)
				}
				r.answers(status(202))
				time.Sleep(26 * time.Hour)
				synctest.Wait()
				if h := r.host(oneHost); h.State != queue.HostHealthy {
					t.Errorf("after it took something the host is %s", h.State)
				}
			})
		})
	}
}
