package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
	"github.com/postrider/postrider/signer"
)

const day = 24 * time.Hour

func status(code int) func(*http.Request) Answer {
	return func(*http.Request) Answer { return Answer{Status: code} }
}

func TestEverythingIsDeliveredOnce(t *testing.T) {
	pooled(t, status(202), nil, func(r *rig) {
		var hosts []string
		for i := range 40 {
			hosts = append(hosts, fmt.Sprintf("h%d.example", i))
		}
		var ids []string
		for i := range 10 {
			ids = append(ids, r.submit(fmt.Sprintf("https://app.example/%d", i), "k", queue.Normal, day, hosts...))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, id := range ids {
			if c := r.counts(id); c.Delivered != 40 || c.Pending != 0 {
				t.Errorf("counts %+v, want 40 delivered", c)
			}
		}
		for _, h := range hosts {
			var got []string
			for _, q := range r.to(h) {
				got = append(got, strings.TrimPrefix(q.body, "https://app.example/"))
			}
			if want := []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}; !slices.Equal(got, want) {
				t.Errorf("%s got %v, want %v in this order", h, got, want)
			}
		}
	})
}

// Attempts in flight count: a window of 8 and a threshold of 10 make 10 requests, not 16.
func TestNoMoreThanTheThresholdFailsBeforeTheBreakerOpens(t *testing.T) {
	var failing atomic.Bool
	pooled(t, func(req *http.Request) Answer {
		lasting(req, 50*time.Millisecond)
		if failing.Load() {
			return Answer{Status: 500}
		}
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.backlog(50, "h.example")
		time.Sleep(time.Minute)
		if got := r.peak("h.example"); got != 8 {
			t.Fatalf("the window grew to %d, want 8", got)
		}
		failing.Store(true)
		before := len(r.to("h.example"))
		for i := range 100 {
			uri := fmt.Sprintf("https://app.example/more/%d", i)
			r.submit(uri, uri, queue.Normal, 72*time.Hour, "h.example")
		}
		time.Sleep(30 * time.Second)
		if n := len(r.to("h.example")) - before; n != 10 {
			t.Errorf("%d requests failed before the breaker opened, want 10", n)
		}
		if h := r.host("h.example"); h.State != queue.HostOpen || h.RetryAt.Before(time.Now()) {
			t.Errorf("the host is %s until %v", h.State, h.RetryAt)
		}
	})
}

func TestProbesAreSingleWithGrowingGapsAndRecoveryServesEverything(t *testing.T) {
	var healed atomic.Bool
	pooled(t, func(req *http.Request) Answer {
		lasting(req, time.Second)
		if healed.Load() {
			return Answer{Status: 202}
		}
		return Answer{Status: 500}
	}, nil, func(r *rig) {
		r.backlog(30, "h.example")
		time.Sleep(6 * time.Hour)
		probes := r.to("h.example")[10:]
		var gap time.Duration
		for i := 1; i < len(probes); i++ {
			g := probes[i].at.Sub(probes[i-1].at)
			if g <= gap && gap < 55*time.Minute {
				t.Errorf("probe %d came %v after the one before, which came %v after its", i, g, gap)
			}
			gap = g
		}
		if gap < time.Hour || gap > 67*time.Minute {
			t.Errorf("the gap grew to %v, want an hour and its jitter", gap)
		}
		if got := r.peak("h.example"); got != 1 {
			t.Errorf("%d in flight at once, want 1: the host never answered well", got)
		}
		healed.Store(true)
		time.Sleep(67 * time.Minute)
		if h := r.host("h.example"); h.Pending != 0 || h.State != queue.HostHealthy {
			t.Errorf("after its cool-off the host is %s with %d pending", h.State, h.Pending)
		}
	})
}

// A lone delivery must not use up its attempts on hourly probes.
func TestEarlyProbesSpendNoAttempt(t *testing.T) {
	pooled(t, status(500), func(o *Options) { o.Breaker.Threshold = 2 }, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, "h.example")
		time.Sleep(24 * time.Hour)
		d := r.delivery(id)
		requests := len(r.to("h.example"))
		// Mastodon's curve has 14 attempts in the first day, the breaker some 28 probes.
		if d.State != queue.StatePending || d.Attempts > 14 || requests < 20 || d.Attempts >= requests {
			t.Errorf("%s after %d attempts and %d requests", d.State, d.Attempts, requests)
		}
	})
}

func TestADeadHostEndsAsExpiredOrExhausted(t *testing.T) {
	pooled(t, status(500), nil, func(r *rig) {
		expires := r.submit("https://app.example/1", "a", queue.Normal, time.Hour, "h.example")
		exhausted := r.submit("https://app.example/2", "b", queue.Low, 72*time.Hour, "low.example")
		time.Sleep(72*time.Hour + time.Minute)
		if d := r.delivery(expires); d.Reason != queue.ReasonExpired {
			t.Errorf("died as %q, want expired", d.Reason)
		}
		if d := r.delivery(exhausted); d.Reason != queue.ReasonExhausted || d.Attempts != 9 {
			t.Errorf("died as %q after %d attempts, want exhausted after 9", d.Reason, d.Attempts)
		}
	})
}

func TestRetryAfterMakesTheHostWaitAndSpendsNoAttempt(t *testing.T) {
	var calls atomic.Int32
	pooled(t, func(req *http.Request) Answer {
		if req.URL.Host == "h.example" && calls.Add(1) == 1 {
			return Answer{Status: 429, RetryAfter: "3600"}
		}
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.halt()
		r.backlog(5, "h.example")
		id := r.submit("https://app.example/x", "x", queue.High, day, "other.example")
		r.start()
		time.Sleep(59 * time.Minute)
		if n := len(r.to("h.example")); n != 1 {
			t.Errorf("%d requests while the host asked to wait, want 1", n)
		}
		if c := r.counts(id); c.Delivered != 1 {
			t.Errorf("another host had to wait too: %+v", c)
		}
		if h := r.host("h.example"); h.Record.Breaker.Failures != 0 {
			t.Errorf("throttling counted as %d failures", h.Record.Breaker.Failures)
		}
		time.Sleep(2 * time.Minute)
		if h := r.host("h.example"); h.Pending != 0 {
			t.Errorf("%d pending after the wait", h.Pending)
		}
	})
}

func TestThrottlingWithoutATimeFollowsTheSchedule(t *testing.T) {
	pooled(t, status(429), nil, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, "h.example")
		time.Sleep(time.Hour)
		n := len(r.to("h.example"))
		if d := r.delivery(id); d.Attempts != 0 || n < 5 || n > 9 {
			t.Errorf("%d attempts spent on %d requests in an hour, want none on some 8", d.Attempts, n)
		}
	})
}

func TestOrderingKeyHoldsBackOnlyItsOwn(t *testing.T) {
	var calls atomic.Int32
	pooled(t, func(req *http.Request) Answer {
		body := make([]byte, req.ContentLength)
		_, _ = req.Body.Read(body)
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.answer = func(req *http.Request) Answer {
			if strings.HasSuffix(r.to("h.example")[len(r.to("h.example"))-1].body, "create") && calls.Add(1) <= 2 {
				return Answer{Status: 500}
			}
			return Answer{Status: 202}
		}
		r.submit("https://app.example/create", "note", queue.Low, day, "h.example")
		r.submit("https://app.example/update", "note", queue.Normal, day, "h.example")
		r.submit("https://app.example/delete", "note", queue.High, day, "h.example")
		r.submit("https://app.example/else", "else", queue.Low, day, "h.example")
		time.Sleep(time.Hour)
		var got []string
		for _, q := range r.to("h.example") {
			got = append(got, strings.TrimPrefix(q.body, "https://app.example/"))
		}
		want := "create else create create update delete"
		if strings.Join(got, " ") != want {
			t.Errorf("requests %v, want %s", got, want)
		}
	})
}

// remote is a store whose answers take a second, and get lost when who asked has gone.
type remote struct{ queue.Lanes }

func (q remote) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := q.Lanes.Take(context.WithoutCancel(ctx), leases, n)
	time.Sleep(time.Second)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return turns, err
}

// TestStopInTheMiddleOfATake holds that a node that stops gives back what it was just taking, so that others need not
// wait until its lease lapses.
func TestStopInTheMiddleOfATake(t *testing.T) {
	slow := func(o *Options) { o.Queue = remote{o.Queue} }
	pooled(t, status(202), slow, func(r *rig) {
		r.submit("https://app.example/1", "a", queue.Normal, day, "h.example")
		time.Sleep(500 * time.Millisecond)
		r.halt()
		offer, err := r.store.Due(t.Context(), queue.Want{Lanes: 1, Suspect: 1})
		if err != nil || len(offer.Hosts) != 1 {
			t.Errorf("others are offered %+v, error %v", offer, err)
		}
		if n := len(r.to("h.example")); n != 0 {
			t.Errorf("%d requests after the stop", n)
		}
	})
}

func TestKeyMissingParksUntilItComesBack(t *testing.T) {
	pooled(t, status(202), nil, func(r *rig) {
		if err := r.store.DeleteKey(t.Context(), testKey); err != nil {
			t.Fatal(err)
		}
		waits := r.submit("https://app.example/1", "a", queue.Normal, 48*time.Hour, "h.example")
		dies := r.submit("https://app.example/2", "b", queue.Normal, time.Hour, "h.example")
		time.Sleep(25 * time.Hour)
		if d := r.delivery(waits); d.State != queue.StatePending || d.Attempts != 0 {
			t.Errorf("%s after %d attempts, want pending after none", d.State, d.Attempts)
		}
		if d := r.delivery(dies); d.Reason != queue.ReasonKeyMissing {
			t.Errorf("died as %q, want key_missing", d.Reason)
		}
		r.putKey()
		time.Sleep(time.Second)
		if c := r.counts(waits); c.Delivered != 1 {
			t.Errorf("the key came back, counts %+v", c)
		}
		if h := r.host("h.example"); h.Record.Breaker.Failures != 0 || len(r.to("h.example")) != 1 {
			t.Errorf("%d failures of the host, %d requests; want none and 1", h.Record.Breaker.Failures, len(r.to("h.example")))
		}
	})
}

func TestAHostThatRefusesBothSchemes(t *testing.T) {
	for _, c := range []struct {
		status   int
		state    queue.DeliveryState
		requests int
	}{
		{400, queue.StateDead, 2},
		{401, queue.StatePending, 2},
		{403, queue.StateDead, 1},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			pooled(t, status(c.status), nil, func(r *rig) {
				id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, "h.example")
				time.Sleep(time.Second)
				if d := r.delivery(id); d.State != c.state || d.Attempts != 1 {
					t.Errorf("%s after %d attempts, want %s after 1", d.State, d.Attempts, c.state)
				}
				if n := len(r.to("h.example")); n != c.requests {
					t.Errorf("%d requests, want %d", n, c.requests)
				}
				if h := r.host("h.example"); h.State != queue.HostHealthy {
					t.Errorf("the host is %s, want healthy: it is alive", h.State)
				}
			})
		})
	}
}

// slowSigner takes longer than an attempt may for all but the first scheme.
type slowSigner struct{ messageSigner }

func (s slowSigner) Sign(ctx context.Context, req *http.Request, p signer.Params) (signer.Scheme, error) {
	if p.Scheme != signer.Cavage {
		time.Sleep(time.Minute)
	}
	return s.messageSigner.Sign(ctx, req, p)
}

// If we are too slow for a second knock it is not made, and the first one's answer counts.
func TestAKnockThatComesTooLateIsNotMade(t *testing.T) {
	pooled(t, status(401), func(o *Options) { o.Signer = slowSigner{o.Signer} }, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, day, "h.example")
		time.Sleep(time.Minute + time.Second)
		if d := r.delivery(id); d.History.Last() == nil || d.History.Last().Outcome != string(OutcomeUnauthorized) {
			t.Errorf("%+v, want unauthorized", d.History.Last())
		}
		if h := r.host("h.example"); h.State != queue.HostHealthy {
			t.Errorf("the host is %s, want healthy", h.State)
		}
		if n := len(r.to("h.example")); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		status   int
		location string
		follows  string // "" if it is not followed
	}{
		{307, "/new", "https://h.example/new"},
		{308, "https://h.example:443/new?a=b%2Fc", "https://h.example/new?a=b%2Fc"},
		{308, "https://H.EXAMPLE/new", "https://h.example/new"},
		{301, "/new", ""},
		{302, "/new", ""},
		{303, "/new", ""},
		{307, "https://other.example/new", ""},
		{307, "http://h.example/new", ""},
		{307, "https://h.example:8443/new", ""},
		{307, "//127.0.0.1/new", ""},
		{307, "", ""},
		{307, "https://user@h.example/", ""},
	} {
		t.Run(fmt.Sprint(c.status, c.location), func(t *testing.T) {
			pooled(t, func(req *http.Request) Answer {
				if req.URL.Path == "/inbox" {
					return Answer{Status: c.status, Location: c.location}
				}
				return Answer{Status: 202}
			}, func(o *Options) { o.AllowHTTP = true }, func(r *rig) {
				id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, "h.example")
				time.Sleep(time.Second)
				if c.follows == "" {
					if d := r.delivery(id); d.History.Last().Outcome != string(OutcomeRedirected) || d.Attempts != 1 || len(r.all()) != 1 {
						t.Errorf("%+v after %d attempts and %d requests", d.History.Last(), d.Attempts, len(r.all()))
					}
					return
				}
				if c := r.counts(id); c.Delivered != 1 {
					t.Fatalf("counts %+v", c)
				}
				if got := r.all()[len(r.all())-1].url; len(r.all()) != 2 || got != c.follows {
					t.Errorf("%d requests, the last to %s, want 2 and %s", len(r.all()), got, c.follows)
				}
			})
		})
	}
}

func TestARedirectLoopEndsAfterOneStep(t *testing.T) {
	pooled(t, func(*http.Request) Answer { return Answer{Status: 307, Location: "/again"} }, nil, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, "h.example")
		time.Sleep(time.Second)
		if d := r.delivery(id); len(r.all()) != 2 || d.History.Last().Outcome != string(OutcomeRedirected) {
			t.Errorf("%d requests, outcome %s; want 2, redirected", len(r.all()), d.History.Last().Outcome)
		}
	})
}

// Hosts that hang fill their half of the slots and no more; those known to be well are served meanwhile.
func TestHangingHostsLeaveHalfOfTheSlots(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		if strings.HasPrefix(req.URL.Host, "hang") {
			lasting(req, time.Hour)
			return Answer{Err: errors.New("time-out"), TimedOut: true}
		}
		return Answer{Status: 202}
	}, func(o *Options) { o.Concurrency = 8 }, func(r *rig) {
		r.backlog(1, "well.example")
		time.Sleep(time.Second)
		for i := range 20 {
			r.backlog(1, fmt.Sprintf("hang%d.example", i))
		}
		time.Sleep(time.Second)
		hanging := 0
		for i := range 20 {
			hanging += len(r.to(fmt.Sprintf("hang%d.example", i)))
		}
		if hanging != 4 {
			t.Errorf("%d of 8 slots are held by hosts never reached, want 4", hanging)
		}
		id := r.submit("https://app.example/x", "x", queue.Normal, day, "well.example")
		time.Sleep(time.Second)
		if c := r.counts(id); c.Delivered != 1 {
			t.Errorf("a healthy host had to wait: %+v", c)
		}
	})
}

func TestShutdownHandsBackWhatIsInFlightUnspent(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		if !lasting(req, time.Hour) {
			return Answer{Err: req.Context().Err()}
		}
		return Answer{Status: 202}
	}, func(o *Options) { o.AttemptTimeout = 2 * time.Hour }, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, "h.example")
		time.Sleep(time.Second)
		began := time.Now()
		r.halt()
		if took := time.Since(began); took != 25*time.Second {
			t.Errorf("stopping took %v, want the shutdown time-out", took)
		}
		if d := r.delivery(id); d.Attempts != 0 || d.History.Last() != nil {
			t.Errorf("%d attempts spent, last %+v; want none", d.Attempts, d.History.Last())
		}
		if h := r.host("h.example"); h.Record.Breaker.Failures != 0 || h.InFlight != 0 {
			t.Errorf("%d failures, %d in flight; want none", h.Record.Breaker.Failures, h.InFlight)
		}
		r.answer = status(202)
		r.start()
		time.Sleep(time.Second)
		if c := r.counts(id); c.Delivered != 1 {
			t.Errorf("after the restart: %+v", c)
		}
	})
}

func TestShutdownLetsAttemptsFinish(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		lasting(req, 10*time.Second)
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.halt()
		r.backlog(20, "h.example")
		r.start()
		time.Sleep(time.Second)
		r.halt()
		if n := len(r.to("h.example")); n != 1 || r.host("h.example").Pending != 19 {
			t.Errorf("%d requests, %d pending; want 1 and 19", n, r.host("h.example").Pending)
		}
	})
}

// A failed attempt is never lost to a restart: an open breaker stays open.
func TestARestartKeepsAnOpenBreaker(t *testing.T) {
	pooled(t, status(500), nil, func(r *rig) {
		r.backlog(20, "h.example")
		time.Sleep(10 * time.Second)
		r.halt()
		r.start()
		time.Sleep(40 * time.Second)
		if n := len(r.to("h.example")); n != 10 {
			t.Errorf("%d requests, want 10: the breaker is open", n)
		}
		if h := r.host("h.example"); h.Record.Breaker.State != breaker.Open {
			t.Errorf("the breaker is %v", h.Record.Breaker.State)
		}
	})
}

func TestPrivateAddressDiesAtOnceWithoutBlame(t *testing.T) {
	pooled(t, func(*http.Request) Answer { return Answer{Err: fmt.Errorf("dial: %w", netguard.ErrPrivate)} }, nil, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, "h.example")
		time.Sleep(time.Second)
		if d := r.delivery(id); d.Reason != queue.ReasonPrivateAddress {
			t.Errorf("died as %q, want private_address", d.Reason)
		}
		if h := r.host("h.example"); h.Record.Breaker.Failures != 0 {
			t.Errorf("%d failures of the host, want none", h.Record.Breaker.Failures)
		}
	})
}

// A tarpit answers well but holds its slots: its window must not grow.
func TestASlowAnswerHalvesTheWindow(t *testing.T) {
	var slow atomic.Bool
	pooled(t, func(req *http.Request) Answer {
		if slow.Load() {
			lasting(req, time.Hour)
			return Answer{Status: 202, TimedOut: true}
		}
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.backlog(20, "h.example")
		time.Sleep(time.Second)
		slow.Store(true)
		for i := range 20 {
			uri := fmt.Sprintf("https://app.example/slow/%d", i)
			r.submit(uri, uri, queue.Normal, day, "h.example")
		}
		time.Sleep(40 * time.Second)
		if w := r.host("h.example").Record.Breaker.Window; w != 1 {
			t.Errorf("the window is %d after eight slow answers, want 1", w)
		}
	})
}

// An attempt that hangs must not hold back what comes in meanwhile and has room.
func TestASlowAttemptHoldsBackNothingElse(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		if req.ContentLength == int64(len("https://app.example/slow")) {
			lasting(req, 20*time.Second)
		}
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.backlog(10, "h.example")
		time.Sleep(time.Second)
		r.submit("https://app.example/slow", "slow", queue.Normal, day, "h.example")
		time.Sleep(time.Second)
		id := r.submit("https://app.example/another", "another", queue.Normal, day, "h.example")
		time.Sleep(3 * time.Second)
		if c := r.counts(id); c.Delivered != 1 {
			t.Errorf("after three seconds beside a slow attempt: %+v", c)
		}
	})
}

// Of two waits that a host asks for, the longer counts.
func TestTheLongerRetryAfterCounts(t *testing.T) {
	var calls atomic.Int32
	pooled(t, func(req *http.Request) Answer {
		switch n := calls.Add(1); {
		case n <= 10:
			lasting(req, 50*time.Millisecond)
			return Answer{Status: 202}
		case n == 11:
			return Answer{Status: 429, RetryAfter: "3600"}
		}
		lasting(req, time.Second)
		return Answer{Status: 429, RetryAfter: "1"}
	}, nil, func(r *rig) {
		r.halt()
		r.backlog(100, "h.example")
		r.start()
		time.Sleep(time.Minute)
		before := calls.Load()
		time.Sleep(58 * time.Minute)
		if n := calls.Load() - before; n != 0 {
			t.Errorf("%d requests in the hour that the host asked for", n)
		}
	})
}

// The schedule of throttling starts again once the host has answered.
func TestAnAnswerEndsThrottling(t *testing.T) {
	var calls atomic.Int32
	pooled(t, func(*http.Request) Answer {
		if n := calls.Add(1); n <= 8 && n != 7 { // six times, an answer, and once more
			return Answer{Status: 429}
		}
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.backlog(2, "h.example")
		time.Sleep(2 * time.Hour)
		rs := r.to("h.example")
		if len(rs) != 9 {
			t.Fatalf("%d requests, want 9", len(rs))
		}
		if gap := rs[8].at.Sub(rs[7].at); gap > 24*time.Second {
			t.Errorf("after an answer the first throttling waited %v, want 15 s and up to half more", gap)
		}
	})
}

// The answer to the second scheme counts only if it shows that this scheme works.
func TestAFailedSecondKnockCountsAsTheFirst(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		if signer.Scheme(req.Header.Get("Test-Scheme")) == signer.RFC9421 {
			return Answer{Status: 500}
		}
		return Answer{Status: 401}
	}, nil, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, day, "h.example")
		time.Sleep(time.Second)
		if d := r.delivery(id); d.History.Last().Outcome != string(OutcomeUnauthorized) || d.History.Last().Status != 401 {
			t.Errorf("%+v, want unauthorized", d.History.Last())
		}
		if h := r.host("h.example"); h.State != queue.HostHealthy {
			t.Errorf("the host is %s, want healthy", h.State)
		}
	})
}

// An outage of the store is waited out: nothing is counted against a host, nothing made twice, nothing lost.
func TestAnOutageOfTheStore(t *testing.T) {
	for _, method := range []string{"Due", "Take", "Settle", "Sweep"} {
		t.Run(method, func(t *testing.T) {
			var faults *queuetest.Faults
			var log strings.Builder
			pooled(t, func(req *http.Request) Answer {
				lasting(req, time.Second)
				return Answer{Status: 202}
			}, func(o *Options) {
				faults = queuetest.Faulty(o.Queue.(queue.Queue))
				o.Queue = faults
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
			}, func(r *rig) {
				faults.Fail(method, errors.New("the store is away"))
				ids := []string{r.submit("https://app.example/1", "a", queue.Normal, day, "h.example")}
				time.Sleep(30 * time.Second)
				if err := r.pool.Ready(t.Context()); (err == nil) != (method == "Sweep") {
					t.Errorf("during the outage the pool's readiness is %v", err)
				}
				faults.Clear()
				ids = append(ids, r.submit("https://app.example/2", "b", queue.Normal, day, "h.example"))
				time.Sleep(time.Minute)
				if err := r.pool.Ready(t.Context()); err != nil {
					t.Errorf("after the outage the pool is not ready: %v", err)
				}
				if n := strings.Count(log.String(), "store."); n != 2 && method != "Sweep" {
					t.Errorf("the log has %d lines about the outage and its end:\n%s", n, &log)
				}
				for _, id := range ids {
					if c := r.counts(id); c.Delivered != 1 {
						t.Errorf("%+v, want delivered", c)
					}
				}
				if h := r.host("h.example"); len(r.to("h.example")) != 2 || h.Record.Breaker.Failures != 0 {
					t.Errorf("%d requests and %d failures, want 2 and none", len(r.to("h.example")), h.Record.Breaker.Failures)
				}
			})
		})
	}
}

// A settlement that was carried out although its answer got lost is repeated without harm.
func TestALostAnswerOfTheStore(t *testing.T) {
	var faults *queuetest.Faults
	var calls atomic.Int32
	pooled(t, func(*http.Request) Answer {
		if calls.Add(1) == 1 {
			return Answer{Status: 500}
		}
		return Answer{Status: 202}
	}, func(o *Options) {
		faults = queuetest.Faulty(o.Queue.(queue.Queue))
		o.Queue = faults
	}, func(r *rig) {
		faults.Lose("Settle", errors.New("no answer"))
		id := r.submit("https://app.example/1", "a", queue.Normal, day, "h.example")
		time.Sleep(3 * time.Second)
		faults.Clear()
		time.Sleep(3 * time.Second)
		if d := r.delivery(id); d.Attempts != 1 {
			t.Errorf("%d attempts were counted, want 1", d.Attempts)
		}
		time.Sleep(time.Minute)
		if c := r.counts(id); c.Delivered != 1 || calls.Load() != 2 {
			t.Errorf("%+v after %d requests, want delivered after 2", c, calls.Load())
		}
	})
}

// repeating offers each lane twice.
type repeating struct{ queue.Lanes }

func (q repeating) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	want.Lanes /= 2
	o, err := q.Lanes.Due(ctx, want)
	o.Hosts = append(o.Hosts, o.Hosts...)
	o.Suspects = append(o.Suspects, o.Suspects...)
	return o, err
}

// A lane that is offered twice gets one turn, and costs no slot for good.
func TestALaneOfferedTwice(t *testing.T) {
	t.Parallel()
	pooled(t, func(*http.Request) Answer { return Answer{Status: 202} }, func(o *Options) {
		o.Queue = repeating{o.Queue}
	}, func(r *rig) {
		id := r.submit("https://app.example/1", "1", queue.Normal, day, numbered("host", 10)...)
		time.Sleep(time.Hour)
		if c := r.counts(id); c.Delivered != 10 {
			t.Errorf("%+v, want 10 delivered", c)
		}
		if used, suspects := r.pool.slots.inUse(); used != 0 || suspects != 0 {
			t.Errorf("%d slots are in use, %d of them by suspects", used, suspects)
		}
	})
}
